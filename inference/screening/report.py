"""What screening did over a time, out of its journal: a table, JSON, a page to look at, and files for a regulator."""

import csv
import html
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from inference.errors import ConfigError
from inference.screening.chain import Line

GROUPS: dict[str, tuple[str, ...]] = {
    "intercepted": ("challenge", "reject"),
    "alerted": ("prompt", "reminder", "guardian"),
    "protected": ("shield",),
}
"""What an operator reports: calls stopped, subscribers warned, subscribers shielded from call bombing."""

COLUMNS = (
    "number", "at", "what", "call_id", "caller", "callee", "trunk", "reasons", "category", "sip_code", "risk",
    "rules_version", "lists", "lists_version", "digest",
)  # fmt: skip
BAR_WIDTH, BAR_HEIGHT = 460, 18


@dataclass(slots=True)
class Report:
    """Figures of a time.

    Attributes:
        since_s, until_s: of it, seconds since the epoch.
        totals: per group of :data:`GROUPS`, and per kind of event.
        by_reason, by_category, by_day: events counted; a day is one of UTC.
        num_lines: lines read.
        broken_at: first line of the whole journal that was altered; None where it is whole.
    """

    since_s: float
    until_s: float
    totals: Counter[str] = field(default_factory=Counter)
    by_reason: Counter[str] = field(default_factory=Counter)
    by_category: Counter[str] = field(default_factory=Counter)
    by_day: dict[str, Counter[str]] = field(default_factory=dict)
    num_lines: int = 0
    broken_at: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As it is printed with ``--json``."""
        return {
            "from": _date(self.since_s),
            "to": _date(self.until_s),
            "lines": self.num_lines,
            "journal_broken_at": self.broken_at,
            **{group: self.totals[group] for group in GROUPS},
            "events": {what: count for what, count in sorted(self.totals.items()) if what not in GROUPS},
            "by_reason": dict(self.by_reason.most_common()),
            "by_category": dict(self.by_category.most_common()),
            "by_day": {day: dict(counted) for day, counted in sorted(self.by_day.items())},
        }


def make_report(lines: Iterable[Line], since_s: float, until_s: float, broken_at: int | None) -> Report:
    """Count the lines of a time."""
    report = Report(since_s, until_s, broken_at=broken_at)
    for line in lines:
        body = line.values()
        report.num_lines += 1
        report.totals[line.what] += 1
        group = next((name for name, kinds in GROUPS.items() if line.what in kinds), None)
        if group is not None:
            report.totals[group] += 1
            report.by_day.setdefault(_date(line.at_s), Counter())[group] += 1
        # Decisions have reasons, the weightiest first; what else is noted (shields, reminders, feedback) has one.
        for reason in (body.get("reasons") or [body.get("reason")])[:1]:
            if reason:
                report.by_reason[str(reason)] += 1
        if body.get("category"):
            report.by_category[str(body["category"])] += 1
    return report


def to_html(report: Report) -> str:
    """One page, nothing fetched from anywhere; every text in it is escaped."""
    figures = report.to_json()
    cards = "".join(f"<div><b>{figures[group]:,}</b>{group}</div>" for group in GROUPS)
    charts = "".join(
        f"<h2>{title}</h2>{_bars(values)}"
        for title, values in (
            ("By day: intercepted", {d: c["intercepted"] for d, c in sorted(report.by_day.items())}),
            ("By reason", dict(report.by_reason.most_common(20))),
            ("By category", dict(report.by_category.most_common(20))),
        )
        if values
    )
    whole = "whole" if report.broken_at is None else f"altered at line {report.broken_at}"
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Screening report</title>
<style>body{{font:15px system-ui;margin:2rem auto;max-width:46rem;color:#222}}h2{{font-size:1rem;margin:2rem 0 .5rem}}
.cards{{display:flex;gap:1rem}}.cards div{{background:#f2f4f7;border-radius:8px;padding:1rem;flex:1}}
.cards b{{display:block;font-size:1.8rem}}text{{font:12px system-ui}}rect{{fill:#3867a6}}</style>
<h1>Screening, {figures["from"]} to {figures["to"]}</h1><div class="cards">{cards}</div>{charts}
<p>{report.num_lines:,} lines of the journal, which is {whole}.</p></html>
"""


def _bars(values: dict[str, int]) -> str:
    most = max(values.values(), default=0) or 1
    rows = []
    for row, (name, value) in enumerate(values.items()):
        y, width = row * (BAR_HEIGHT + 6), max(1, round(BAR_WIDTH * value / most))
        rows.append(
            f'<text x="0" y="{y + 13}">{html.escape(name)}</text>'
            f'<rect x="190" y="{y}" width="{width}" height="{BAR_HEIGHT}"/>'
            f'<text x="{196 + width}" y="{y + 13}">{value:,}</text>'
        )
    height = len(values) * (BAR_HEIGHT + 6)
    return f'<svg role="img" width="720" height="{height}">{"".join(rows)}</svg>'


def export_csv(path: Path, lines: Iterable[Line]) -> int:
    """Write lines as CSV, one event a row, :data:`COLUMNS`; returns how many.

    Raises:
        ConfigError: it cannot be written.
    """
    count = 0
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for line in lines:
                writer.writerow([_cell(value) for value in _row(line)])
                count += 1
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); give another file") from error
    return count


def export_parquet(path: Path, lines: Iterable[Line]) -> int:
    """Write lines as Parquet; returns how many.

    Raises:
        ConfigError: polars is not installed, or the file cannot be written.
    """
    try:
        import polars
    except ImportError as error:
        raise ConfigError("Parquet needs polars: pip install 'scamtap[reports]'") from error
    rows = [dict(zip(COLUMNS, map(str, _row(line)), strict=True)) for line in lines]
    try:
        polars.DataFrame(rows, schema=dict.fromkeys(COLUMNS, polars.Utf8)).write_parquet(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); give another file") from error
    return len(rows)


def sign(path: Path, key_path: Path) -> Path:
    """Write ``<path>.sig``: an Ed25519 signature (RFC 8032) over the file, with its public key, as JSON.

    Raises:
        ConfigError: the key cannot be read, or is none of Ed25519.
    """
    try:
        key = load_pem_private_key(key_path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{key_path}: is no PEM key; make one: openssl genpkey -algorithm ed25519") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{key_path}: is not of Ed25519; make one: openssl genpkey -algorithm ed25519")
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    body = {"file": path.name, "ed25519": key.sign(path.read_bytes()).hex(), "public_key": public.hex()}
    signature = path.with_name(path.name + ".sig")
    signature.write_text(json.dumps(body) + "\n", encoding="utf-8")
    return signature


def _row(line: Line) -> list[Any]:
    body = line.values()
    at = datetime.fromtimestamp(line.at_s, UTC).isoformat(timespec="milliseconds")
    known = {"number": line.number, "at": at, "what": line.what, "digest": line.digest}
    known["reasons"] = "|".join(map(str, body.get("reasons") or filter(None, [body.get("reason")])))
    known["lists"] = "|".join(map(str, body.get("lists", [])))
    return [known.get(name, body.get(name, "")) for name in COLUMNS]


def _cell(value: Any) -> Any:
    """A spreadsheet must not run what a caller wrote into a field."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _date(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).date().isoformat()

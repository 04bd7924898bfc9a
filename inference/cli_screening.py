"""``scamtap screen`` and ``scamtap report``: one decision, and what was done over a time, from the command line."""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from inference.errors import ConfigError

if TYPE_CHECKING:
    from inference.screening.config import ScreeningConfig

# Plans, certificates and stores are imported by the commands that need them: `scamtap --help` answers at once.

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Settings, as of scamtap serve.", show_default="none")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings(config: Path | None) -> "ScreeningConfig":
    """The screening part of the settings.

    Raises:
        ConfigError: as for the whole file.
    """
    from inference.config import load_settings

    return load_settings(config).screening


def screen(
    caller: Annotated[str, typer.Argument(help="Number as signalled, e.g. +8613800138000; '' where withheld.")],
    callee: Annotated[str, typer.Option(help="The subscriber's number.")],
    trunk: Annotated[str | None, typer.Option(help="own, national or international.", show_default="unknown")] = None,
    identity: Annotated[str | None, typer.Option(help="SIP Identity header.", show_default="none")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide one call attempt, as a switch would ask: allow, prompt, challenge or reject, and why. It is counted.

    A caller may signal anything, so a caller that is no number is decided like one on the wire. The callee is yours.
    """
    from inference.screening.attempt import CallAttempt, Decision
    from inference.screening.config import open_screening
    from inference.screening.numbers import parse_dialled, parse_number

    if trunk not in (None, "own", "national", "international"):
        raise ConfigError(f"--trunk {trunk}: want own, national or international")
    if not callee or len(callee) > 256 or len(caller) > 256:
        raise ConfigError("caller and --callee are numbers, of 256 characters at most")
    chosen = settings(config)
    if parse_dialled(callee, chosen.rules.region).kind in ("malformed", "withheld"):
        raise ConfigError(f"--callee {callee}: no telephone number; want e.g. +442079460000, or as dialled at home")
    if parse_number(caller, chosen.rules.region).kind == "malformed":
        stderr.print("the caller is no telephone number: decided as if a call had signalled this", markup=False)
    attempt = CallAttempt(call_id="screen", caller=caller, callee=callee, trunk=trunk, identity=identity)

    async def decide() -> Decision:
        async with AsyncExitStack() as stack:
            return await open_screening(chosen, stack).screener.decide(attempt)

    decision = asyncio.run(decide())
    if as_json:
        stdout.print(json.dumps(decision.to_json(), ensure_ascii=False), markup=False)
        return
    label = f", shown: {decision.label.text}" if decision.label is not None else ""
    risk = "" if decision.risk is None else f", risk {decision.risk:.2f}"
    stdout.print(f"{decision.action}: {', '.join(decision.reasons)}{risk}{label}", markup=False)


def report(
    since: Annotated[str, typer.Option("--from", help="First day, e.g. 2026-11-01 (UTC).")],
    until: Annotated[str, typer.Option("--to", help="Day after the last one.")],
    html: Annotated[Path | None, typer.Option(help="Write a page with plots here.", show_default="none")] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Write every event here, .csv or .parquet, for a regulator.", show_default="none"),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Ed25519 key (PEM) that signs the export.", show_default="unsigned")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """What screening intercepted, warned of and protected from over a time, out of its journal."""
    from inference.screening import report as reports
    from inference.screening.chain import ChainedLog

    chosen, since_s, until_s = settings(config), _day(since, "--from"), _day(until, "--to")
    if since_s >= until_s:
        raise ConfigError(f"--to {until}: want a day after --from {since}")
    if chosen.journal.path is None:
        raise ConfigError("there is no journal: set screening.journal.path in the settings, and give --config")
    if not chosen.journal.path.is_file():
        raise ConfigError(f"{chosen.journal.path}: no such journal yet: it begins with the first call that is screened")
    log = ChainedLog(chosen.journal.path, "journal")
    made = reports.make_report(log.lines(since_s, until_s), since_s, until_s, log.verify())
    if html is not None:
        try:
            html.write_text(reports.to_html(made), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{html}: cannot be written ({error.strerror}); give another file") from error
    if export is not None:
        write = {".csv": reports.export_csv, ".parquet": reports.export_parquet}.get(export.suffix)
        if write is None:
            raise ConfigError(f"--export {export}: want a name that ends in .csv or .parquet")
        write(export, log.lines(since_s, until_s))
        if key is not None:
            reports.sign(export, key)
    log.close()
    _print_report(made.to_json(), as_json)


def _print_report(figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        stdout.print(json.dumps(figures, ensure_ascii=False), markup=False)
        return
    table = Table("", "events")
    for name in ("intercepted", "alerted", "protected"):
        table.add_row(name, str(figures[name]), end_section=name == "protected")
    for part in ("by_reason", "by_category"):
        for name, count in figures[part].items():
            table.add_row(name, str(count))
    stdout.print(table)
    broken = figures["journal_broken_at"]
    stdout.print("the journal is whole" if broken is None else f"the journal was altered at line {broken}")


def _day(text: str, option: str) -> float:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise ConfigError(f"{option} {text}: want a day, e.g. 2026-11-01") from error

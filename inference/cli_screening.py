"""``scamtap screen``, ``scamtap lists`` and ``scamtap simulate``: screening from the command line."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from inference.errors import ConfigError

if TYPE_CHECKING:
    from inference.screening.config import ScreeningConfig
    from inference.screening.entries import EntryBook
    from inference.screening.lists import ListEntry
    from inference.screening.rehearse_day import Confusion
    from inference.screening.traffic import TrafficCall

# Plans, certificates and stores are imported by the commands that need them: `scamtap --help` answers at once.

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Settings, as of scamtap serve.", show_default="none")
]
WhoOption = Annotated[str, typer.Option(help="Who decides: your name or desk; kept in the log.")]
WhyOption = Annotated[str, typer.Option(help="On what ground; kept in the log.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

lists = typer.Typer(no_args_is_help=True, help="Lists of numbers: allow, deny, do_not_originate, business.")
simulate = typer.Typer(no_args_is_help=True, help="Simulated traffic, to rehearse screening. No operator's records.")


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
    """Decide one call attempt, as a switch would ask: allow, prompt, challenge or reject, and why. It is counted."""
    from inference.screening.attempt import CallAttempt, Decision
    from inference.screening.config import open_screening

    if trunk not in (None, "own", "national", "international"):
        raise ConfigError(f"--trunk {trunk}: want own, national or international")
    if not callee or len(callee) > 256 or len(caller) > 256:
        raise ConfigError("caller and --callee are numbers, of 256 characters at most")
    attempt = CallAttempt(call_id="screen", caller=caller, callee=callee, trunk=trunk, identity=identity)

    async def decide() -> Decision:
        async with AsyncExitStack() as stack:
            return await open_screening(settings(config), stack).screener.decide(attempt)

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


def _book(config: "ScreeningConfig") -> "EntryBook":
    from inference.screening.entries import EntryBook

    if config.path is None:
        raise ConfigError("list entries need a file to stay in: set screening.path in the settings, and give --config")
    return EntryBook(config.path.with_suffix(".entries"))


def _entry(config: "ScreeningConfig", kind: str, number: str, who: str, why: str, **more: Any) -> "ListEntry":
    from inference.screening.lists import ListEntry, ListKind
    from inference.screening.numbers import parse_number

    if kind not in get_args(ListKind):
        raise ConfigError(f"{kind}: no such list; there are {', '.join(get_args(ListKind))}")
    is_prefix = number.endswith("*")
    parsed = parse_number(number.rstrip("*"), config.rules.region)
    digits = number.rstrip("*").lstrip("+") if is_prefix else parsed.key
    if digits is None or not digits.isdecimal() or len(digits) > 15:
        raise ConfigError(f"{number}: is no number; give +8613800138000, or 86138* for all that begin so")
    for name, text, most in (("--who", who, 200), ("--why", why, 500)):
        if not 0 < len(text) <= most:
            raise ConfigError(f"{name}: want 1 to {most} characters: it is kept in the log")
    if len(more.get("category", "")) > 64:
        raise ConfigError("--category: want at most 64 characters")
    return ListEntry(kind=kind, number=digits, is_prefix=is_prefix, who=who, why=why, **more)


def _named(entry: "ListEntry") -> str:
    return f"{entry.kind}: {entry.number}{'*' * entry.is_prefix}"


@lists.command()
def add(
    kind: Annotated[str, typer.Argument(help="allow, deny, do_not_originate or business.")],
    number: Annotated[str, typer.Argument(help="Number, or a prefix with * at its end.")],
    who: WhoOption,
    why: WhyOption,
    category: Annotated[str, typer.Option(help="What for, e.g. parcel; shown in labels.")] = "other",
    days: Annotated[float | None, typer.Option(min=0.01, help="For how long.", show_default="for good")] = None,
    config: ConfigOption = None,
) -> None:
    """Put a number on a list. Who, when and why are kept for ever in a chained log."""
    import time

    chosen = settings(config)
    expires_s = None if days is None else time.time() + days * 86_400
    changed = _book(chosen).add(_entry(chosen, kind, number, who, why, category=category, expires_s=expires_s))
    stdout.print(f"{_named(changed.entry)} added, line {changed.number}")


@lists.command()
def remove(
    kind: Annotated[str, typer.Argument(help="Of which list.")],
    number: Annotated[str, typer.Argument(help="Number, or prefix with *.")],
    who: WhoOption,
    why: WhyOption,
    config: ConfigOption = None,
) -> None:
    """Take a number off a list; the log keeps that it was there."""
    chosen = settings(config)
    changed = _book(chosen).remove(_entry(chosen, kind, number, who, why), who=who, why=why)
    stdout.print(f"{_named(changed.entry)} removed, line {changed.number}")


@lists.command()
def appeal(
    kind: Annotated[str, typer.Argument(help="Of which list.")],
    number: Annotated[str, typer.Argument(help="Number, or prefix with *.")],
    state: Annotated[str, typer.Argument(help="open (the owner asks), grant or refuse (somebody decides).")],
    who: WhoOption,
    why: WhyOption,
    config: ConfigOption = None,
) -> None:
    """A number's owner appeals, or the appeal is decided; a granted one switches the entry off."""
    what = {"open": "appealed", "grant": "appeal_granted", "refuse": "appeal_refused"}.get(state)
    if what is None:
        raise ConfigError(f"{state}: want open, grant or refuse")
    chosen = settings(config)
    changed = _book(chosen).appeal(_entry(chosen, kind, number, who, why), what, who=who, why=why)  # type: ignore[arg-type]
    stdout.print(f"{_named(changed.entry)} {changed.what}, line {changed.number}")


@lists.command()
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """What is on the lists now; and whether the log behind it is whole."""
    book = _book(settings(config))
    broken = book.verify()
    if as_json:
        body = {"broken_at": broken, "entries": [entry.model_dump() for entry in book.entries()]}
        stdout.print(json.dumps(body, ensure_ascii=False), markup=False)
        return
    table = Table("list", "number", "category", "who", "why", "until", "appeal")
    for e in book.entries():
        until = "" if e.expires_s is None else datetime.fromtimestamp(e.expires_s, UTC).strftime("%Y-%m-%d")
        table.add_row(e.kind, e.number + "*" * e.is_prefix, e.category, e.who, e.why, until, e.appeal)
    stdout.print(table)
    stdout.print("the log is whole" if broken is None else f"the log was altered at line {broken}: ask who did it")


@lists.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="Text: a number a line, 'number,category', 'prefix*'.")],
    name: Annotated[str, typer.Option(help="Of the list; the former one of this name is replaced.")],
    kind: Annotated[str, typer.Option(help="allow, deny, do_not_originate or business.")] = "deny",
    config: ConfigOption = None,
) -> None:
    """Import a published list of up to tens of millions of numbers; bad lines are reported and skipped."""
    from inference.screening.bulk import read_bulk, save_bulk

    chosen = settings(config)
    if chosen.lists_dir is None:
        raise ConfigError("published lists need a folder: set screening.lists_dir in the settings, and give --config")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task("reading", total=file.stat().st_size if file.is_file() else None)
        made, report = read_bulk(file, name, kind, lambda size: progress.advance(task, size))  # type: ignore[arg-type]
    save_bulk(chosen.lists_dir, made)
    for line, why in report.bad_lines:
        stderr.print(f"{file}:{line}: {why}; skipped", markup=False)
    stdout.print(
        f"{name}: {report.num_numbers} numbers and {report.num_prefixes} prefixes, {report.num_bad} bad lines skipped; "
        f"version {made.version[:12]}",
        markup=False,
    )


@simulate.command()
def calls(
    days: Annotated[float, typer.Option(min=0.01, max=60, help="How long.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same calls.")] = 7,
    scale: Annotated[float, typer.Option(min=0.01, max=100, help="Of the number of callers.")] = 0.2,
    out: Annotated[
        Path | None, typer.Option(help="Write the calls, a JSON object a line.", show_default="none")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate a network's calls; without --out, screen them and print who was let through, warned of, stopped."""
    from inference.screening.backend import MemoryBackend
    from inference.screening.lists import NumberLists
    from inference.screening.rehearse_day import Confusion, RehearsedScreener, VirtualClock, rehearse_day
    from inference.screening.remembered import WindowStore
    from inference.screening.rules import RulesConfig
    from inference.screening.score import LogisticRisk, load_risk
    from inference.screening.traffic import traffic

    if out is not None:
        _write_calls(out, traffic(days, seed, scale))
        return
    clock, done = VirtualClock(), Confusion()
    store = WindowStore(MemoryBackend(clock=clock))
    model = LogisticRisk(load_risk())
    screener = RehearsedScreener(RulesConfig(region="GB"), NumberLists(), store, model=model, clock=clock)
    with Progress(console=stderr, transient=True) as progress:
        task = progress.add_task("screening simulated calls", total=None)
        asyncio.run(
            rehearse_day(
                traffic(days, seed, scale),
                screener,
                store,
                clock,
                lambda call, _known, decision: done.add(call, decision.action),
                lambda: progress.advance(task),
            )
        )
    _print_confusion(done, as_json)


def _print_confusion(done: "Confusion", as_json: bool) -> None:
    from inference.screening.attempt import ACTIONS

    stopped = ("challenge", "reject")
    shares = {
        "unwanted_stopped": round(done.share(True, stopped), 4),
        "unwanted_prompted_or_stopped": round(done.share(True, ("prompt", *stopped)), 4),
        "wanted_stopped": round(done.share(False, stopped), 5),
        "wanted_prompted_or_stopped": round(done.share(False, ("prompt", *stopped)), 5),
    }
    if as_json:
        rows = {kind: dict(zip(ACTIONS, row, strict=True)) for kind, _, row in done.rows()}
        stdout.print(json.dumps({"simulated": True, "calls": rows, **shares}), markup=False)
        return
    table = Table("simulated callers", "truth", *ACTIONS)
    for kind, is_unwanted, row in done.rows():
        table.add_row(kind, "unwanted" if is_unwanted else "wanted", *map(str, row))
    stdout.print(table)
    for name, value in shares.items():
        stdout.print(f"{name.replace('_', ' ')}: {value:.2%} (simulated)")


def _write_calls(out: Path, made: "Iterator[TrafficCall]") -> None:
    from inference.screening.traffic import TrafficCall

    count = 0
    try:
        with out.open("w", encoding="utf-8") as file:
            for call in made:
                fields = {name: getattr(call, name) for name in TrafficCall.__dataclass_fields__}
                file.write(json.dumps({**fields, "unwanted": call.is_unwanted}) + "\n")
                count += 1
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror}); give another file with --out") from error
    stdout.print(f"wrote {out}: {count} simulated calls", markup=False)


@simulate.command()
def bombing(
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Runs of each attack and crowd.")] = 5,
) -> None:
    """Simulated call-bombing attacks, and the crowds that must not be taken for them: what is noticed and stopped."""
    from inference.screening.rehearsal import CROWD_KINDS, rehearse_attack, rehearse_crowd

    attacks = (("random", 50.0), ("random", 1000.0), ("sequential", 50.0), ("sequential", 1000.0), ("withheld", 200.0))
    table = Table(
        "simulated attack", "a minute", "noticed", "after attempts (most)", "stopped since", "contacts through"
    )
    for kind, per_minute in (*attacks, ("slow", 1.0), ("slow", 3.0)):
        runs = [asyncio.run(rehearse_attack(kind, per_minute, seed)) for seed in range(seeds)]  # type: ignore[arg-type]
        seen = [run.detected_after for run in runs if run.detected_after is not None]
        stopped, after = sum(run.stopped for run in runs), sum(run.after for run in runs)
        through, known = sum(run.known_through for run in runs), sum(run.known for run in runs)
        table.add_row(
            kind,
            f"{per_minute:g}",
            f"{len(seen)} of {seeds}",
            str(max(seen, default=0)),
            f"{stopped / after:.1%}" if after else "-",
            f"{through} of {known}",
        )
    stdout.print(table)
    for crowd in CROWD_KINDS:
        taken = sum(asyncio.run(rehearse_crowd(crowd, seed)).detected_s is not None for seed in range(seeds))
        stdout.print(f"simulated crowd, {crowd}: taken for an attack {taken} of {seeds} times")

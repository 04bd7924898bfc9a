"""``scamtap lists``: who is on which list, who put them there, appeals, and published lists by the million."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from inference.cli_screening import ConfigOption, JsonOption, settings, stdout
from inference.errors import ConfigError

if TYPE_CHECKING:
    from inference.screening.config import ScreeningConfig
    from inference.screening.entries import EntryBook, Import
    from inference.screening.lists import BulkList, ListEntry

stderr = Console(stderr=True, highlight=False, soft_wrap=True)

WhoOption = Annotated[str, typer.Option(help="Who decides: your name or desk; kept in the log.")]
WhyOption = Annotated[str, typer.Option(help="On what ground; kept in the log.")]

lists = typer.Typer(no_args_is_help=True, help="Lists of numbers: allow, deny, do_not_originate, business.")


def _book(config: "ScreeningConfig") -> "EntryBook":
    from inference.screening.config import open_entries

    is_shared = config.redis is not None and config.redis.share_lists
    if config.path is None and not is_shared:
        raise ConfigError("list entries need a file to stay in: set screening.path in the settings, and give --config")
    return open_entries(config)


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
    of_list: Annotated[
        str | None, typer.Option("--list", help="Published list that it is against.", show_default="an entry of ours")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """A number's owner appeals, or the appeal is decided; a granted one takes the number off the list."""
    from inference.screening.appeals import CHANGES, Appeal, Appeals
    from inference.screening.journal import Journal
    from inference.screening.lists import NumberLists

    if state not in CHANGES:
        raise ConfigError(f"{state}: want {', '.join(CHANGES)}")
    chosen = settings(config)
    entry, book, journal = _entry(chosen, kind, number, who, why), _book(chosen), Journal(chosen.journal)
    if of_list is not None and entry.is_prefix:
        raise ConfigError(f"{number}: an appeal against a published list is of one number")
    made = Appeals(book, NumberLists(book.entries(), _published(chosen)), journal)
    against = Appeal(entry.kind, entry.number, entry.is_prefix, of_list)
    changed = made.step(against, state, who=who, why=why)
    asyncio.run(journal.aclose())
    stdout.print(f"{_named(changed.entry)} {changed.what}, line {changed.number}")


def _published(config: "ScreeningConfig") -> "list[BulkList]":
    from inference.screening.bulk import load_bulk

    return [] if config.lists_dir is None else load_bulk(config.lists_dir)


def _origin(made: "BulkList", imports: "Mapping[str, Import]") -> dict[str, str | None]:
    """Who imported it and why; None where the file was put there, or changed, by another way."""
    found = imports.get(made.name)
    is_known = found is not None and found.version == made.version
    return {"who": found.who if found and is_known else None, "why": found.why if found and is_known else None}


@lists.command()
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """What is on the lists now, which published ones are in force; and whether the log behind it is whole."""
    chosen = settings(config)
    book, published = _book(chosen), _published(chosen)
    broken, imports = book.verify(), book.imports()
    imported = [
        {
            "name": made.name, "kind": made.kind, "version": made.version[:12], "numbers": len(made.numbers),
            "prefixes": len(made.prefixes), "categories": sorted(made.category_names), **_origin(made, imports),
        }
        for made in published
    ]  # fmt: skip
    if as_json:
        entries = [entry.model_dump() for entry in book.entries()]
        body = {"broken_at": broken, "entries": entries, "imported": imported}
        stdout.print(json.dumps(body, ensure_ascii=False), markup=False)
        return
    table = Table("list", "number", "category", "who", "why", "until", "appeal")
    for e in book.entries():
        until = "" if e.expires_s is None else datetime.fromtimestamp(e.expires_s, UTC).strftime("%Y-%m-%d")
        of_list = f"{e.kind} of {e.of_list}" if e.of_list is not None else e.kind
        table.add_row(of_list, e.number + "*" * e.is_prefix, e.category, e.who, e.why, until, e.appeal)
    stdout.print(table)
    if imported:
        columns = ("name", "kind", "version", "numbers", "prefixes", "who", "why")
        table = Table("published list", *columns[1:])
        for one in imported:
            table.add_row(*("?" if one[name] is None else str(one[name]) for name in columns))
        stdout.print(table)
    for unknown in (one["name"] for one in imported if one["who"] is None):
        stdout.print(f"{unknown}: is not what was imported by this name: ask who put it there", markup=False)
    stdout.print("the log is whole" if broken is None else f"the log was altered at line {broken}: ask who did it")


@lists.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="Text: a number a line, 'number,category', 'prefix*'.")],
    name: Annotated[str, typer.Option(help="Of the list; the former one of this name is replaced.")],
    kind: Annotated[str, typer.Option(help="allow, deny, do_not_originate or business.")] = "deny",
    who: Annotated[str, typer.Option(help="Who imports; kept in the log.", show_default="who is logged in")] = "",
    why: WhyOption = "published list",
    config: ConfigOption = None,
) -> None:
    """Import a published list of up to tens of millions of numbers; bad lines are reported and skipped."""
    import getpass

    from inference.screening.bulk import read_bulk, save_bulk

    chosen = settings(config)
    if chosen.lists_dir is None:
        raise ConfigError("published lists need a folder: set screening.lists_dir in the settings, and give --config")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task("reading", total=file.stat().st_size if file.is_file() else None)
        made, report = read_bulk(file, name, kind, lambda size: progress.advance(task, size))  # type: ignore[arg-type]
    book = _book(chosen)
    book.imported(made, who=who or getpass.getuser(), why=why)  # said before it is in force, so never in force unsaid
    save_bulk(chosen.lists_dir, made)
    for line, why in report.bad_lines:
        stderr.print(f"{file}:{line}: {why}; skipped", markup=False)
    stdout.print(
        f"{name}: {report.num_numbers} numbers and {report.num_prefixes} prefixes, {report.num_bad} bad lines skipped; "
        f"version {made.version[:12]}",
        markup=False,
    )

"""``scamtap simulate``: simulated traffic and attacks, to rehearse screening. No operator's records."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from inference.cli_screening import JsonOption, stdout
from inference.errors import ConfigError

if TYPE_CHECKING:
    from inference.screening.rehearse_day import Confusion
    from inference.screening.traffic import TrafficCall

stderr = Console(stderr=True, highlight=False, soft_wrap=True)

simulate = typer.Typer(no_args_is_help=True, help="Simulated traffic, to rehearse screening. No operator's records.")


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


def _rounded(share: float | None, digits: int) -> float | None:
    return None if share is None else round(share, digits)


def _print_confusion(done: "Confusion", as_json: bool) -> None:
    from inference.screening.attempt import ACTIONS

    stopped = ("challenge", "reject")
    shares = {
        "unwanted_stopped": _rounded(done.share(True, stopped), 4),
        "unwanted_prompted_or_stopped": _rounded(done.share(True, ("prompt", *stopped)), 4),
        "wanted_stopped": _rounded(done.share(False, stopped), 5),
        "wanted_prompted_or_stopped": _rounded(done.share(False, ("prompt", *stopped)), 5),
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
        told = "none to measure on" if value is None else f"{value:.2%}"
        stdout.print(f"{name.replace('_', ' ')}: {told} (simulated)")


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

    attacks = (
        ("random", 50.0),
        ("random", 1000.0),
        ("random", 5000.0),
        ("sequential", 50.0),
        ("sequential", 1000.0),
        ("sequential", 5000.0),
        ("withheld", 200.0),
    )
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
            f"{through} of {known}" if known else "none called",
        )
    stdout.print(table)
    for crowd in CROWD_KINDS:
        taken = sum(asyncio.run(rehearse_crowd(crowd, seed)).detected_s is not None for seed in range(seeds))
        stdout.print(f"simulated crowd, {crowd}: taken for an attack {taken} of {seeds} times")

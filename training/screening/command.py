"""``scamtap-train screening``: trains the risk model on simulated traffic, and measures it on other traffic."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from inference.errors import ConfigError
from inference.screening.backend import MemoryBackend
from inference.screening.lists import NumberLists
from inference.screening.rehearse_day import RehearsedScreener, VirtualClock, rehearse_day
from inference.screening.remembered import WindowStore
from inference.screening.rules import Known, RulesConfig
from inference.screening.score import RiskWeights, features
from inference.screening.traffic import TrafficCall, traffic
from training.screening.fit import Examples, auc, examples, fit

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)
SHIPPED = Path("inference/screening/risk.json")


def collect(days: float, seed: int, scale: float, console: Console) -> Examples:
    """Simulate traffic, screen it with nothing blocked, and keep what was known of each call."""
    rows: list[dict[str, float]] = []
    labels: list[bool] = []
    clock = VirtualClock()
    store = WindowStore(MemoryBackend(clock=clock))
    rules = RulesConfig(region="GB", unallocated="allow", prompt_from=None, challenge_from=None)
    screener = RehearsedScreener(rules, NumberLists(), store, clock=clock)

    def keep(call: TrafficCall, known: Known, _decision: object) -> None:
        rows.append(features(known))
        labels.append(call.is_unwanted)

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"simulating, seed {seed}", total=None)
        calls = traffic(days, seed, scale)
        asyncio.run(rehearse_day(calls, screener, store, clock, keep, lambda: progress.advance(task)))
    return examples(rows, labels)


def risks(model: RiskWeights, of: Examples) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The model's probability for each example."""
    weights = np.array(list(model.weights.values()))
    return np.asarray(1 / (1 + np.exp(-(of.x @ weights + model.intercept))))


def screening(
    out: Annotated[Path, typer.Option(help="Model file to write.")] = SHIPPED,
    days: Annotated[float, typer.Option(min=0.1, max=60, help="Simulated days, for training and for measuring.")] = 3.0,
    seed: Annotated[int, typer.Option(min=0, help="Training traffic; measured on the next seed.")] = 1,
    scale: Annotated[float, typer.Option(min=0.01, max=100, help="Of the number of callers.")] = 1.0,
) -> None:
    """Train the risk model of screening. Simulated traffic, not an operator's records: about two minutes."""
    train = collect(days, seed, scale, stderr)
    data: dict[str, str | int | float] = {
        "what": "simulated traffic (inference/screening/traffic.py), no operator's records",
        "days": days,
        "seed": seed,
        "scale": scale,
        "calls": len(train.y),
    }
    try:
        model = fit(train, data)
    except ValueError as error:
        raise ConfigError(f"{error}: raise --days or --scale") from error
    text = json.dumps(model.model_dump(), indent=1) + "\n"
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror}); give another file with --out") from error
    test = collect(days, seed + 1, scale, stderr)
    stdout.print(
        f"wrote {out}, version {model.version}: AUC {auc(risks(model, train), train.y):.3f} on its own "
        f"{len(train.y)} simulated calls, {auc(risks(model, test), test.y):.3f} on {len(test.y)} others (simulated)",
        markup=False,
    )
    for name, weight in model.weights.items():
        stdout.print(f"  {name:18} {weight:+.3f}")


OPERATORS_RATE = 69_000.0
"""Records a second: six billion calls a day, what a large network's protection scheme was reported to see."""


def reputation(
    records: Annotated[Path, typer.Argument(help="Folder of call records (Parquet).", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the table.", show_default=False)],
    simulate: Annotated[
        int | None, typer.Option(min=1, help="First write so many simulated records there.", show_default="none")
    ] = None,
    on_ray: Annotated[bool, typer.Option("--ray", help="By Ray Data, over a cluster, not by DuckDB alone.")] = False,
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster.", show_default="this machine")] = None,
) -> None:
    """The daily reputation of every number: attempts, callees, answered, short, complaints; from days of records."""
    import time

    from training.screening.distributed import reputation_on_ray
    from training.screening.records import count_rows, files_of, parquet, simulate_records, write_reputation

    with Progress(console=stderr, transient=True) as progress:
        if simulate is not None:
            files = max(16, simulate // 4_000_000)
            task = progress.add_task("simulating records", total=files)
            simulate_records(records, simulate, files=files, advance=lambda: progress.advance(task))
        found = files_of(records)
        task = progress.add_task("counting", total=len(found))
        if on_ray:
            done = reputation_on_ray(records, out, address=address, advance=lambda: progress.advance(task))
            rows, count, seconds = done.rows, done.records, done.seconds
        else:
            import duckdb

            out.mkdir(parents=True, exist_ok=True)
            began_s, rows = time.monotonic(), 0
            for file in found:
                rows += write_reputation(parquet(file), out / file.name)
                progress.advance(task)
            seconds = time.monotonic() - began_s
            with duckdb.connect() as db:
                count = count_rows(db, parquet(records / "*.parquet"))
    rate = count / max(seconds, 1e-9)
    stdout.print(
        f"{count} records, {rows} numbers and days, {'Ray' if on_ray else 'DuckDB'}: {rate:,.0f} records/s, "
        f"{rate / OPERATORS_RATE:.1f} x six billion calls a day",
        markup=False,
    )

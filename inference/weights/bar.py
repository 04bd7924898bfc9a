"""A rich progress bar for pulling: the callback the command line hands to :func:`~inference.weights.pull`."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bars
from rich.table import Column

from inference.weights.store import Progress, ProgressCallback

_VERBS = {"download": "fetching", "unpack": "unpacking", "verify": "checking", "build": "building"}


@contextmanager
def progress_bars(console: Console) -> Iterator[ProgressCallback]:
    """Show one bar per file on ``console`` while open; sources that did not work and waits become lines above."""
    name = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
    bars = Bars(name, BarColumn(20), DownloadColumn(), TransferSpeedColumn(), console=console, expand=True)
    tasks = {}

    def show(progress: Progress, /) -> None:
        if progress.step == "skip":
            bars.console.print(f"{progress.artefact}: {progress.what}; trying the next source", markup=False)
            return
        if progress.step == "wait":
            bars.console.print(f"{progress.artefact}: waiting for {progress.what}", markup=False)
            return
        key = (progress.artefact, progress.step, progress.what)
        if key not in tasks:
            tasks[key] = bars.add_task(f"{_VERBS[progress.step]} {progress.what}", total=progress.total_bytes or None)
        bars.update(tasks[key], completed=progress.done_bytes, total=progress.total_bytes or None)

    with bars:
        yield show

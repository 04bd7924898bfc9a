"""Progress bars for long work, on standard error, only where somebody is watching."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from inference.weights import Progress as PullProgress


@contextlib.contextmanager
def pull_progress(console: Console | None) -> Iterator[Callable[[PullProgress], None]]:
    """A bar per file that is fetched, unpacked or verified; notes about sources that did not work stay on screen."""
    if console is None:
        yield lambda _progress: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks = {}

        def show(progress: PullProgress) -> None:
            if progress.step == "skip":
                console.print(progress.what, style="dim", markup=False)
                return
            key = (progress.step, progress.what)
            if key not in tasks:
                tasks[key] = bars.add_task(f"{progress.step} {progress.what}", total=None)
            bars.update(tasks[key], completed=progress.done_bytes, total=progress.total_bytes or None)

        yield show


@contextlib.contextmanager
def replay_progress(console: Console | None, name: str, duration_s: float) -> Iterator[Callable[[float], None]]:
    """A bar over a recording's length."""
    if console is None:
        yield lambda _position_s: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} s"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(name, total=max(duration_s, 0.1))
        yield lambda position_s: bars.update(task, completed=position_s)

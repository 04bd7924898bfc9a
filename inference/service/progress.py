"""Progress bars for long work, on standard error, only where somebody is watching."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


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

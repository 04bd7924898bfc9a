"""The progress of every long step: a bar for people, a line now and then for a file."""

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LINE_S = 30.0
"""Between lines where no bar can be drawn: a run of hours under nohup or in CI is to be seen to go on."""


def progress_bar(console: Console, clock_s: Callable[[], float] = time.monotonic) -> Progress:
    """The progress bar of every long step; lines where ``console`` is no terminal.

    Args:
        console: where it goes.
        clock_s: seconds that go by.
    """
    kind = Progress if console.is_terminal else _Lines
    return kind(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        get_time=clock_s,
    )


class _Lines(Progress):
    """Writes a line every :data:`LINE_S`."""

    _said_s = 0.0

    def start(self) -> None:
        self._said_s = self.get_time()
        super().start()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._say(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._say(task_id)

    def _say(self, task_id: TaskID) -> None:
        now_s = self.get_time()
        task = self._tasks[task_id]
        if now_s - self._said_s < LINE_S or task.total is None:
            return
        self._said_s = now_s
        self.console.print(
            f"{task.description} {int(task.completed)}/{int(task.total)} after {task.elapsed or 0:.0f} s", markup=False
        )

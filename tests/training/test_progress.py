"""Long steps are seen to go on, with or without a terminal."""

import io

from rich.console import Console

from training.progress import progress_bar


def test_without_a_terminal_a_line_comes_every_half_minute():
    now_s = 0.0
    written = io.StringIO()
    with progress_bar(Console(file=written, width=100), lambda: now_s) as bar:
        task = bar.add_task("calibrating [x]", total=90)
        for _ in range(80):
            now_s += 1.0
            bar.advance(task)
        seen = written.getvalue().splitlines()
        bar.update(task, completed=85)  # not yet time for another
        assert written.getvalue().splitlines() == seen
    assert seen == ["calibrating [x] 30/90 after 30 s", "calibrating [x] 60/90 after 60 s"]


def test_a_quiet_console_is_told_nothing():
    now_s = 0.0
    written = io.StringIO()
    with progress_bar(Console(file=written, quiet=True), lambda: now_s) as bar:
        task = bar.add_task("x", total=2)
        now_s = 100.0
        bar.advance(task)
    assert written.getvalue() == ""

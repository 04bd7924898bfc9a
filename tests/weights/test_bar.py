"""The progress bar: what a person sees while pulling."""

import io

from rich.console import Console

from inference.weights.bar import progress_bars
from inference.weights.store import Progress


def test_files_become_bars_and_failed_sources_lines():
    out = io.StringIO()
    with progress_bars(Console(file=out, width=120)) as show:
        show(Progress("tiny", "wait", "another pull of the same weights"))
        show(Progress("tiny", "skip", "hub made/tiny: cannot reach [/bold]"))
        show(Progress("tiny", "download", "tiny_1.whl", 500_000, 1_000_000))
        show(Progress("tiny", "download", "tiny_1.whl", 1_000_000, 1_000_000))
        show(Progress("tiny", "build", "canonical form", 10, 0))
    text = out.getvalue()
    assert "tiny: waiting for another pull of the same weights" in text
    assert "tiny: hub made/tiny: cannot reach [/bold]; trying the next source" in text
    assert text.count("fetching tiny_1.whl") == 1
    assert "1.0/1.0 MB" in text
    assert "building canonical form" in text

"""A list of ten million lines, by the command that operators use: whole, in bounded memory, and found again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_MB = 900
"""The command with its libraries; a Python set of so many numbers alone would take more."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("lines", [10_000_000])
def test_ten_million_lines_are_imported(lines):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "lists.py", "--json", "--lines", str(lines)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    numbers, prefixes, bad = result["wanted"]
    assert (result["numbers"], result["prefixes"]) == (numbers, prefixes)
    assert f"{numbers} numbers and {prefixes} prefixes, {bad} bad lines skipped" in result["said"]
    assert result["import_most_mb"] < MAX_MB
    assert result["found"] > 0

"""The GPU benchmark runs, on the CPU with a made network, and its network is that of the graphs."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch: make install-train"),
]


def run(*arguments):
    """The benchmark's JSON; whatever this process imports, it imports."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *arguments, "--json"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_all_of_it_runs_and_says_what_the_graphs_say():
    result = run("--tiny", "--seconds", "0.5")
    assert result["is_tiny"]
    assert result["parity"]["states_difference"] < 1e-4
    assert result["parity"]["tokens_equal"] == 1
    assert [row["batch"] for row in result["encoder"]["batches"]] == [1, 4]
    assert [row["rows"] for row in result["decoder"]["rows"]] == [1, 4]
    assert {(row["decoded"], row["calls"]) for row in result["calls"]} == {(0.0, 20), (0.1, 20)}
    assert all(row["unheard"] == 0 and row["p99_ms"] >= row["p50_ms"] > 0 for row in result["calls"])


def test_without_a_device_it_says_not_measured():
    assert run()["skipped"] == "no CUDA device"

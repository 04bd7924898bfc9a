"""Logging where the log cannot be written."""

import subprocess
import sys
from pathlib import Path

import pytest

LOGS = """
import structlog
from inference.config import LogConfig
from inference.service.logs import set_up_logs
set_up_logs(LogConfig(json_lines=True))
structlog.get_logger("x").error("calls not heard")
print("went on", flush=True)
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_a_full_disk_under_the_log_costs_the_line_only():
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run([sys.executable, "-c", LOGS], stdout=subprocess.PIPE, stderr=full, timeout=60)
    assert ran.stdout == b"went on\n"

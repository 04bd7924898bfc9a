"""report.json beside a model: how it was trained and calibrated, and how it fares."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.engine.repository import write_atomically
from inference.errors import ConfigError

REPORT_FILE = "report.json"


def read_report(path: Path) -> dict[str, Any]:
    """The report.json that is there; empty for none.

    Raises:
        ConfigError: it is not JSON.
    """
    if not path.exists():
        return {}
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON; remove it") from error
    return dict(report)


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write report.json."""
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

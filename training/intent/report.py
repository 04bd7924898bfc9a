"""report.json beside a model: how it was trained and calibrated, and how it fares."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.engine.repository import write_atomically
from inference.errors import ConfigError
from inference.intent.install import HEAD_FILE, INTENT_MODEL

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


def gone_on_from(version: Path) -> dict[str, Any]:
    """What is put down of the version that a training went on from: its head, its recipe, what it had gone on from.

    Raises:
        ConfigError: there is no head, or its report is not JSON.
    """
    head = version / HEAD_FILE
    if not head.is_file():
        raise ConfigError(f"{version}: holds no {HEAD_FILE}; give a version, e.g. models/{INTENT_MODEL}/1")
    training = read_report(version / REPORT_FILE).get("training", {})
    said = {key: training[key] for key in ("recipe", "train_calls", "minutes", "gone_on_from") if key in training}
    return {"head_sha256": hashlib.sha256(head.read_bytes()).hexdigest()} | said


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write report.json."""
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

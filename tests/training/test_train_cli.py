"""The ``scamtap-train`` command: help that teaches, errors of one line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from inference.errors import ConfigError
from training.cli import app


@pytest.mark.parametrize("command", ["intent", "evaluate"])
def test_help_says_what_it_does(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "160"})
    assert result.exit_code == 0
    assert "--scripts" in result.output
    assert "--data" in result.output


def test_an_unknown_slice_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- {id: en-a-a, label: genuine, topic: t, turns: 'far: hello\n\n    near: hi'}\n")
    result = CliRunner().invoke(app, ["evaluate", "--scripts", str(tmp_path), "--only", "nosuch"])
    assert isinstance(result.exception, ConfigError)
    assert "nosuch" in str(result.exception)

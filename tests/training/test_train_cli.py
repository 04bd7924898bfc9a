"""The ``scamtap-train`` command: help that teaches, errors of one line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from inference.errors import ConfigError, MediaError
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


@pytest.mark.parametrize(
    ("args", "message"),
    [(("--split", "exam"), "give test or dev"), (("--split", "dev", "--update"), "leave --split")],
)
def test_variants_are_compared_on_dev_and_only_test_figures_are_shipped(args: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app, ["evaluate", *args])
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)


def test_recognising_an_empty_folder_is_one_line(tmp_path: Path, scripted: object) -> None:
    result = CliRunner().invoke(app, ["recognise", str(tmp_path), "--out", str(tmp_path / "heard.jsonl")])
    assert isinstance(result.exception, MediaError)
    assert "scamtap-train voice --help" in str(result.exception)

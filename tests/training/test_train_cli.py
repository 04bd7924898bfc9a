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


def test_going_on_from_what_is_no_version_is_said_before_any_work(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    result = CliRunner().invoke(app, ["intent", "--go-on-from", str(tmp_path), "--out", str(tmp_path / "1")])
    assert isinstance(result.exception, ConfigError)
    assert "holds no head.safetensors; give a version" in str(result.exception)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--encoder", "all-minilm-l6-v2"), "is of multilingual-e5-small, 8 layers"),
        (("--use-layers", "4"), "4 layers"),
        (("--layers", "1"), "has 4 tuned"),
    ],
)
def test_a_version_is_gone_on_from_as_it_was_made(tmp_path: Path, args: tuple[str, ...], message: str) -> None:
    pytest.importorskip("torch")
    version = Path("models/scam_intent/1")
    result = CliRunner().invoke(app, ["intent", "--go-on-from", str(version), "--out", str(tmp_path / "1"), *args])
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
    assert not (tmp_path / "1").exists()


def test_recognising_an_empty_folder_is_one_line(tmp_path: Path, scripted: object) -> None:
    result = CliRunner().invoke(app, ["recognise", str(tmp_path), "--out", str(tmp_path / "heard.jsonl")])
    assert isinstance(result.exception, MediaError)
    assert "scamtap-train voice --help" in str(result.exception)

"""The page of spectrograms."""

import base64
import io
import re

import numpy as np
import pytest
import soundfile as sf
import typer
from typer.testing import CliRunner

from training.voice import sheet
from training.voice.presets import PRESETS

from .conftest import Hummer, make_script


def test_a_tone_is_one_bright_row_at_its_frequency():
    tone = np.round(8000 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)).astype(np.int16)
    grey = sheet.spectrogram(tone)
    assert grey.shape == (129, 61)
    assert 128 - int(grey.mean(axis=1).argmax()) == 1000 * 256 // 8000
    assert not sheet.spectrogram(np.zeros(8000, np.int16)).any()
    assert sheet.spectrogram(np.zeros(3, np.int16)).shape == (129, 1)


def test_the_picture_is_a_png_that_others_read():
    image = pytest.importorskip("PIL.Image", reason="another reader of PNG")
    grey = np.random.default_rng(1).integers(0, 256, (129, 40)).astype(np.uint8)
    assert np.array_equal(np.asarray(image.open(io.BytesIO(sheet.png(grey)))), grey)


def test_every_preset_is_shown_with_both_legs_to_hear():
    page = sheet.page(make_script("en-genuine-test", "genuine", num_turns=4), 3, Hummer())
    assert re.findall(r"<h2>(\w+)</h2>", page) == list(PRESETS)
    sounds = re.findall(r"data:audio/wav;base64,([^\"]+)", page)
    assert len(sounds) == page.count("data:image/png") == 2 * len(PRESETS)
    samples, rate_hz = sf.read(io.BytesIO(base64.b64decode(sounds[0])), dtype="int16")
    assert rate_hz == 8000
    assert samples.any()
    assert "http" not in page


def test_the_command_writes_the_page(tmp_path, monkeypatch):
    monkeypatch.setenv("SCAMTAP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sheet, "KokoroSpeaker", Hummer)
    monkeypatch.setattr(sheet, "PRESETS", ("clean", "voip"))
    app = typer.Typer()
    app.command()(sheet.voice_sheet)
    out = tmp_path / "sheet.html"
    result = CliRunner().invoke(app, ["--out", str(out)])
    assert result.exit_code == 0, result.output
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")

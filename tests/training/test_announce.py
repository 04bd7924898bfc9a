"""``scamtap-train announce``: lines in, sounds out; what an operator recorded is left alone."""

import importlib.util
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from rich.console import Console

from inference.alerts.announcements import LANGUAGES, load_announcements, load_lines
from inference.alerts.tone import warning_tone
from inference.errors import ConfigError, ScamTapError
from training.announce.command import announce_all
from training.announce.sound import LEVEL_DBFS, compose, line_key, soft_limit
from training.voice import mandarin
from training.voice.channel import speech_level_db
from training.voice.speaker import SPEECH_RATE_HZ, KokoroSpeaker
from training.voice.voices import RESERVED, phoneme_language

SHIPPED = Path(__file__).resolve().parents[2] / "configs" / "announcements"
LINES = "language: en\nvoice: af_heart\nspeed: 1.0\nlines:\n  general: This may be a scam.\n  tax: {tax}\n"


@pytest.fixture
def hummer():
    """The speaker that hums, of the voice room's tests."""
    path = Path(__file__).with_name("voice") / "conftest.py"
    spec = importlib.util.spec_from_file_location("scamtap_tests_voice", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Hummer()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "en.yaml").write_text(LINES.format(tax="No tax office threatens you."))
    return tmp_path


def run(folder, speaker):
    return announce_all(folder, speaker, Console(file=io.StringIO()))


def listed(folder):
    return json.loads((folder / "sounds.json").read_text())["sounds"]


def test_each_line_becomes_a_sound_that_a_worker_loads(folder, hummer):
    assert run(folder, hummer) == (2, 0)
    assert {path.name for path in folder.glob("*.wav")} == {
        "suspect.wav", "en-danger-general.wav", "en-danger-tax.wav"
    }  # fmt: skip
    tax = load_announcements(folder).pick("danger", "tax", "en")
    beep = warning_tone("danger")
    assert np.abs(tax.samples[: beep.size].astype(int) - beep).max() < 200  # the grid of µ-law
    assert tax.samples.size / 8000 == pytest.approx(beep.size / 8000 + 0.15 + 0.03 * 28, abs=0.05)
    assert speech_level_db(tax.samples[beep.size :] / 32768) == pytest.approx(LEVEL_DBFS, abs=0.5)


def test_only_lines_that_changed_are_spoken_again(folder, hummer):
    run(folder, hummer)
    before = listed(folder)
    assert run(folder, hummer) == (0, 2)
    (folder / "en.yaml").write_text(LINES.format(tax="A tax office gives you time."))
    assert run(folder, hummer) == (1, 1)
    assert len(hummer.said) == 3
    after = listed(folder)
    assert {name for name in after if after[name] != before[name]} == {"en-danger-tax"}


def test_a_lost_sound_is_made_again(folder, hummer):
    run(folder, hummer)
    (folder / "en-danger-tax.wav").unlink()
    assert run(folder, hummer) == (1, 1)


@pytest.mark.parametrize("is_listed", [True, False])
def test_an_operators_recordings_are_left_alone_and_no_longer_listed(folder, hummer, is_listed):
    if is_listed:
        run(folder, hummer)
    own = np.full(8000, 1000, np.int16)
    for name in ("en-danger-tax", "suspect"):
        sf.write(folder / f"{name}.wav", own, 8000)
    for _ in range(2):
        run(folder, hummer)
        assert np.array_equal(sf.read(folder / "en-danger-tax.wav", dtype="int16")[0], own)
        assert set(listed(folder)) == {"en-danger-general"}


def test_a_damaged_list_is_made_anew(folder, hummer):
    run(folder, hummer)
    (folder / "sounds.json").write_text("[]")
    assert run(folder, hummer) == (0, 2)  # nobody knows whose they are


def test_a_folder_without_lines_a_sermon_and_a_reserved_voice_are_one_line(folder, hummer, tmp_path):
    with pytest.raises(ConfigError, match="no lines there"):
        run(tmp_path / "elsewhere", hummer)
    (folder / "en.yaml").write_text(LINES.format(tax="word " * 39))
    hummer.speak = lambda text, *_: np.full(SPEECH_RATE_HZ * 20, 9000, np.int16)
    with pytest.raises(ConfigError, match="shorten its text"):
        run(folder, hummer)
    (folder / "en.yaml").write_text(LINES.format(tax="a").replace("af_heart", "af_bella"))
    with pytest.raises(ConfigError, match="af_bella is reserved"):
        run(folder, KokoroSpeaker())


def test_the_shipped_sounds_are_what_the_command_would_make():
    speaker, sounds = KokoroSpeaker(), listed(SHIPPED)
    for language in LANGUAGES:
        lines = load_lines(SHIPPED / f"{language}.yaml")
        assert lines.voice not in RESERVED
        assert phoneme_language(lines.voice) == {"en": "en-us", "zh": "cmn"}[language]
        for name in lines.spoken:
            assert sounds[name]["key"] == line_key(lines, name, speaker.fingerprint), "run scamtap-train announce"


def test_a_sharp_peak_is_bent_and_not_cut():
    hum = 0.02 * np.sin(np.arange(24_000) / 10)
    hum[12_000:12_040] = 0.9
    whole = compose(np.round(hum * 32767).astype(np.int16))
    assert np.abs(whole.astype(int)).max() < 0.87 * 32768  # and the grid of µ-law above it
    ramp = np.linspace(-3, 3, 601)
    bent = soft_limit(ramp)
    assert np.all(np.diff(bent) >= 0)
    assert np.abs(bent).max() < 10 ** (-1.5 / 20) + 1e-9
    assert np.array_equal(bent[np.abs(ramp) < 0.39], ramp[np.abs(ramp) < 0.39])


def test_mandarin_is_phonemised_with_its_tones():
    pytest.importorskip("misaki", reason="needs misaki[zh]: make install-train")
    said = mandarin.phonemes("请小心，这可能是诈骗。")
    assert {"↓", "→", "↘"} & set(said)
    assert said.endswith(".")
    assert "请" not in said


def test_without_misaki_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "misaki", None)
    mandarin._converter.cache_clear()
    with pytest.raises(ScamTapError, match="run: make install-train"):
        mandarin.phonemes("请")
    mandarin._converter.cache_clear()

"""What can be said: the shipped lines and sounds agree, and an operator's own are taken or refused in one line."""

import contextlib
import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from inference.alerts import announcements as module
from inference.alerts.announcements import (
    GENERAL,
    LANGUAGES,
    SUSPECT,
    load_announcements,
    load_lines,
    read_sound,
    wav_bytes,
)
from inference.alerts.tone import warning_tone
from inference.audio import SAMPLE_RATE_HZ
from inference.errors import ConfigError
from inference.intent.scores import FAMILIES

SHIPPED = Path(__file__).resolve().parents[2] / "configs" / "announcements"
MAY_HANG_UP = {"en": "You may hang up", "zh": "您可以挂断"}
MAY_BE = {"en": "this may be a scam", "zh": "这可能是诈骗"}
NO_BLAME = ("you should have", "your fault", "foolish", "stupid", "victim", "!", "！", "笨", "傻", "上当")
MAX_SPOKEN_S = 6.0

LINES = {language: load_lines(SHIPPED / f"{language}.yaml") for language in LANGUAGES}
EACH = [(language, family) for language in LANGUAGES for family in LINES[language].lines]
SOUNDS = [(language, name) for language in LANGUAGES for name in LINES[language].spoken]


def test_every_family_has_a_line_in_every_language():
    for lines in LINES.values():
        assert set(lines.lines) == {*FAMILIES, GENERAL} - {"other"}


@pytest.mark.parametrize(("language", "family"), EACH)
def test_a_line_is_calm_certain_of_nothing_and_says_that_hanging_up_is_allowed(language, family):
    text = LINES[language].lines[family]
    assert MAY_HANG_UP[language] in text
    assert MAY_BE[language] in text
    assert not [word for word in NO_BLAME if word in text.lower()]


@pytest.mark.parametrize(("language", "name"), SOUNDS)
def test_a_sound_is_the_one_made_of_its_line(language, name):
    listed = json.loads((SHIPPED / "sounds.json").read_text())["sounds"][name]
    _, text = LINES[language].spoken[name]
    assert listed["text_sha256"] == hashlib.sha256(text.encode()).hexdigest(), "run scamtap-train announce"
    assert listed["sha256"] == hashlib.sha256((SHIPPED / f"{name}.wav").read_bytes()).hexdigest()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_line_of_a_labelled_call_is_true_of_every_label_and_says_that_hanging_up_is_allowed(language):
    text = LINES[language].label
    assert MAY_HANG_UP[language] in text
    assert MAY_BE[language] not in text  # it may be a seller
    assert not [word for word in NO_BLAME if word in text.lower()]


@pytest.mark.parametrize(("language", "name"), SOUNDS)
def test_a_sound_begins_with_its_beep_and_is_short_level_and_unclipped(language, name):
    samples, own = read_sound(SHIPPED / f"{name}.wav"), warning_tone(LINES[language].spoken[name][0])
    beep, spoken = samples[: own.size].astype(float), samples[own.size :].astype(float) / 32768
    assert np.corrcoef(beep, own)[0, 1] > 0.999
    assert spoken.size / SAMPLE_RATE_HZ <= MAX_SPOKEN_S
    assert np.abs(spoken).max() < 0.9
    frames = spoken[: spoken.size // 160 * 160].reshape(-1, 160)
    power = np.mean(frames**2, axis=1)
    level_dbfs = 10 * np.log10(np.mean(power[power > power.max() * 10**-2.5]))
    assert -20.5 <= level_dbfs <= -18.5


def test_the_shipped_folder_stays_small_and_holds_nothing_unlisted():
    sounds = list(SHIPPED.glob("*.wav"))
    assert sum(path.stat().st_size for path in sounds) < 2_000_000
    assert {path.stem for path in sounds} == set(json.loads((SHIPPED / "sounds.json").read_text())["sounds"])
    assert all(sf.info(path).samplerate == SAMPLE_RATE_HZ and sf.info(path).channels == 1 for path in sounds)


@pytest.fixture(scope="module")
def shipped():
    return load_announcements()


@pytest.mark.parametrize(
    ("level", "family", "language", "name"),
    [
        ("danger", "gift_card", "en", "en-danger-gift_card"),
        ("danger", "gift_card", "zh", "zh-danger-gift_card"),
        ("danger", "other", "zh", "zh-danger-general"),
        ("danger", None, "en", "en-danger-general"),
        ("danger", "tax", "fr", "en-danger-tax"),
        ("danger", "tax", None, "en-danger-tax"),
        ("danger", "../../etc", None, "en-danger-general"),
        ("suspect", "tax", "zh", SUSPECT),
    ],
)
def test_the_line_follows_family_and_language(shipped, level, family, language, name):
    picked = shipped.pick(level, family, language)
    assert picked.name == name
    assert picked.samples.dtype == np.int16
    assert bool(picked.text) == (level == "danger")


def test_none_is_not_worth_a_sound(shipped):
    assert shipped.pick("none", "tax", "en") is None


def test_the_operators_language_is_the_one_for_calls_that_do_not_say():
    assert load_announcements(language="zh").pick("danger", "tax", None).name == "zh-danger-tax"


def test_without_a_clone_a_beep_is_left(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_CLONE", tmp_path / "not-there")
    alone = load_announcements()
    assert np.array_equal(alone.pick("danger", "tax", "en").samples, warning_tone("danger"))
    assert np.array_equal(alone.pick("suspect", "tax", "en").samples, warning_tone("suspect"))


@pytest.fixture
def own(tmp_path):
    """An operator's folder with two lines and recordings of their own."""
    (tmp_path / "en.yaml").write_text("language: en\nlines: {general: Hello., tax: No tax office asks that.}\n")
    time_s = np.arange(48_000) / 48_000
    stereo = np.stack([0.3 * np.sin(2 * np.pi * 440 * time_s)] * 2, axis=1)
    sf.write(tmp_path / "en-danger-general.wav", stereo, 48_000, subtype="PCM_24")
    sf.write(tmp_path / "en-danger-tax.wav", stereo[::6, 0], 8000, subtype="ULAW")
    return tmp_path


def test_own_recordings_of_any_rate_are_taken_as_they_are(own):
    loaded = load_announcements(own)
    tax, general = (loaded.pick("danger", family, "en") for family in ("tax", "prize"))
    assert (tax.name, tax.text, general.name) == ("en-danger-tax", "No tax office asks that.", "en-danger-general")
    for samples in (tax.samples, general.samples):
        assert samples.size == pytest.approx(8000, abs=8)
        assert np.abs(samples).max() / 32768 == pytest.approx(0.3, abs=0.02)
        hz = np.fft.rfftfreq(samples.size, 1 / 8000)[np.abs(np.fft.rfft(samples)).argmax()]
        assert hz == pytest.approx(440, abs=2)
    assert loaded.pick("danger", "tax", "zh") is tax
    shutil.copy(own / "en-danger-tax.wav", own / "suspect.wav")
    assert np.array_equal(load_announcements(own).pick("suspect", None, None).samples, tax.samples)


def test_a_label_has_the_operators_sound_or_the_beep_and_its_own_words(own):
    beep = load_announcements(own).label("Listed as fraud", "en")
    assert (beep.name, beep.level, beep.text) == ("suspect", "suspect", "Listed as fraud")
    assert np.array_equal(beep.samples, warning_tone("suspect"))
    shutil.copy(own / "en-danger-tax.wav", own / "en-label.wav")
    loaded = load_announcements(own)
    spoken = loaded.label("Listed as fraud", "en")
    assert (spoken.name, spoken.text, spoken.samples.size) == ("en-label", "Listed as fraud", 8000)
    assert loaded.label("已列入名单", "zh").name == "suspect"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_shipped_label_is_spoken_in_its_language_with_the_words_shown(shipped, language):
    said = shipped.label("Reported by 3 subscribers", language)
    assert (said.name, said.level, said.text) == (f"{language}-label", "suspect", "Reported by 3 subscribers")
    assert said.samples.size > 2 * SAMPLE_RATE_HZ


def test_a_line_for_labels_without_its_sound_is_one_line(own):
    with (own / "en.yaml").open("a") as file:
        file.write("label: There is a warning about this number.\n")
    assert "en-label.wav: No such file or directory; make it with scamtap-train announce" in refuse(own)


def refuse(own):
    with pytest.raises(ConfigError) as refused:
        load_announcements(own)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_missing_sound_is_one_line(own):
    (own / "en-danger-tax.wav").unlink()
    assert "en-danger-tax.wav: No such file or directory; make it with scamtap-train announce" in refuse(own)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros(8000), "silent"),
        (np.zeros(0), "0.0 s long"),
        (np.full(8000 * 16, 0.1), "16.0 s long: give 0 to 15 s"),
    ],
)
def test_a_sound_that_is_none_is_one_line(own, samples, words):
    sf.write(own / "en-danger-tax.wav", samples, 8000)
    assert words in refuse(own)


def test_samples_that_are_no_numbers_are_one_line(own):
    sf.write(own / "en-danger-tax.wav", np.array([0.1, np.nan, np.inf] * 100), 8000, subtype="FLOAT")
    assert "no numbers" in refuse(own)


@pytest.mark.parametrize(("rate_hz", "channels"), [(800, 1), (400_000, 1), (8000, 9)])
def test_no_ordinary_recording_is_one_line(own, rate_hz, channels):
    sf.write(own / "en-danger-tax.wav", np.full((400, channels), 0.1), rate_hz)
    assert "give an ordinary recording" in refuse(own)


GSM_WAV = b"RIFF,\0\0\0WAVEfmt \x10\0\0\0@\0\1\0@\x1f\0\0\x80>\0\0\2\0\x10\0data\x08\0\0\0\1\0\2\0\3\0\4\0"
"""Found by fuzzing: of a codec that cannot be wound back."""


def test_a_codec_that_cannot_be_wound_back_is_no_crash(tmp_path):
    path = tmp_path / "sound.wav"
    path.write_bytes(GSM_WAV)
    with contextlib.suppress(ConfigError):
        assert read_sound(path).dtype == np.int16


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not audio at all" * 100])
def test_a_file_that_is_no_audio_is_one_line(own, content):
    (own / "en-danger-tax.wav").write_bytes(content)
    assert "cannot be read as audio" in refuse(own)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("language: en\nlines: {tax: a}", "a line for 'general' is missing"),
        ("language: en\nlines: {general: a, taxi: b}", "'taxi' is no scam family"),
        ("language: en\nlines: {general: ''}", "'general' wants a text"),
        ("language: zh\nlines: {general: a}", "named after its language"),
        ("language: fr\nlines: {general: a}", "language"),
        ("- a", "the whole file"),
        ("{a: [", "not valid YAML"),
    ],
)
def test_lines_that_are_none_are_one_line(own, text, words):
    (own / "en.yaml").write_text(text)
    assert words in refuse(own)


def test_an_empty_folder_is_one_line(tmp_path):
    assert "neither en.yaml nor zh.yaml is there" in refuse(tmp_path)


def test_what_gateways_fetch_is_plain_16_bit_wav(shipped):
    samples = shipped.pick("danger", "tax", "zh").samples
    info = sf.info(io.BytesIO(wav_bytes(samples)))
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_16", 8000, 1)
    assert np.array_equal(sf.read(io.BytesIO(wav_bytes(samples)), dtype="int16")[0], samples)

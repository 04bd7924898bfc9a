import io
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest

from inference.errors import ConfigError, ScamTapError
from training.voice.espeak import PROGRAM, EspeakSpeaker
from training.voice.manifest import ManifestCall, manifest_call
from training.voice.recipe import draw_recipe
from training.voice.speaker import SPEECH_RATE_HZ
from training.voice.voices import (
    ESPEAK_VARIANTS,
    RESERVED,
    draw_voices,
    espeak_voice,
    synthesiser_of,
    the_synthesiser,
)

from .conftest import make_script

VOICE = "en-gb+klatt2@35"


def wav(seconds: float) -> bytes:
    """A tone as espeak streams it: 22,050 Hz, the length in the header not true."""
    t_s = np.arange(int(22050 * seconds)) / 22050
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 22050, 0, "NONE", ""))
        file.writeframes((10000 * np.sin(2 * np.pi * 500 * t_s)).astype("<i2").tobytes())
    content = bytearray(buffer.getvalue())
    content[4:8] = content[40:44] = b"\xff\xff\xff\x7f"
    return bytes(content)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that says its version, keeps what it was given, and hums for half a second."""
    (tmp_path / "hum.wav").write_bytes(wav(0.5))
    path = tmp_path / "espeak-ng"
    path.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo "hum 1.0  Data at: /somewhere"; exit; fi\n'
        f'echo "$@" > {tmp_path}/arguments; cat > {tmp_path}/text; cat {tmp_path}/hum.wav\n'
    )
    path.chmod(0o755)
    return path


def test_a_turn_is_said_at_24_khz_with_voice_pace_and_pitch(program, tmp_path):
    samples = EspeakSpeaker(str(program)).speak("-v is no option here.", VOICE, 1.2)
    assert samples.dtype == np.int16
    assert samples.size / SPEECH_RATE_HZ == pytest.approx(0.5, abs=0.03)
    assert (tmp_path / "arguments").read_text() == "-v en-gb+klatt2 -s 210 -p 35 --stdin --stdout\n"
    assert (tmp_path / "text").read_text() == "-v is no option here."


def test_another_version_is_another_voice_and_where_its_data_lies_is_not(program):
    assert EspeakSpeaker(str(program)).fingerprint == "hum 1.0"


def test_a_missing_program_is_one_line_with_the_remedy(tmp_path):
    with pytest.raises(ScamTapError, match=r"is not on PATH; run: apt install espeak-ng") as caught:
        EspeakSpeaker(str(tmp_path / "nothing"))
    assert "\n" not in str(caught.value)


def test_a_program_that_fails_or_says_nothing_is_one_line(program, tmp_path):
    speaker = EspeakSpeaker(str(program))
    (tmp_path / "hum.wav").write_bytes(b"no sound at all")
    with pytest.raises(ScamTapError, match="made no sound of a turn of 6 characters"):
        speaker.speak("Hello.", VOICE, 1.0)
    program.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(ScamTapError, match="does not run here"):
        speaker.speak("Hello.", VOICE, 1.0)


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="needs the synthesiser: apt install espeak-ng")
def test_the_real_program_says_the_same_twice():
    speaker = EspeakSpeaker()
    one, again = (speaker.speak("This is a test call.", VOICE, 1.0) for _ in range(2))
    assert np.array_equal(one, again)
    assert 0.8 < one.size / SPEECH_RATE_HZ < 2.5
    assert np.abs(one).max() > 2000


@pytest.mark.parametrize("voice", ["en-gb+klatt2", "en-gb+nobody@35", "xx+klatt2@35", "en-gb+klatt2@350", "+@1"])
def test_an_unknown_espeak_voice_is_explained(voice):
    with pytest.raises(ConfigError, match=r"espeak voices are ACCENT\+VARIANT@PITCH"):
        espeak_voice(voice)


def test_no_variant_is_heard_in_two_splits_and_none_is_reserved():
    names = [name for variants in ESPEAK_VARIANTS.values() for name in variants]
    assert len(names) == len(set(names))
    assert not RESERVED & set(names)


def test_drawn_voices_are_two_of_the_scripts_own_split():
    for seed in range(40):
        for split, variants in ESPEAK_VARIANTS.items():
            far, near = draw_voices("espeak", split, np.random.default_rng(seed))
            assert {espeak_voice(v)[0].partition("+")[2] for v in (far, near)} <= set(variants)
            assert far.partition("+")[2].partition("@")[0] != near.partition("+")[2].partition("@")[0]


def test_one_call_is_spoken_by_one_synthesiser():
    assert synthesiser_of(VOICE) == "espeak"
    assert the_synthesiser({"far": "af_nova", "near": "am_eric"}) == "kokoro"
    with pytest.raises(ConfigError, match="one call is spoken by one synthesiser"):
        draw_recipe(make_script(), 1, voices={"far": "af_nova", "near": VOICE})
    with pytest.raises(ConfigError, match="bm_lewis is reserved"):
        the_synthesiser({"far": "bm_lewis", "near": VOICE})


def test_a_manifest_entry_recreates_an_espeak_recipe():
    script = make_script()
    recipe = draw_recipe(script, 3, synthesiser="espeak")
    entry = ManifestCall.model_validate(manifest_call(script, recipe).model_dump())
    assert entry.recipe(script) == recipe


def test_the_bad_preset_keeps_the_voices_and_worsens_the_lines():
    script = make_script()
    fair, bad = draw_recipe(script, 3), draw_recipe(script, 3, "bad")
    assert (bad.voices, bad.speeds, bad.barge_in) == (fair.voices, fair.speeds, fair.barge_in)
    assert all(4 <= channel.snr_db <= 12 and channel.loss >= 0.02 for channel in bad.channels.values())
    assert bad.channels["far"].law == fair.channels["far"].law

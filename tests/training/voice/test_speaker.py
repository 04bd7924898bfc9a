import numpy as np
import pytest
import soundfile as sf

from inference.errors import ConfigError, ScamTapError
from training.voice.speaker import SPEECH_RATE_HZ, CachedSpeaker, KokoroSpeaker, trim
from training.voice.voices import MANDARIN, RESERVED, VOICES, phoneme_language

SPEC_RESERVED = (
    "af_bella af_kore am_michael am_puck am_onyx af_sarah bf_emma bm_lewis zf_xiaoxiao zf_xiaoyi zm_yunxi zm_yunyang"
)


def test_silence_is_trimmed_to_a_margin_and_inner_pauses_stay():
    silence = np.zeros(SPEECH_RATE_HZ // 2, np.int16)
    hum = np.full(SPEECH_RATE_HZ // 4, 5000, np.int16)
    out = trim(np.concatenate([silence, hum, silence, hum, silence]))
    assert out.size / SPEECH_RATE_HZ == pytest.approx(1.0 + 0.04, abs=0.011)


@pytest.mark.parametrize("num_samples", [0, 5, 24000])
def test_trimming_silence_alone_is_no_trouble(num_samples):
    assert trim(np.zeros(num_samples, np.int16)).size <= min(num_samples, 240)


def test_a_sentence_is_spoken_once(hummer, tmp_path):
    first = CachedSpeaker(hummer, tmp_path)
    one = first.speak("Good morning.", "af_nova", 1.0)
    again = CachedSpeaker(hummer, tmp_path)
    assert np.array_equal(again.speak("Good morning.", "af_nova", 1.0), one)
    assert (first.num_spoken, again.num_spoken, len(hummer.said)) == (1, 0, 1)


@pytest.mark.parametrize(
    ("text", "voice", "speed", "fingerprint"),
    [
        ("Good evening.", "af_nova", 1.0, "a"),
        ("Good morning.", "am_eric", 1.0, "a"),
        ("Good morning.", "af_nova", 1.1, "a"),
        ("Good morning.", "af_nova", 1.0, "b"),
    ],
)
def test_other_words_voice_speed_or_model_are_spoken_anew(hummer, tmp_path, text, voice, speed, fingerprint):
    hummer.fingerprint = "a"
    CachedSpeaker(hummer, tmp_path).speak("Good morning.", "af_nova", 1.0)
    hummer.fingerprint = fingerprint
    CachedSpeaker(hummer, tmp_path).speak(text, voice, speed)
    assert len(hummer.said) == 2


def test_a_damaged_cache_file_is_spoken_anew(hummer, tmp_path):
    speaker = CachedSpeaker(hummer, tmp_path)
    one = speaker.speak("Good morning.", "af_nova", 1.0)
    (path,) = tmp_path.rglob("*.flac")
    path.write_bytes(b"fLaC, but cut")
    assert np.array_equal(speaker.speak("Good morning.", "af_nova", 1.0), one)
    assert sf.info(path).frames == one.size


def test_an_unwritable_cache_is_said_in_one_line(hummer, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ScamTapError, match=r"cannot write .*give another folder"):
        CachedSpeaker(hummer, tmp_path / "file").speak("Good morning.", "af_nova", 1.0)


def test_without_synthesiser_or_weights_the_remedy_is_named(tmp_path):
    with pytest.raises(ScamTapError, match=r"run: (make install-train|scamtap models pull kokoro-82m)"):
        KokoroSpeaker(home=tmp_path).speak("Good morning.", "af_nova", 1.0)


def test_the_reserved_voices_are_those_of_the_final_test():
    assert set(SPEC_RESERVED.split()) == RESERVED
    assert not RESERVED & {name for names in (*VOICES.values(), *MANDARIN.values()) for name in names}


@pytest.mark.parametrize("voice", sorted(SPEC_RESERVED.split()))
def test_a_reserved_voice_is_refused_by_whoever_could_speak(voice, hummer, tmp_path):
    with pytest.raises(ConfigError, match=f"{voice} is reserved for the final test"):
        KokoroSpeaker(home=tmp_path).speak("Hello.", voice, 1.0)
    with pytest.raises(ConfigError, match="reserved"):
        CachedSpeaker(hummer, tmp_path).speak("Hello.", voice, 1.0)
    assert not hummer.said


def test_no_voice_is_heard_in_two_splits():
    names = [name for voices in (*VOICES.values(), *MANDARIN.values()) for name in voices]
    assert len(names) == len(set(names))


def test_an_unknown_voice_is_named():
    with pytest.raises(ConfigError, match="'af_nobody' is unknown; known: af_alloy"):
        phoneme_language("af_nobody")

"""Voiced scripts through the stages of live calls, with models that hear tones: text, turns, resuming."""

import json
from pathlib import Path

import numpy as np
import pytest
import soxr

from inference.audio import SAMPLE_RATE_HZ
from inference.errors import ConfigError, MediaError
from training.recognise import recognise_all
from training.scripts import Script, parse_turns
from training.voice.call import save_call, voice_call
from training.voice.recipe import draw_recipe
from training.voice.speaker import SPEECH_RATE_HZ


@pytest.fixture
def tones(doubles):
    """A speaker of the doubles' phrases."""

    class Tones:
        fingerprint, source = "tones-1", "synthetic: tones"

        def speak(self, text, voice, speed):
            sound = doubles.tone(doubles.BY_TEXT[text].hz, doubles.SPOKEN_S).astype(float)
            return soxr.resample(sound, SAMPLE_RATE_HZ, SPEECH_RATE_HZ).astype(np.int16)

    return Tones()


@pytest.fixture
def recordings(doubles, tones, tmp_path) -> Path:
    """Two calls: hello, (near) no hurry, threat; and hello, ask."""
    hello, fine, threat, ask = doubles.HELLO.text, doubles.FINE.text, doubles.THREAT.text, doubles.ASK.text
    for name, lines in (
        ("en-scam-one", [f"far [contact]: {hello}", f"near: {fine}", f"far [lure, ask]: {threat}"]),
        ("en-scam-two", [f"far [contact]: {hello}", f"far [ask]: {ask}"]),
    ):
        script = Script(id=name, label="scam", family="card_otp", topic="bank", turns=parse_turns("\n".join(lines)))
        save_call(voice_call(script, draw_recipe(script, 1, "clean"), tones), tmp_path / "voiced", name)
    return tmp_path / "voiced"


def test_what_is_heard_is_joined_to_the_turn_that_was_said(doubles, recordings, tmp_path):
    (one, two) = recognise_all([recordings], tmp_path / "heard.jsonl", doubles.parts(), doubles.stages())
    assert [(u.leg, u.turns, u.text) for u in one.utterances] == [
        ("far", (0,), doubles.HELLO.text),
        ("near", (1,), doubles.FINE.text),
        ("far", (2,), doubles.THREAT.text),
    ]
    assert (one.synthesiser, one.preset, one.num_errors) == ("kokoro", "clean", 0)
    assert one.num_words == sum(len(p.text.split()) for p in (doubles.HELLO, doubles.FINE, doubles.THREAT))
    assert two.id == "en-scam-two"


def test_an_interrupted_run_goes_on_and_a_line_cut_short_is_made_again(doubles, recordings, tmp_path):
    out = tmp_path / "heard.jsonl"
    whole = recognise_all([recordings], out, doubles.parts(), doubles.stages())
    content = out.read_bytes()
    out.write_bytes(content[:-30])
    told = []

    def on_call(call, total):
        told.append((call is None, total))

    assert recognise_all([recordings], out, doubles.parts(), doubles.stages(), on_call) == whole
    assert out.read_bytes() == content
    assert told == [(True, 2), (False, 2)]


def test_what_cannot_be_done_is_one_line(doubles, recordings, tmp_path):
    (tmp_path / "other.jsonl").write_text('{"id": "something else"}\n')
    with pytest.raises(ConfigError, match=r"other\.jsonl: line 1"):
        recognise_all([recordings], tmp_path / "other.jsonl", doubles.parts(), doubles.stages())
    with pytest.raises(ConfigError, match="give another file with --out"):
        recognise_all([recordings], recordings, doubles.parts(), doubles.stages())
    labels = recordings / "en-scam-one.json"
    labels.write_text(json.dumps({k: v for k, v in json.loads(labels.read_text()).items() if k != "voices"}))
    with pytest.raises(MediaError, match="not labels of scamtap-train voice"):
        recognise_all([recordings], tmp_path / "heard.jsonl", doubles.parts(), doubles.stages())

"""``segmenter.detector`` at the doors: a replay with WebRTC's finds utterances, and no network is run for it."""

import json

import pytest
import soundfile

from inference.config import load_settings
from inference.service import models
from inference.service.demo_view import TINY

build_parts = models.build_parts  # before the doubles take its place


@pytest.fixture
def replayed(run, scripted, monkeypatch, tmp_path):
    """``replayed(config text)``: exit code, events, standard error of the demo's first 20 s; all segments say "so"."""
    monkeypatch.setattr(models, "build_parts", build_parts)
    monkeypatch.setattr(scripted.recogniser, "_words", lambda _samples: "so")
    samples, rate_hz = soundfile.read(TINY / "demo-scam.wav", dtype="int16", frames=8000 * 20)
    soundfile.write(tmp_path / "call.wav", samples, rate_hz, subtype="PCM_16")

    def replayed(text):
        config = tmp_path / "scamtap.yaml"
        config.write_text(text)
        code, out, err = run("replay", "--json", "--config", config, tmp_path / "call.wav")
        return code, [json.loads(line) for line in out.splitlines()], err

    return replayed


def test_a_replay_with_webrtc_finds_the_utterances_without_a_network(replayed, scripted):
    assert not hasattr(scripted.engine, "infer")  # whoever asks for the network fails
    code, events, err = replayed("segmenter: {detector: webrtc}")
    assert (code, err) == (0, "")
    heard = [event for event in events if event["type"] == "utterance"]
    turns = [
        turn
        for turn in json.loads((TINY / "demo-scam.json").read_text())["turns"]
        if turn["end_s"] < 19  # what is still spoken at the cut may be too short
    ]
    assert len(turns) >= 3
    for turn in turns:
        assert any(
            event["leg"] == turn["leg"] and event["start_s"] < turn["end_s"] and turn["start_s"] < event["end_s"]
            for event in heard
        )


def test_the_mode_reaches_the_detector(replayed):
    speech_s = [
        replayed(f"segmenter: {{detector: webrtc, webrtc_mode: {mode}}}")[1][-1]["speech_s"]["far"] for mode in (0, 3)
    ]
    assert speech_s[0] > speech_s[1] > 0


def test_a_detector_that_does_not_exist_is_one_line(replayed):
    code, events, err = replayed("segmenter: {detector: wertc}")
    assert (code, events, err.count("\n")) == (2, [], 1)
    assert "segmenter.detector: Input should be 'network' or 'webrtc'" in err


@pytest.mark.parametrize(
    ("name", "words"), [("network", "the network decides"), ("webrtc", "WebRTC's detector in mode 2 decides")]
)
def test_doctor_says_which_one_decides(run, name, words, monkeypatch):
    monkeypatch.setenv("SCAMTAP__SEGMENTER__DETECTOR", name)
    assert load_settings().segmenter.detector == name
    _, out, _ = run("doctor")
    (line,) = [line for line in out.splitlines() if "segmenter.detector" in line]
    assert line.startswith(f"ok   {words} what is speech")

"""A recording through the stages: waiting in real time, progress, and damage midway."""

import numpy as np
import pytest

from inference.errors import MediaError
from inference.gateway.recorded import LegBlock, RecordedCall
from inference.service.events import UtteranceEvent
from inference.service.replay import replay

BLOCK = 160


def recorded(far, *, fail_at=None):
    def blocks():
        for start in range(0, len(far), BLOCK):
            if fail_at is not None and start >= fail_at:
                raise MediaError("call.wav: damaged")
            yield LegBlock("far", start, far[start : start + BLOCK])
            yield LegBlock("near", start, np.zeros(BLOCK, np.int16))

    return RecordedCall("call", ("far", "near"), len(far) / 8000, blocks)


class Clock:
    """Time passes by sleeping alone."""

    def __init__(self) -> None:
        self.now_s = 50.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def test_realtime_waits_until_each_block_would_have_been_heard(doubles):
    clock = Clock()
    far = doubles.speech(doubles.HELLO, doubles.THREAT)
    events = replay(recorded(far), doubles.parts(), doubles.stages(clock), realtime=True, sleep=clock.sleep)
    heard_at = [(event, clock.now_s - 50.0) for event in events]
    assert clock.now_s - 50.0 == pytest.approx(len(far) / 8000)
    utterance, at_s = heard_at[0]
    assert at_s == pytest.approx(utterance.utterance.known_s, abs=0.04)
    assert max(clock.slept) <= BLOCK / 8000 + 1e-6


def test_a_machine_that_is_behind_does_not_sleep(doubles):
    clock = Clock()
    blocks = recorded(doubles.speech(doubles.HELLO))
    list(
        replay(
            blocks,
            doubles.parts(),
            doubles.stages(clock),
            realtime=True,
            sleep=clock.sleep,
            on_progress=lambda _at: setattr(clock, "now_s", clock.now_s + 1),
        )
    )
    assert set(clock.slept[2:]) == {0.0}


def test_without_realtime_nothing_waits_and_progress_is_told(doubles):
    clock, told = Clock(), []
    far = doubles.speech(doubles.HELLO)
    list(replay(recorded(far), doubles.parts(), doubles.stages(clock), sleep=clock.sleep, on_progress=told.append))
    assert clock.slept == []
    assert told == sorted(told)
    assert told[-1] == pytest.approx(len(far) / 8000)


def test_the_models_own_time_delays_the_alert_and_nothing_else(doubles):
    def run(models_take_s):
        clock = Clock()
        stages = doubles.stages(clock)
        transcribe = stages.recogniser.transcribe

        def slow(*arguments):
            clock.now_s += models_take_s
            return transcribe(*arguments)

        stages.recogniser.transcribe = slow
        return [e.to_json() for e in replay(recorded(doubles.speech(doubles.THREAT)), doubles.parts(), stages)]

    quick, slow = run(0.0), run(0.5)
    assert slow[1]["at_s"] == pytest.approx(quick[1]["at_s"] + 0.5)
    assert slow[0] == quick[0]
    assert quick[1]["evidence"] == slow[1]["evidence"]


def test_speech_still_open_at_the_end_is_understood(doubles):
    events = list(replay(recorded(doubles.tone(doubles.THREAT.hz, 0.5)), doubles.parts(), doubles.stages()))
    assert [event.to_json()["type"] for event in events] == ["utterance", "alert", "verdict"]


def test_one_utterance_however_bad_is_never_danger(doubles, monkeypatch):
    monkeypatch.setitem(doubles.BY_TEXT, doubles.THREAT.text, doubles.Phrase(700, doubles.THREAT.text, 11.0, "lure"))
    events = [e.to_json() for e in replay(recorded(doubles.speech(doubles.THREAT)), doubles.parts(), doubles.stages())]
    assert events[-1]["level"] == "suspect"


def test_damage_midway_is_told_after_what_was_heard(doubles):
    far = doubles.speech(doubles.HELLO, doubles.THREAT)
    events = replay(recorded(far, fail_at=len(far) // 2 + BLOCK), doubles.parts(), doubles.stages())
    assert next(events).to_json()["text"] == doubles.HELLO.text
    with pytest.raises(MediaError):
        next(events)


def test_opinions_are_waited_for_where_they_are_configured(run, scripted, doubles, endpoint, tmp_path):
    import json

    import soundfile

    scripted.scorer = doubles.ActScorer()
    wav, config = tmp_path / "call.wav", tmp_path / "scamtap.yaml"
    soundfile.write(wav, doubles.speech(doubles.HELLO, doubles.THREAT, doubles.FINE), 8000, subtype="PCM_16")
    config.write_text(
        f"{{segmenter: {{end_silence_s: 0.2, tail_s: 0.1, lead_in_s: 0.1}}, "
        f"opinion: {{url: '{endpoint.url}', model: double}}}}"
    )
    endpoint.says({1: ["claims_authority"], 2: ["threat"]})
    code, out, err = run("replay", "--json", "--config", config, wav)
    events = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [event["type"] for event in events] == [
        *("utterance", "utterance", "alert", "opinion", "alert", "utterance", "verdict")
    ]
    suspect, opinion, danger = events[2:5]
    assert (suspect["level"], opinion["level"], danger["level"]) == ("suspect", "danger", "danger")
    assert suspect["at_s"] <= opinion["at_s"] == danger["at_s"]
    assert "opinion asked for: danger" in run("replay", "--config", config, wav)[1]
    endpoint.writes("no")
    code, out, err = run("replay", "--json", "--config", config, wav)
    assert json.loads(out.splitlines()[-1])["level"] == "suspect"
    assert err.strip() == "1 opinion(s) asked for: 1 malformed"


def test_a_recording_is_held_back_by_the_gate_as_a_call_is(doubles):
    said = recorded(doubles.speech(doubles.HELLO, doubles.FINE, doubles.THREAT))
    read = {
        gates: [event.utterance.text for event in replay(said, doubles.gated_parts(), doubles.gated_stages(gates))
                if isinstance(event, UtteranceEvent)]
        for gates in ("overload", "always")
    }  # fmt: skip
    assert read == {
        "overload": [doubles.HELLO.text, doubles.FINE.text, doubles.THREAT.text],
        "always": [doubles.THREAT.text],
    }

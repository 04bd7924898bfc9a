"""The shipped models behind the same doors; skipped where they were not pulled. Speech here is synthetic."""

import asyncio
import json

import numpy as np
import pytest
import soundfile

from inference.errors import MediaError
from inference.gateway.recording import open_recording
from inference.gateway.spec import CallSpec
from inference.intent.context import ContextWindow, Said
from inference.service.demo_view import TINY
from inference.service.replay import replay
from inference.service.score import CallText, score_text

SHORT_S = 17  # two turns of the far party and one of the subscriber


@pytest.fixture(scope="session")
def short_call(tmp_path_factory):
    """The beginning of the demo's scam call: a µ-law stereo file."""
    samples, rate_hz = soundfile.read(TINY / "demo-scam.wav", dtype="int16", frames=8000 * SHORT_S)
    path = tmp_path_factory.mktemp("real") / "short.wav"
    soundfile.write(path, samples, rate_hz, subtype="ULAW")
    return path


def comparable(events):
    """Without what may differ: when the models were done, and packet counters."""
    return [{k: v for k, v in event.items() if k not in ("at_s", "id", "first_alert_s", "packets")} for event in events]


def test_the_streamed_path_gives_what_the_offline_path_gives(models, short_call, bench, spec_of, doubles):
    offline = [event.to_json() for event in replay(open_recording(short_call)[0], models.parts, models.stages)]
    samples, _ = soundfile.read(short_call, dtype="int16")
    legs = {30000 + 2 * column: doubles.packets(samples[:, column], ssrc=column + 1) for column in range(2)}

    async def run():
        async with bench(parts=models.parts, stages=models.stages) as b:
            follower = b.bus.follow()
            b.watch.begin(CallSpec.model_validate(spec_of("short")))
            await b.play(legs)
            await b.watch.end("short")
            return [event.to_json() for event in list(follower._waiting)]

    streamed = asyncio.run(run())
    assert comparable(streamed) == comparable(offline)
    words = " ".join(event["text"] for event in offline if event["type"] == "utterance").lower()
    assert "savings account is under attack" in words
    assert {event["leg"] for event in offline if event["type"] == "utterance"} == {"far", "near"}
    assert streamed[-1]["packets"]["far"]["lost"] == 0


def test_silence_and_noise_are_no_words(models, tmp_path):
    noise = np.random.default_rng(3).normal(0, 300, 8000 * 6).astype(np.int16)
    soundfile.write(tmp_path / "noise.wav", np.concatenate([np.zeros(16000, np.int16), noise]), 8000, subtype="PCM_16")
    events = list(replay(open_recording(tmp_path / "noise.wav")[0], models.parts, models.stages))
    assert [event.to_json()["type"] for event in events] == ["verdict"]
    assert events[-1].speech_s["far"] == 0


def scored(models, call):
    scorer = models.stages.scorer
    return score_text(scorer, models.settings.verdict.calibrated(scorer.calibration), CallText.model_validate(call))


def test_scoring_a_turn_of_several_sentences_hears_each(models):
    one = scored(
        models, {"id": "a", "turns": [{"leg": "far", "text": "Hello. " * 3 + "I am calling from the bank. " * 12}]}
    )
    assert len(one["risk"]) == 1
    assert list(one) == ["id", "level", "risk", "first_alert_turn", "family", "stage", "acts"]


def test_a_language_that_no_model_was_trained_on_is_refused_and_heard_live_it_is_no_evidence(models):
    ask = "Read me the code now, move the money to the safe account, and tell nobody."
    with pytest.raises(MediaError, match="call a: no intent model here judges fr"):
        scored(models, {"id": "a", "lang": "fr", "turns": [{"leg": "far", "text": ask}]})
    (heard,) = models.stages.scorer.score([ContextWindow(Said("far", ask), (), "fr")])
    assert heard.llr == 0.0


def test_text_and_one_far_turn_are_the_same(models):
    said = "This is the fraud desk. Your account is in danger. Read me the code we have just sent you."
    assert scored(models, {"id": "a", "text": said}) == scored(
        models, {"id": "a", "turns": [{"leg": "far", "text": said}]}
    )


@pytest.mark.parametrize("said", ["", " \n ", "?!", "\x00\x1b[2J", "word " * 300, "漢字" * 500, "🙂" * 300])
def test_any_text_can_be_scored(models, said):
    result = scored(models, {"id": "a", "turns": [{"leg": "far", "text": said}, {"leg": "near", "text": said}]})
    assert len(result["risk"]) == 2
    assert all(0 < risk < 1 for risk in result["risk"])
    json.dumps(result)

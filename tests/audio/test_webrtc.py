"""WebRTC's detector behind the door of the network: what it finds, and that legs and pieces do not change it."""

import json

import numpy as np
import pytest
import soundfile

from inference.audio import LEGS
from inference.audio.frames import FRAME_NUM_SAMPLES
from inference.audio.segmenter import Segmenter, SegmenterBank, SegmenterConfig, open_bank, push_all
from inference.audio.webrtc import WebrtcVad
from tests.audio.doubles import open_alone
from tests.conftest import ROOT

RATE = 8000
CALLS = ("demo-scam", "demo-bank")
WEBRTC = SegmenterConfig(detector="webrtc")


def no_network(frames, state):
    raise AssertionError("the network was asked")


def legs_of(name):
    """Samples and turns of both legs: ``[(int16 [num_samples], [(start_s, end_s)])]``."""
    samples, _ = soundfile.read(ROOT / f"datasets/tiny/{name}.wav", dtype="int16")
    turns = json.loads((ROOT / f"datasets/tiny/{name}.json").read_text())["turns"]
    return [
        (np.ascontiguousarray(column), [(turn["start_s"], turn["end_s"]) for turn in turns if turn["leg"] == leg])
        for leg, column in zip(LEGS, samples.T, strict=True)
    ]


def found_in(audio, config=WEBRTC):
    segmenter = Segmenter("far", open_bank(config, no_network))
    return segmenter.push(audio, 0) + segmenter.flush()


def told(segments):
    return [(s.start_s, s.end_s, s.known_s, s.is_cut, s.samples.tobytes()) for s in segments]


def noise(seconds, dbfs, seed=0):
    power = 32768 * 10 ** (dbfs / 20)
    return (np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * power).astype(np.int16)


def frames_of(audio):
    return audio[: len(audio) // FRAME_NUM_SAMPLES * FRAME_NUM_SAMPLES].reshape(-1, FRAME_NUM_SAMPLES)


def scores(vad, audio):
    state = vad.open(1)
    return np.concatenate([vad.score(frame[None], state) for frame in frames_of(audio)])


@pytest.mark.parametrize("name", CALLS)
def test_the_turns_of_a_call_are_found_and_nothing_else(name):
    for audio, turns in legs_of(name):
        inside = np.zeros(len(audio) // 80 + 1, np.bool_)  # per 10 ms
        for segment in found_in(audio):
            inside[round(segment.start_s * 100) : round(segment.end_s * 100)] = True
            assert any(segment.start_s < end and start < segment.end_s for start, end in turns)
        for start, end in turns:
            assert inside[round(start * 100) : round(end * 100)].mean() > 0.9


@pytest.mark.parametrize("mode", range(4))
def test_silence_and_the_noise_of_a_line_are_no_speech(mode):
    config = SegmenterConfig(detector="webrtc", webrtc_mode=mode)
    for sound in (np.zeros(10 * RATE, np.int16), noise(10, -60), noise(10, -50), noise(10, -42)):
        assert found_in(sound, config) == []


@pytest.mark.parametrize("mode", range(4))
def test_a_leg_that_begins_with_noise_does_not_begin_with_speech(mode):
    assert scores(WebrtcVad(mode), noise(2, -50)).max() == 0


def test_a_voice_from_the_first_sample_on_is_whole():
    (audio, turns), _ = legs_of("demo-scam")
    first = found_in(audio[round(turns[0][0] * RATE) :])[0]
    assert first.start_s == 0


def test_a_stricter_mode_takes_less_for_speech():
    (audio, _), _ = legs_of("demo-scam")
    quiet = (audio[: 30 * RATE] / 12).astype(np.int16)
    voiced = [scores(WebrtcVad(mode), quiet).mean() for mode in (0, 2, 3)]
    assert voiced == sorted(voiced, reverse=True)
    assert voiced[0] > 1.1 * voiced[2]


def test_a_score_is_a_share_that_one_voiced_decision_does_not_bring_to_the_threshold():
    (audio, _), _ = legs_of("demo-scam")
    heard = scores(WebrtcVad(2), audio)
    assert heard.dtype == np.float32
    assert 0.95 < heard.max() <= 1
    rises = heard[1:][(heard[:-1] < 0.01) & (heard[1:] > heard[:-1])]
    assert len(rises) > 0
    assert rises.max() < 0.5
    assert rises.min() < WEBRTC.threshold


def test_legs_in_one_batch_are_scored_as_each_alone():
    legs = [audio[at * RATE : (at + 8) * RATE] for name in CALLS for audio, _ in legs_of(name) for at in (0, 5)]
    vad = WebrtcVad(2)
    states = vad.open(len(legs))
    together = np.array([vad.score(np.stack(step), states) for step in zip(*map(frames_of, legs), strict=True)])
    assert together.max() > 0.9
    for column, audio in zip(together.T, legs, strict=True):
        assert np.array_equal(column, scores(vad, audio))


def test_legs_streamed_together_give_the_segments_of_each_alone_and_offline():
    legs = [audio for name in CALLS for audio, _ in legs_of(name)]
    legs = [audio[: 20 * RATE] for audio in legs]
    bank = open_bank(WEBRTC, no_network)
    segmenters = [Segmenter("far", bank) for _ in legs]
    rng, at, streamed = np.random.default_rng(5), [0] * len(legs), [[] for _ in legs]
    while any(at[row] < len(audio) for row, audio in enumerate(legs)):
        sizes = rng.choice([0, 1, 160, 255, 256, 480, 3000], len(legs)).tolist()
        pushes = [
            (segmenter, audio[begin : begin + size], begin, None)
            for segmenter, audio, begin, size in zip(segmenters, legs, at, sizes, strict=True)
        ]
        for row, segments in enumerate(push_all(pushes)):
            streamed[row] += segments
            at[row] = min(len(legs[row]), at[row] + sizes[row])
    for row, (segmenter, audio) in enumerate(zip(segmenters, legs, strict=True)):
        assert told(streamed[row] + segmenter.flush()) == told(found_in(audio))
    assert sum(map(len, streamed)) > 8


def test_silence_that_was_not_scored_lets_the_share_fall():
    vad = WebrtcVad(0)
    states = vad.open(2)
    (audio, turns), _ = legs_of("demo-scam")
    speech = audio[round(turns[0][0] * RATE) :][: 2 * RATE]
    for frame in frames_of(speech):
        before = vad.score(np.stack([frame, frame]), states)
        if before[0] > 0.9:
            break
    assert before[0] == before[1] > 0.9
    vad.skip(states, np.array([1, 30]))
    shares = np.array([state.share for state in states])
    assert shares == pytest.approx(before * np.exp(-np.array([1, 30]) * 32 / 100), rel=1e-4)


def test_a_leg_that_takes_the_row_of_another_hears_nothing_of_it():
    (audio, _), _ = legs_of("demo-bank")
    bank = SegmenterBank(WEBRTC, WebrtcVad(2))
    expected = told(open_alone(WEBRTC, WebrtcVad(2)).push(audio[: 12 * RATE], 0))
    assert expected
    for _ in range(3):
        leg = Segmenter("far", bank)
        assert told(leg.push(audio[: 12 * RATE], 0)) == expected
        leg.push(audio[12 * RATE : 13 * RATE], 12 * RATE)
        del leg


def test_the_detector_that_is_not_named_is_not_run():
    assert isinstance(open_bank(WEBRTC, no_network), SegmenterBank)
    with pytest.raises(AssertionError, match="network was asked"):
        open_bank(SegmenterConfig(), no_network)

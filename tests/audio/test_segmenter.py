from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from inference.audio.frames import FRAME_NUM_SAMPLES
from inference.audio.segmenter import FRAME_S, SegmenterConfig
from tests.audio.doubles import open_alone
from tests.thorough import cases

RATE = 8000


def tone(seconds, amplitude=8000):
    t = np.arange(round(seconds * RATE))
    return (amplitude * np.sin(t * 2 * np.pi * 300 / RATE)).astype(np.int16)


def silence(seconds):
    return np.zeros(round(seconds * RATE), np.int16)


def segments(audio, config=None, present=None):
    segmenter = open_alone(config)
    return segmenter.push(audio, 0, present) + segmenter.flush()


def test_speech_between_pauses_is_one_segment_with_lead_in_and_tail():
    (segment,) = segments(np.concatenate([silence(2), tone(1.5), silence(2)]))
    assert segment.leg == "far"
    assert not segment.is_cut
    assert segment.start_s == pytest.approx(2 - 0.4, abs=2 * FRAME_S)
    assert segment.end_s == pytest.approx(3.5 + 0.2, abs=2 * FRAME_S)
    assert segment.known_s == pytest.approx(3.5 + 0.7, abs=2 * FRAME_S)
    assert len(segment.samples) == round((segment.end_s - segment.start_s) * RATE)


def test_samples_are_those_heard_at_the_stated_time():
    audio = np.concatenate([silence(1), tone(1), silence(1.5), tone(0.7), silence(1)])
    for segment in segments(audio):
        start, end = round(segment.start_s * RATE), round(segment.end_s * RATE)
        assert np.array_equal(segment.samples, audio[start:end])


def test_a_short_pause_does_not_end_a_segment_and_a_long_one_does():
    assert len(segments(np.concatenate([tone(1), silence(0.5), tone(1), silence(1)]))) == 1
    assert len(segments(np.concatenate([tone(1), silence(1), tone(1), silence(1)]))) == 2


def test_clicks_make_no_segment():
    click = np.concatenate([tone(0.05), silence(1.5)])
    assert segments(np.tile(click, 10)) == []


def test_clicks_that_never_pause_make_no_segment():
    config = SegmenterConfig(min_speech_s=2)
    assert segments(np.tile(np.concatenate([tone(0.04), silence(0.6)]), 30), config) == []


def test_long_speech_is_cut_at_its_quietest_recent_point():
    words = [np.concatenate([tone(0.9), tone(0.1, amplitude=1500)]) for _ in range(20)]
    found = segments(np.concatenate(words))
    assert [segment.is_cut for segment in found] == [True] * (len(found) - 1) + [False]
    for segment in found[:-1]:
        assert segment.end_s - segment.start_s <= 8 + FRAME_S
        assert segment.end_s % 1 >= 0.88 or segment.end_s % 1 <= 0.04, "not in the quiet tenth of a second"
    for before, after in pairwise(found):
        assert before.end_s == after.start_s, "a cut must neither lose nor repeat samples"


def test_a_cut_segment_is_known_at_the_cap_not_at_the_pause():
    first = segments(tone(20))[0]
    assert first.known_s == pytest.approx(8, abs=2 * FRAME_S)


@settings(max_examples=cases(40, 60), deadline=None)
@given(st.data())
def test_any_chunking_gives_the_same_segments(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    parts = [
        tone(rng.uniform(0.05, 9), rng.choice([500, 3000, 12000]))
        if rng.random() < 0.5
        else silence(rng.uniform(0.02, 1.2))
        for _ in range(cases(5, 8))
    ]
    audio = np.concatenate(parts)
    present = np.repeat(rng.random(len(audio) // 160 + 1) > 0.1, 160)[: len(audio)]
    audio[~present] = 0
    whole = open_alone()
    expected = whole.push(audio, 0, present) + whole.flush()
    streamed = open_alone()
    got, at = [], 0
    step = len(audio) // cases(50, 200)
    while at < len(audio):
        size = data.draw(st.sampled_from([1, 80, 160, 255, 256, 257, 800, 5000, 40_000]))
        got += streamed.push(audio[at : at + size], at, present[at : at + size])
        at += max(size, step)  # what is left out here is pushed again, whole, below
        got += streamed.push(audio[:at], 0, present[:at])
    got += streamed.flush()
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert (a.start_s, a.end_s, a.known_s, a.is_cut) == (b.start_s, b.end_s, b.known_s, b.is_cut)
        assert np.array_equal(a.samples, b.samples)


@pytest.mark.parametrize("lost_s", [0.02, 0.06, 0.096])
def test_lost_packets_inside_speech_count_as_speech(lost_s):
    config = SegmenterConfig(end_silence_s=0.2, tail_s=0.1)
    audio = tone(3)
    present = np.ones(len(audio), np.bool_)
    for start in np.arange(0.3, 2.8, 0.35):
        present[round(start * RATE) : round((start + lost_s) * RATE)] = False
    audio[~present] = 0
    (segment,) = segments(
        np.concatenate([audio, silence(1)]), config, np.concatenate([present, np.ones(RATE, np.bool_)])
    )
    assert segment.end_s >= 3


def test_discontinuous_transmission_is_silence_and_is_not_scored():
    audio = np.concatenate([tone(1), silence(3)])
    present = np.concatenate([np.ones(RATE, np.bool_), np.zeros(3 * RATE, np.bool_)])
    segmenter = open_alone()
    (segment,) = segmenter.push(audio, 0, present)
    assert segment.end_s == pytest.approx(1.2, abs=0.15)
    assert segmenter.bank._states["scored"][segmenter.row] <= RATE // FRAME_NUM_SAMPLES + 1


def test_digital_silence_asks_no_detector():
    segmenter = open_alone()
    assert segmenter.push(silence(60), 0) == []
    assert segmenter.bank._states["scored"][segmenter.row] == 0


def test_a_jump_ahead_closes_the_segment_and_keeps_call_time():
    segmenter = open_alone()
    found = segmenter.push(tone(1), 0)
    found += segmenter.push(tone(1), 3600 * RATE + 17)
    found += segmenter.flush()
    assert [round(segment.start_s) for segment in found] == [0, 3600]
    assert found[0].known_s < 3, "a pause must close a segment when it is long enough, not when it is over"


def test_samples_already_heard_are_ignored():
    audio = np.concatenate([tone(1), silence(1)])
    segmenter = open_alone()
    found = segmenter.push(audio, 0) + segmenter.push(audio, 0) + segmenter.push(audio[4000:], 4000)
    assert len(found) == 1
    assert segmenter.position == len(audio)


def test_memory_of_a_leg_is_bounded():
    segmenter = open_alone()
    held = []
    for second, audio in enumerate([tone(1)] * 30 + [silence(1)] * 30):
        segmenter.push(audio, second * RATE)
        held.append(len(segmenter.bank._history[segmenter.row]))
    assert max(held) <= round(8.8 / FRAME_S)
    assert held[-1] <= round(0.4 / FRAME_S) + 1


def test_wrong_samples_are_refused():
    segmenter = open_alone()
    with pytest.raises(ValueError, match="int16"):
        segmenter.push(np.zeros(10, np.float32), 0)
    with pytest.raises(ValueError, match="presence"):
        segmenter.push(silence(0.1), 0, np.ones(3, np.bool_))


@pytest.mark.parametrize(
    "bad", [{"threshold": 0.1}, {"tail_s": 0.9, "end_silence_s": 0.5}, {"cut_window_s": 5}, {"treshold": 0.5}]
)
def test_a_config_that_contradicts_itself_is_refused(bad):
    with pytest.raises(ValidationError):
        SegmenterConfig(**bad)

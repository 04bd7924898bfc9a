"""Many legs decided on together are decided on as each alone, however their audio comes."""

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.audio import bank as room
from inference.audio.segmenter import Segmenter, SegmenterBank, SegmenterConfig, push_all
from inference.audio.vad import NeuralVad
from tests.audio.doubles import LoudnessVad, open_alone
from tests.audio.model import Model
from tests.conftest import ROOT
from tests.thorough import cases

CONFIGS = (
    SegmenterConfig(),
    SegmenterConfig(end_silence_s=0.2, tail_s=0.1, lead_in_s=0.1),
    SegmenterConfig(max_segment_s=2, cut_window_s=1, lead_in_s=0, min_speech_s=0.5),
    SegmenterConfig(threshold=0.9, exit_threshold=0.05),
)


def a_leg(rng):
    """Loud, quiet, clicking and silent stretches, with packets lost; int16 ``[num_samples]`` and what is there."""
    parts = []
    for _ in range(rng.integers(3, cases(8, 12))):
        num = int(rng.choice([40, 700, 4000, 9000, 30_000]))
        parts.append(rng.standard_normal(num) * rng.choice([0, 3, 60, 2500, 8000]))
    audio = np.concatenate(parts).clip(-32768, 32767).astype(np.int16)
    present = np.repeat(rng.random(len(audio) // 160 + 1) > rng.choice([0, 0.05, 0.5]), 160)[: len(audio)]
    audio[~present] = 0
    return audio, present


def told(segments):
    return [(s.start_s, s.end_s, s.known_s, s.is_cut, s.samples.tobytes()) for s in segments]


def streamed(segmenters, legs, sizes):
    """Push all legs in common batches, each a little of its own size a turn."""
    found, at = [[] for _ in legs], [0] * len(legs)
    while any(begin < len(audio) for begin, (audio, _) in zip(at, legs, strict=True)):
        pushes, who = [], []
        for row, (audio, present) in enumerate(legs):
            size = next(sizes)
            if size and at[row] < len(audio):
                some = slice(at[row], at[row] + size)
                pushes.append((segmenters[row], audio[some], at[row], present[some]))
                who.append(row)
                at[row] += size
        for row, new in zip(who, push_all(pushes), strict=True):
            found[row] += new
    return [told(row + segmenter.flush()) for row, segmenter in zip(found, segmenters, strict=True)]


def random_sizes(rng):
    while True:
        yield int(rng.choice([0, 1, 160, 255, 256, 480, 480, 480, 481, 5000]))


@settings(max_examples=cases(25, 60), deadline=None)
@given(seed=st.integers(0, 2**32 - 1), config=st.sampled_from(CONFIGS), together=st.integers(1, 4))
def test_legs_together_and_in_pieces_are_as_the_model_says_of_each_alone(seed, config, together):
    rng = np.random.default_rng(seed)
    legs = [a_leg(rng) for _ in range(5)]
    bank = SegmenterBank(config, LoudnessVad())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "CACHED_LEGS", together)
        got = streamed([Segmenter("far", bank) for _ in legs], legs, random_sizes(rng))
    for leg, row in zip(legs, got, strict=True):
        expected = Model(config, LoudnessVad()).hear(*leg)
        assert row == [(*times, samples.tobytes()) for *times, samples in expected]


def test_the_network_hears_a_leg_among_others_to_the_last_bit_as_alone(network):
    audio = [soundfile.read(ROOT / f"datasets/tiny/demo-{name}.wav", dtype="int16")[0].T for name in ("scam", "bank")]
    legs = [(leg[at * 8000 : (at + 12) * 8000], np.ones(12 * 8000, np.bool_)) for both in audio for leg in both
            for at in (0, 9)]  # fmt: skip
    bank = SegmenterBank(SegmenterConfig(), NeuralVad(network))
    rng = np.random.default_rng(2)
    got = streamed([Segmenter("far", bank) for _ in legs], legs, random_sizes(rng))
    assert sum(map(len, got)) > 10
    for (samples, present), row in zip(legs, got, strict=True):
        alone = open_alone(vad=NeuralVad(network))
        assert row == told(alone.push(samples, 0, present) + alone.flush())


def test_a_leg_that_is_gone_leaves_its_row_and_nothing_of_what_it_heard():
    bank = SegmenterBank(SegmenterConfig(), LoudnessVad())
    rng = np.random.default_rng(4)
    loud = (rng.standard_normal(8000) * 8000).astype(np.int16)
    stays = Segmenter("near", bank)
    stays.push(loud[:100], 0)
    expected = told(open_alone().push(np.concatenate([loud, np.zeros(8000, np.int16)]), 0))
    for _ in range(20):
        leg = Segmenter("far", bank)
        found = leg.push(np.concatenate([loud, np.zeros(8000, np.int16)]), 0)
        assert told(found) == expected
        leg.push(loud[:5000], 16_000)  # gone in the middle of a word
        del leg
    assert len(bank._legs) == 2
    assert stays.position == 100
    assert sum(map(len, bank._history)) == 0


def test_legs_of_two_banks_in_one_push_keep_apart():
    strict = SegmenterConfig(threshold=0.9, exit_threshold=0.9)
    rng = np.random.default_rng(6)
    audio = np.concatenate([(rng.standard_normal(8000) * 3000).astype(np.int16), np.zeros(8000, np.int16)])
    banks = [SegmenterBank(config, LoudnessVad()) for config in (SegmenterConfig(), strict)]
    legs = [Segmenter("far", banks[row % 2]) for row in range(4)]
    found = push_all([(leg, audio, 0, None) for leg in legs])
    assert [len(row) for row in found] == [1, 0, 1, 0]


def test_a_detector_that_fails_once_costs_a_frame_and_not_the_leg():
    class Failing(LoudnessVad):
        is_failing = False

        def score(self, frames, states):
            if self.is_failing:
                raise RuntimeError("no memory")
            return super().score(frames, states)

    vad = Failing()
    leg = open_alone(vad=vad)
    loud = np.full(8000, 8000, np.int16)
    leg.push(loud, 0)
    vad.is_failing = True
    with pytest.raises(RuntimeError, match="no memory"):
        leg.push(loud[:480], 8000)
    vad.is_failing = False
    (segment,) = leg.push(np.concatenate([loud, np.zeros(16_000, np.int16)]), 8480)
    assert segment.start_s == 0
    assert segment.end_s == pytest.approx(8480 / 8000 + 1 + 0.2, abs=0.07)

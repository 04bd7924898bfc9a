"""Our own recogniser still understands a demo line behind every codec and concealment."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from training.recordings import fare
from training.voice.channel import lost_packets
from training.voice.coding import CODECS, code, hops

TINY = Path(__file__).parents[3] / "datasets" / "tiny"
SHOWN_S = 24.0
CHAINS = (*CODECS, "amr>pcma", "amr>pcmu>amr", "opus>pcmu", "g722>pcma")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def line():
    """The first turns of the far party of a demo call: samples and labels."""
    labels = json.loads((TINY / "demo-bank.json").read_text(encoding="utf-8"))
    samples, _ = sf.read(TINY / "demo-bank.wav", dtype="int16")
    turns = [turn for turn in labels["turns"] if turn["leg"] == "far" and turn["end_s"] < SHOWN_S]
    assert len(turns) >= 2
    return samples[: round(SHOWN_S * 8000), 0], {**labels, "turns": turns}


def word_error_rate(samples, line, models, folder):
    path = folder / "line.wav"
    sf.write(path, np.stack([samples, np.zeros_like(samples)], axis=1), 8000, subtype="PCM_16")
    fared = fare(path, line[1], models.parts, models.stages)
    return fared.num_errors / fared.num_words


@pytest.mark.parametrize("chain", CHAINS)
def test_a_demo_line_is_understood_behind_a_codec(chain, line, models, tmp_path):
    samples = line[0]
    for codec in hops(chain):
        samples = code(samples, codec, bit_rate=7400 if codec == "amr" else 16_000)
    assert word_error_rate(samples, line, models, tmp_path) <= word_error_rate(line[0], line, models, tmp_path) + 0.15


@pytest.mark.parametrize("codec", CODECS)
def test_a_demo_line_is_understood_with_three_in_a_hundred_packets_filled_in(codec, line, models, tmp_path):
    lost = lost_packets(line[0].size // 160, 0.03, 1.5, np.random.default_rng(1))
    samples = code(line[0], codec, bit_rate=12_200 if codec == "amr" else 16_000, lost=lost)
    assert word_error_rate(samples, line, models, tmp_path) <= word_error_rate(line[0], line, models, tmp_path) + 0.2

"""What labels say of a line is what can be measured on it."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.voice.channel import speech_level_db
from training.voice.line import Line, background, carry, echo, leg_facts, level, pauses

SECONDS = 15
SIZE = SECONDS * 8000
PACKETS = SECONDS * 50


def talk(seed, turns=((0.1, 0.4), (0.6, 0.9))):
    """Bursts of sound in the band, silence between: ``turns`` as shares of the whole."""
    rng = np.random.default_rng(seed)
    t_s = np.arange(SIZE) / 8000
    carrier = sum(np.sin(2 * np.pi * hz * t_s + rng.random()) for hz in (500, 900, 1700, 2300))
    out = np.zeros(SIZE)
    for start, end in turns:
        out[int(start * SIZE) : int(end * SIZE)] = 0.1 * carrier[int(start * SIZE) : int(end * SIZE)]
    return out


def murmur(voices, num_samples, rng):
    noise = rng.standard_normal(num_samples) * (1 + len(voices))
    return noise / np.sqrt(np.mean(noise**2))


def no_babble(voices, num_samples, rng):
    raise AssertionError("nobody was to talk")


QUIET = np.zeros(SIZE)
SPEECH = {"far": talk(1), "near": talk(2, ((0.45, 0.55),))}


def carried(line, near=None, sounds=None, babble=murmur, seed=1):
    rngs = {"far": np.random.default_rng([seed, 1]), "near": np.random.default_rng([seed, 2])}
    besides = {"far": QUIET if sounds is None else sounds, "near": QUIET}
    return carry(SPEECH, besides, {"far": line, "near": near or line}, rngs, babble)


def db(signal):
    return 10 * np.log10(np.mean(np.asarray(signal, float) ** 2) + 1e-20)


@given(
    noise=st.sampled_from(["line", "room", "hum", "babble"]),
    snr_db=st.floats(0, 25),
    level_dbfs=st.floats(-32, -12),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None)
def test_speech_is_snr_db_above_the_noise_whatever_that_is(noise, snr_db, level_dbfs, seed):
    line = Line(noise=noise, snr_db=snr_db, level_dbfs=level_dbfs, babblers=("af_nova",))
    signal = level(SPEECH["far"], QUIET, line)
    hiss = background(line, SIZE, np.random.default_rng(seed), murmur)
    assert speech_level_db(signal) == pytest.approx(level_dbfs, abs=0.1)
    assert speech_level_db(signal) - db(hiss) == pytest.approx(snr_db, abs=0.5)


@pytest.mark.parametrize("codec", ["pcmu", "pcma", "g722", "opus"])
@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_the_snr_is_still_so_behind_the_codec(codec, snr_db):
    # A single hop that keeps waveforms; AMR models noise as something else.
    line = Line(snr_db=snr_db, level_dbfs=-20, noise="room", codec=codec, bit_rate=24_000 if codec == "opus" else 0)
    samples = carried(line)["far"].samples / 32768
    pause, speech = samples[int(0.42 * SIZE) : int(0.58 * SIZE)], samples[int(0.12 * SIZE) : int(0.38 * SIZE)]
    measured = 10 * np.log10((10 ** (db(speech) / 10) - 10 ** (db(pause) / 10)) / 10 ** (db(pause) / 10))
    assert measured == pytest.approx(snr_db, abs=3.5)  # room noise swells by 4 dB


@pytest.mark.parametrize("codec", ["pcmu", "pcma>pcmu", "g722", "amr", "amr>pcma"])
@given(loss=st.floats(0.005, 0.1), burst=st.floats(1, 3), seed=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_the_loss_said_is_the_loss_heard(codec, loss, burst, seed):
    line = Line(snr_db=15, codec=codec, bit_rate=12_200, loss=loss, burst=burst, concealed=False)
    far = carried(line, near=Line(), seed=seed)["far"]
    assert far.samples.shape == (SIZE,)
    head = np.abs(far.samples.reshape(-1, 160)[:, :60].astype(int)).max(axis=1)  # codecs' delays move the tail
    tiny = 10 if codec.endswith("pcma") else 0  # A-law has no zero
    assert np.mean(head <= tiny) == pytest.approx(far.loss, abs=1.5 / PACKETS)


def test_no_loss_leaves_no_hole_and_the_mean_loss_is_what_was_aimed_at():
    assert carried(Line(snr_db=15))["far"].loss == 0
    shares = [carried(Line(snr_db=15, loss=0.06, burst=2), seed=seed)["far"].loss for seed in range(12)]
    assert np.mean(shares) == pytest.approx(0.06, abs=0.012)


def test_the_other_partys_voice_comes_back_late_and_weaker():
    other = level(SPEECH["near"], QUIET, Line(level_dbfs=-20))
    back = echo(other, Line(echo_db=25, echo_ms=120))
    start = np.flatnonzero(np.abs(back) > 1e-4)[0] / 8000
    first = np.flatnonzero(np.abs(other) > 1e-3)[0] / 8000
    assert start - first == pytest.approx(0.12, abs=0.02)
    assert speech_level_db(other) - speech_level_db(back) == pytest.approx(25, abs=1)
    assert not echo(other, Line()).any()
    assert echo(other, Line(echo_db=20, echo_ms=1e6)).size == SIZE


def test_an_echo_is_heard_on_the_leg_it_is_of_and_no_other():
    quiet = Line(snr_db=60)
    with_echo = carried(replace(quiet, echo_db=20, echo_ms=5), near=quiet)
    without = carried(quiet)
    while_near_talks = slice(int(0.47 * SIZE), int(0.53 * SIZE))
    assert db(with_echo["far"].samples[while_near_talks]) > db(without["far"].samples[while_near_talks]) + 20
    assert np.array_equal(with_echo["near"].samples, without["near"].samples)


def test_a_sender_with_dtx_keeps_pauses_to_itself_and_no_speech():
    signal = level(SPEECH["far"], QUIET, Line())
    silent = pauses(signal, -20)
    said = np.array([db(packet) > -40 for packet in signal.reshape(-1, 160)])
    assert not (silent & said).any()
    assert silent.mean() == pytest.approx(0.4 - 2 * 10 / PACKETS, abs=0.02)  # the hangover is sent after each turn
    samples = carried(Line(snr_db=20, dtx=True))["far"].samples
    assert not samples[: int(0.09 * SIZE)].any()
    assert samples[int(0.12 * SIZE) : int(0.38 * SIZE)].any()


def test_sounds_stand_at_the_level_of_speech_and_do_not_move_it():
    music = np.zeros(SIZE)
    music[: int(0.08 * SIZE)] = np.sin(2 * np.pi * 800 * np.arange(int(0.08 * SIZE)) / 8000) * np.sqrt(2)
    line = Line(level_dbfs=-22)
    signal = level(SPEECH["far"], music, line)
    assert db(signal[800 : int(0.07 * SIZE)]) == pytest.approx(-22, abs=0.3)
    assert np.allclose(signal[int(0.2 * SIZE) :], level(SPEECH["far"], QUIET, line)[int(0.2 * SIZE) :], atol=1e-6)


def test_the_same_numbers_make_the_same_line_and_others_do_not():
    line = Line(noise="babble", babblers=("a", "b"), snr_db=8, codec="amr>pcma", bit_rate=7400, loss=0.05, dtx=True)
    one, same, other = (carried(line, seed=seed) for seed in (1, 1, 2))
    for leg in ("far", "near"):
        assert np.array_equal(one[leg].samples, same[leg].samples)
        assert not np.array_equal(one[leg].samples, other[leg].samples)


def test_nobody_babbles_where_the_noise_is_another():
    for noise in ("line", "room", "hum"):
        carried(Line(noise=noise), babble=no_babble)


def test_facts_of_old_and_new_lines_are_the_same_fields():
    voices = {"far": "af_nova", "near": "en-gb+klatt2@35"}
    old = {"law": "alaw", "snr_db": 20.0, "loss": 0.02, "conceal": "zeros"}
    new = {"codec": "amr>pcma", "snr_db": 12.0, "loss": 0.02, "concealed": True}
    facts = leg_facts(voices, {"far": new, "near": old}, {"far": 0.0234567, "near": 0.03})
    assert facts["far"] == {"codec": "amr>pcma", "snr_db": 12.0, "loss": 0.0235, "concealed": True, "gender": "female"}
    assert facts["near"] == {"codec": "pcma", "snr_db": 20.0, "loss": 0.03, "concealed": False, "gender": "male"}
    assert leg_facts(voices, {"far": new, "near": old})["far"]["loss"] == 0.02


def test_all_silent_legs_get_noise_alone_and_no_fault():
    speech = {"far": QUIET, "near": QUIET}
    rngs = {leg: np.random.default_rng(1) for leg in speech}
    for codec, dtx in itertools.product(("pcmu", "amr>pcma", "opus", "g722"), (False, True)):
        line = Line(codec=codec, bit_rate=12_200, dtx=dtx, echo_db=20, echo_ms=10)
        assert carry(speech, speech, {"far": line, "near": line}, rngs, no_babble)["far"].samples.size == SIZE

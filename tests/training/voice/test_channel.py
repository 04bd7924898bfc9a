import numpy as np
import pytest

from inference.rtp.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw
from training.voice.channel import (
    PACKET_NUM_SAMPLES,
    Channel,
    band_limit,
    conceal,
    draw_channel,
    lost_packets,
    make_noise,
    speech_level_db,
    transmit,
)

T_S = np.arange(2 * 8000) / 8000


def tone(hz, amplitude=0.3):
    return amplitude * np.sin(2 * np.pi * hz * T_S)


def db(signal):
    return 10 * np.log10(np.mean(np.asarray(signal, float) ** 2) + 1e-20)


@pytest.mark.parametrize(("hz", "passes"), [(100, False), (600, True), (1000, True), (3000, True), (3800, False)])
def test_only_the_telephone_band_passes(hz, passes):
    loss_db = db(tone(hz)[500:-500]) - db(band_limit(tone(hz), 300, 3400)[500:-500])
    assert loss_db == pytest.approx(0, abs=0.5) if passes else loss_db > 30


def test_band_limiting_does_not_move_a_click():
    click = np.zeros(4000)
    click[1234] = 1
    assert np.argmax(band_limit(click, 300, 3400)) == 1234
    assert band_limit(click, 300, 3400).size == 4000


@pytest.mark.parametrize("level_dbfs", [-32.0, -20.0, -12.0])
def test_speech_arrives_at_the_level_asked_for(level_dbfs):
    speech = np.where((T_S > 0.5) & (T_S < 1.5), tone(800), 0)
    out = transmit(speech, Channel(level_dbfs=level_dbfs, snr_db=60), np.random.default_rng(1))
    assert speech_level_db(out / 32768) == pytest.approx(level_dbfs, abs=0.5)


@pytest.mark.parametrize("noise", ["line", "room", "hum"])
@pytest.mark.parametrize("snr_db", [10.0, 30.0])
def test_noise_lies_snr_below_speech_also_in_pauses(noise, snr_db):
    speech = np.where(T_S < 1, tone(800), 0)
    out = transmit(speech, Channel(level_dbfs=-16, noise=noise, snr_db=snr_db), np.random.default_rng(1)) / 32768
    assert db(out[8200:]) == pytest.approx(-16 - snr_db, abs=3)  # room noise swells by 4 dB


def test_silence_in_is_noise_alone_out():
    out = transmit(np.zeros(8000), Channel(level_dbfs=-20, snr_db=20), np.random.default_rng(1))
    assert db(out / 32768) == pytest.approx(-40, abs=1)


@pytest.mark.parametrize(
    ("law", "encode", "decode"), [("ulaw", encode_ulaw, decode_ulaw), ("alaw", encode_alaw, decode_alaw)]
)
def test_what_leaves_is_what_that_law_can_say(law, encode, decode):
    out = transmit(tone(700), Channel(law=law), np.random.default_rng(3))
    assert np.array_equal(decode(encode(out)), out)


def test_a_hot_line_clips_instead_of_wrapping():
    speech = tone(500) * (1 + 20 * (np.arange(T_S.size) % 4000 < 200))
    out = transmit(speech, Channel(level_dbfs=-3, snr_db=60), np.random.default_rng(1))
    assert np.abs(np.diff(out.astype(int))).max() < 40000


@pytest.mark.parametrize(("loss", "burst"), [(0.01, 1.0), (0.05, 2.5)])
def test_packets_are_lost_as_often_and_in_such_runs_as_said(loss, burst):
    lost = lost_packets(200_000, loss, burst, np.random.default_rng(5))
    starts = np.count_nonzero(lost[1:] & ~lost[:-1])
    assert lost.mean() == pytest.approx(loss, rel=0.1)
    assert lost.sum() / starts == pytest.approx(burst, rel=0.1)


def test_no_loss_loses_nothing():
    assert not lost_packets(1000, 0, 2, np.random.default_rng(1)).any()


def test_lost_packets_repeat_the_one_before_and_fade():
    samples = np.full(PACKET_NUM_SAMPLES * 4, 8000, np.int16)
    lost = np.array([False, True, True, False])
    assert conceal(samples, lost, "repeat")[::PACKET_NUM_SAMPLES].tolist() == [8000, 4000, 2000, 8000]
    assert conceal(samples, lost, "zeros")[::PACKET_NUM_SAMPLES].tolist() == [8000, 0, 0, 8000]


def test_a_lost_first_or_short_last_packet_is_no_trouble():
    samples = np.full(PACKET_NUM_SAMPLES * 2 + 7, 8000, np.int16)
    out = conceal(samples, np.array([True, False, True]), "repeat")
    assert out[0] == 0
    assert out[-7:].tolist() == [4000] * 7
    assert out.size == samples.size


def test_drawn_lines_stay_in_range_and_follow_the_seed():
    drawn = [draw_channel(np.random.default_rng(i)) for i in range(300)]
    assert drawn[7] == draw_channel(np.random.default_rng(7))
    assert all(-32 <= c.level_dbfs <= -12 and 10 <= c.snr_db <= 30 and 0 <= c.loss <= 0.05 for c in drawn)
    assert {c.law for c in drawn} == {"ulaw", "alaw"}
    assert {c.noise for c in drawn} == {"line", "room", "hum"}
    assert 0.4 < np.mean([c.loss == 0 for c in drawn]) < 0.6


def test_noise_is_of_unit_level():
    for kind in ("line", "room", "hum"):
        assert db(make_noise(kind, 16000, np.random.default_rng(2))) == pytest.approx(0, abs=1e-6)

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.errors import ConfigError, MediaError
from inference.gateway.recording import open_recording

RATE = 8000


def sine(seconds, hz, rate=RATE):
    return 0.5 * np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * hz / rate)


def listen(call):
    out = {}
    for block in call.blocks():
        out.setdefault(block.leg, []).append(block)
    for blocks in out.values():
        assert [b.start_sample for b in blocks] == [320 * i for i in range(len(blocks))]
    return {leg: np.concatenate([b.samples for b in blocks]) for leg, blocks in out.items()}


def test_mono_is_the_far_leg_and_16_bit_at_8_khz_is_exact(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32767, 20_001).astype(np.int16)
    soundfile.write(tmp_path / "call.wav", samples, RATE, subtype="PCM_16")
    (call,) = open_recording(tmp_path / "call.wav")
    assert (call.id, call.legs, call.packets) == ("call", ("far",), None)
    assert call.duration_s == pytest.approx(20_001 / RATE)
    assert np.array_equal(listen(call)["far"], samples)
    assert np.array_equal(listen(call)["far"], samples), "a call can be read again"


@pytest.mark.parametrize("far_channel", [0, 1])
def test_stereo_channels_go_to_their_legs(tmp_path, far_channel):
    stereo = np.stack([np.full(5000, 1000), np.full(5000, -2000)], axis=1).astype(np.int16)
    soundfile.write(tmp_path / "call.flac", stereo, RATE)
    (call,) = open_recording(tmp_path / "call.flac", far_channel=far_channel)
    legs = listen(call)
    assert set(legs["far"]) == {(1000, -2000)[far_channel]}
    assert set(legs["near"]) == {(-2000, 1000)[far_channel]}


@pytest.mark.parametrize("rate", [11025, 16000, 44100, 48000])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_other_rates_and_float_are_converted(tmp_path, rate, subtype):
    soundfile.write(tmp_path / "call.wav", sine(3.3, 440, rate), rate, subtype=subtype)
    (call,) = open_recording(tmp_path / "call.wav")
    got = listen(call)["far"]
    want = sine(3.3, 440) * 32768
    assert len(got) == pytest.approx(len(want), abs=2)
    middle = slice(800, -800)
    assert np.abs(got[: len(want)][middle] - want[: len(got)][middle]).max() < 60


def test_float_beyond_full_scale_is_clipped_and_nan_is_silence(tmp_path):
    wave = np.array([0.0, 4.0, -4.0, np.nan, np.inf, 0.5] * 400)
    soundfile.write(tmp_path / "call.wav", wave, RATE, subtype="FLOAT")
    (call,) = open_recording(tmp_path / "call.wav")
    assert set(listen(call)["far"]) == {0, 32767, -32768, 16384}


def test_g711_in_wav(tmp_path):
    soundfile.write(tmp_path / "call.wav", sine(1, 440), RATE, subtype="ULAW")
    (call,) = open_recording(tmp_path / "call.wav")
    assert np.abs(listen(call)["far"] - sine(1, 440) * 32768).max() < 520


def make(path, content):
    path.write_bytes(content)
    return path


def wav(tmp_path, channels=1, rate=RATE, num=100):
    soundfile.write(tmp_path / "made.wav", np.zeros((num, channels)), rate, subtype="PCM_16")
    return (tmp_path / "made.wav").read_bytes()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (lambda p: b"", "empty"),
        (lambda p: b"hello, this is text", "not a readable recording"),
        (lambda p: wav(p, channels=4), "4 channels"),
        (lambda p: wav(p, rate=100), "sample rate 100 Hz"),
        (lambda p: wav(p, num=0), "no samples"),
        (lambda p: wav(p)[:30], "not a readable recording"),
        (lambda p: wav(p)[:44], "no samples"),
    ],
)
def test_bad_files_give_one_clear_line(tmp_path, content, what):
    path = make(tmp_path / "call.wav", content(tmp_path))
    with pytest.raises(MediaError, match=what) as caught:
        open_recording(path)
    assert "\n" not in str(caught.value)
    assert "call.wav" in str(caught.value)


def test_missing_files_folders_and_raw_samples(tmp_path):
    for path in (tmp_path / "none.wav", tmp_path):
        with pytest.raises(MediaError, match="cannot be read"):
            open_recording(path)
    with pytest.raises(MediaError, match="convert to WAV"):
        open_recording(make(tmp_path / "call.raw", bytes(3000)))


def test_options_that_do_not_fit(tmp_path):
    path = make(tmp_path / "call.wav", wav(tmp_path))
    with pytest.raises(ConfigError, match="--far-channel"):
        open_recording(path, far_channel=1)
    with pytest.raises(ConfigError, match="--far-channel"):
        open_recording(path, far="0x1234")


def test_a_wav_cut_short_gives_what_it_holds(tmp_path):
    whole = wav(tmp_path, num=8000)
    (call,) = open_recording(make(tmp_path / "call.wav", whole[:8044]))
    assert len(listen(call)["far"]) == 4000


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_recordings_never_end_in_a_traceback(tmp_path, data):
    kind = data.draw(st.sampled_from(["wav", "flac"]))
    path = tmp_path / f"x.{kind}"
    soundfile.write(path, sine(0.3, 440), RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(len(content) - 1, 120)))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        for call in open_recording(path):
            total = sum(len(block.samples) for block in call.blocks())
            assert total <= 8 * len(content)
    except MediaError as error:
        assert "\n" not in str(error)  # noqa: PT017

"""AMR payloads (RFC 4867): written and read again, cut short, and made by another implementation."""

import shutil
import socket
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import PacketError
from inference.rtp import durations, layout
from inference.rtp.codecs.amr import MAX_FRAMES, SPEECH_BITS, WIDE_SPEECH_BITS, AmrFrame, AmrPayload
from inference.rtp.jit import plain
from inference.rtp.packet import RtpPacket
from tests.rtp.voices import payloads
from tests.thorough import cases

measure = plain(durations.measure)
CODECS = {
    (False, False): layout.CODEC_AMR,
    (False, True): layout.CODEC_AMR_ALIGNED,
    (True, False): layout.CODEC_AMR_WB,
    (True, True): layout.CODEC_AMR_WB_ALIGNED,
}


def measured(packed: bytes, is_wide: bool, is_aligned: bool) -> tuple[int, bool]:
    """What the kernel makes of it."""
    row = np.frombuffer(packed, np.uint8)[None]
    return measure(CODECS[is_wide, is_aligned], row, 0, 0, len(packed))


@st.composite
def a_payload(draw: st.DrawFn) -> tuple[AmrPayload, bool, bool]:
    is_wide, is_aligned = draw(st.booleans()), draw(st.booleans())
    sizes = WIDE_SPEECH_BITS if is_wide else SPEECH_BITS
    frames = []
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from([*range(len(sizes)), 15]))
        num = sizes[kind] if kind < len(sizes) else 0
        bits = draw(st.integers(0, (1 << num) - 1)) << (-num % 8)
        frames.append(AmrFrame(kind, draw(st.booleans()), bits.to_bytes((num + 7) // 8)))
    return AmrPayload(draw(st.integers(0, 15)), tuple(frames)), is_wide, is_aligned


@given(a_payload(), st.data())
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read_and_what_is_cut_is_refused(made: tuple[AmrPayload, bool, bool], data) -> None:
    payload, is_wide, is_aligned = made
    packed = payload.to_bytes(is_aligned=is_aligned, is_wide=is_wide)
    assert AmrPayload.parse(packed, is_wide=is_wide, is_aligned=is_aligned) == payload
    num, is_noise = measured(packed, is_wide, is_aligned)
    assert num == 160 * len(payload.frames)
    assert is_noise == all(frame.frame_type >= (9 if is_wide else 8) for frame in payload.frames)
    cut = packed[: data.draw(st.integers(0, len(packed) - 1))]
    with pytest.raises(PacketError, match="truncated"):
        AmrPayload.parse(cut, is_wide=is_wide, is_aligned=is_aligned)


@given(st.binary(max_size=400), st.booleans(), st.booleans())
@settings(max_examples=cases(1500, 10_000), deadline=None)
def test_any_bytes_are_a_payload_or_a_packet_error(data: bytes, is_wide: bool, is_aligned: bool) -> None:
    try:
        payload = AmrPayload.parse(data, is_wide=is_wide, is_aligned=is_aligned)
    except PacketError:
        return
    num, _ = measured(data, is_wide, is_aligned)
    assert num == 160 * len(payload.frames)


def test_every_bit_of_a_bandwidth_efficient_payload() -> None:
    """As RFC 4867 section 4.3.4 draws it: CMR 6, one frame of mode 0 (4.75 kbit/s, 95 bits), good; 7 bits to fill."""
    speech = "10" * 47 + "1"
    bits = "0110" + "0" + "0000" + "1" + speech + "0" * 7
    data = int(bits, 2).to_bytes(14)
    payload = AmrPayload.parse(data, is_wide=False, is_aligned=False)
    (frame,) = payload.frames
    assert (payload.mode_request, frame.frame_type, frame.is_good) == (6, 0, True)
    assert frame.data == int(speech + "0", 2).to_bytes(12)
    assert bytes(frame) == b"\x04" + frame.data


def test_two_frames_octet_aligned_each_on_bytes_of_its_own() -> None:
    """Section 4.4.2: a table of contents, then the frames; the second is comfort noise (39 bits)."""
    data = b"\xf0" + bytes([0x80 | 7 << 3 | 4, 8 << 3]) + b"\xaa" * 30 + b"\xa0" + b"\x11" * 5
    payload = AmrPayload.parse(data, is_wide=False, is_aligned=True)
    assert [(f.frame_type, f.is_good, len(f.data)) for f in payload.frames] == [(7, True, 31), (8, False, 5)]


def test_reserved_frames_and_endless_tables_are_refused() -> None:
    for frame_type, is_wide in ((12, False), (14, False), (10, True), (13, True)):
        with pytest.raises(PacketError, match=f"frame type {frame_type} is reserved"):
            AmrPayload.parse(bytes([0xF0, frame_type << 3 | 4]) + bytes(80), is_wide=is_wide, is_aligned=True)
    with pytest.raises(PacketError, match=f"more than {MAX_FRAMES} frames"):
        AmrPayload.parse(b"\xf0" + b"\xfc" * 200, is_wide=False, is_aligned=True)


@pytest.mark.gateway
@pytest.mark.parametrize(("key", "magic"), [("AMR", b"#!AMR\n"), ("AMR-WB", b"#!AMR-WB\n")])
def test_ffmpeg_packs_the_same_frames(key: str, magic: bytes, tmp_path) -> None:
    """Its RTP muxer writes the octet-aligned form."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("needs ffmpeg")
    is_wide = key == "AMR-WB"
    frames = [
        AmrPayload.parse(payload, is_wide=is_wide, is_aligned=False).frames[0] for _, payload in payloads(key)[:60]
    ]
    recording = tmp_path / "voice.amr"
    recording.write_bytes(magic + b"".join(map(bytes, frames)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(30)
        url = f"rtp://127.0.0.1:{sock.getsockname()[1]}?pkt_size=200"
        command = [ffmpeg, "-v", "error", "-re", "-f", "amr", "-i", str(recording)]
        subprocess.run([*command, "-c", "copy", "-f", "rtp", url], check=True, timeout=90, stdout=subprocess.DEVNULL)
        heard: list[AmrFrame] = []
        while len(heard) < 40:  # several to a packet; the last few it keeps to itself
            payload = RtpPacket.parse(sock.recv(2000)).payload
            heard += AmrPayload.parse(payload, is_wide=is_wide, is_aligned=True).frames
    assert heard == frames[: len(heard)]

"""Make the golden payloads: one voice through the encoders of others, a packet every 20 ms (30 for one iLBC).

    python tests/golden/codecs/make.py

Needs Debian's libbcg729-0, libvo-amrwbenc0, libgsm1 and libopus0; AMR and G.722 come from PyAV. No package holds an
iLBC encoder: those two files are the payloads of pjsip 2.15 in calls on loopback that played the same voice, 2.5 s
of each.

A file is ``(timestamp: uint32, size: uint16, payload)`` per packet, big-endian; timestamps in the codec's RTP clock.
"""

import ctypes
import struct
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

FOLDER = Path(__file__).parent


def voice() -> np.ndarray:
    """int16 ``[36000]`` at 8 kHz: 2.5 s of speech, a second of faint noise, a second of speech."""
    clip, rate_hz = soundfile.read(FOLDER.parent / "speech" / "clip.flac", dtype="int16")
    assert rate_hz == 8000
    noise = np.random.default_rng(1).integers(-8, 9, 8000).astype(np.int16)
    return np.concatenate([clip[:20000], noise, clip[20000:28000]])


def wide() -> np.ndarray:
    return soxr.resample(voice(), 8000, 16000).astype(np.int16)


def write(name: str, payloads: list[tuple[int, bytes]]) -> None:
    data = b"".join(struct.pack("!IH", at, len(payload)) + payload for at, payload in payloads)
    (FOLDER / f"{name}.bin").write_bytes(data)


def frames(signal: np.ndarray, size: int) -> list[np.ndarray]:
    return [np.ascontiguousarray(signal[at : at + size]) for at in range(0, len(signal) - size + 1, size)]


def through_av(name: str, signal: np.ndarray, rate_hz: int, size: int, **options: str) -> list[bytes]:
    encoder = av.CodecContext.create(name, "w")
    encoder.sample_rate, encoder.layout, encoder.format, encoder.options = rate_hz, "mono", "s16", options
    encoder.bit_rate = 12200 if "amr" in name else 64000
    out = []
    for i, piece in enumerate(frames(signal, size)):
        frame = av.AudioFrame.from_ndarray(piece[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, i * size
        out += [bytes(packet) for packet in encoder.encode(frame)]
    return out


def gsm() -> None:
    lib = ctypes.CDLL("libgsm.so.1")
    lib.gsm_create.restype = ctypes.c_void_p
    lib.gsm_encode.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    state, out, buffer = lib.gsm_create(), [], ctypes.create_string_buffer(33)
    for piece in frames(voice(), 160):
        lib.gsm_encode(state, piece.ctypes.data, buffer)
        out.append((160 * len(out), buffer.raw))
    write("gsm", out)


def g729() -> None:
    """Annex B: in silence, a comfort noise frame of 2 bytes now and then and nothing else."""
    lib = ctypes.CDLL("libbcg729.so.0")
    lib.initBcg729EncoderChannel.restype = ctypes.c_void_p
    lib.bcg729Encoder.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    state, out = lib.initBcg729EncoderChannel(1), []
    buffer, size = ctypes.create_string_buffer(10), ctypes.c_uint8()
    for i, pair in enumerate(frames(voice(), 160)):
        payload = b""
        for piece in frames(pair, 80):
            lib.bcg729Encoder(state, piece.ctypes.data, buffer, ctypes.byref(size))
            payload += buffer.raw[: size.value]
            if size.value == 2:
                break  # the packet ends with it (RFC 3551 section 4.5.6)
        if payload:
            out.append((160 * i, payload))
    write("g729", out)


def amr_wb() -> None:
    """Storage format: a header byte before the bits of each frame."""
    lib = ctypes.CDLL("libvo-amrwbenc.so.0")
    lib.E_IF_init.restype = ctypes.c_void_p
    lib.E_IF_encode.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
    state, out, buffer = lib.E_IF_init(), [], ctypes.create_string_buffer(64)
    for i, piece in enumerate(frames(wide(), 320)):
        size = lib.E_IF_encode(state, 8 if i % 2 else 2, piece.ctypes.data, buffer, 1)
        if buffer.raw[0] >> 3 & 15 != 15:
            out.append((320 * i, buffer.raw[:size]))
    write("amr_wb", out)


def opus() -> None:
    """24 kbit/s with in-band FEC and DTX."""
    lib = ctypes.CDLL("libopus.so.0")
    lib.opus_encoder_create.restype = ctypes.c_void_p
    lib.opus_encode.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int32)
    state, out = lib.opus_encoder_create(48000, 1, 2048, None), []
    for request, value in ((4002, 24000), (4012, 1), (4014, 25), (4016, 1)):
        assert lib.opus_encoder_ctl(ctypes.c_void_p(state), request, value) == 0
    buffer = ctypes.create_string_buffer(1500)
    signal = soxr.resample(voice(), 8000, 48000).astype(np.int16)
    for i, piece in enumerate(frames(signal, 960)):
        size = lib.opus_encode(state, piece.ctypes.data, 960, buffer, 1500)
        if size > 2:
            out.append((960 * i, buffer.raw[:size]))
    write("opus", out)


def main() -> None:
    gsm()
    g729()
    amr_wb()
    opus()
    write("g722", [(160 * i, p) for i, p in enumerate(through_av("g722", wide(), 16000, 320))])
    amr = through_av("libopencore_amrnb", voice(), 8000, 160, dtx="1")
    write("amr", [(160 * i, p) for i, p in enumerate(amr) if p[0] >> 3 & 15 != 15])


if __name__ == "__main__":
    main()

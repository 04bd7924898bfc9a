"""Feed the payload parsers and the decoders with what coverage-guided fuzzing comes up with.

    python tests/fuzz/fuzz_codecs.py [-max_total_time=60] [corpus folder]

Needs atheris (``pip install 'scamtap[fuzz]'``). The first byte picks a codec, the rest is a payload. Stops at the first
finding: a parser that raises anything but PacketError, frames that do not survive packing, a payload whose length the
kernel and the parser see differently, a decoder that gives more than the packet covers.
"""

import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

from inference.rtp import durations, layout  # before the instrumentation: compiled kernels cannot be instrumented

with atheris.instrument_imports(include=["inference.rtp.codecs"]):
    from inference.rtp.codecs.amr import MAX_FRAMES, AmrPayload
    from inference.rtp.codecs.decoding import LegDecoder, Packet

from inference.errors import PacketError

SEEDS = Path(__file__).parents[1] / "golden" / "codecs"
CODECS = range(layout.CODEC_G722, layout.CODEC_AMR_WB_ALIGNED + 1)
WIDE = (layout.CODEC_AMR_WB, layout.CODEC_AMR_WB_ALIGNED)
ALIGNED = (layout.CODEC_AMR_ALIGNED, layout.CODEC_AMR_WB_ALIGNED)


def check_amr(codec: int, payload: bytes, num: int) -> None:
    """Parser and kernel agree, and what was read can be written."""
    is_wide, is_aligned = codec in WIDE, codec in ALIGNED
    try:
        parsed = AmrPayload.parse(payload, is_wide=is_wide, is_aligned=is_aligned)
    except PacketError:
        return
    if num != durations.FRAME * len(parsed.frames):
        raise AssertionError("kernel and parser see different lengths")
    again = parsed.to_bytes(is_aligned=is_aligned, is_wide=is_wide)
    if AmrPayload.parse(again, is_wide=is_wide, is_aligned=is_aligned) != parsed:
        raise AssertionError("frames did not survive")


def fuzz_one(data: bytes) -> None:
    """Entry point of the fuzzer."""
    if len(data) < 2:
        return
    codec, payload = CODECS[data[0] % len(CODECS)], data[1:1500]
    row = np.frombuffer(payload, np.uint8)[None].copy()
    num = int(durations.measure(codec, row, 0, 0, len(payload))[0])
    if codec >= layout.CODEC_AMR:
        check_amr(codec, payload, num)
    if not 0 < num <= MAX_FRAMES * durations.FRAME:
        return
    leg = LegDecoder(1)
    for seq in (0, 1, 4):  # and a loss, so that it conceals
        leg.push(Packet(codec, payload, 1000 + num * seq, num, seq, seq == 0, 1000 * seq))
    leg.advance(10**6)
    if sum(len(pcm) for _, pcm in leg.pieces) > 5 * num:
        raise AssertionError("more was decoded than was sent")


def main() -> None:
    """Run until stopped, or as long as the options say."""
    with tempfile.TemporaryDirectory() as found:
        arguments = sys.argv if any(not arg.startswith("-") for arg in sys.argv[1:]) else [*sys.argv, found]
        atheris.Setup([*arguments, str(SEEDS)], fuzz_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

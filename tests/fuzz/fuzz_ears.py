"""Fuzz what gateways answer when they are told to warn: ``python tests/fuzz/fuzz_ears.py -max_total_time=30``.

FreeSWITCH's event socket and a SIP proxy are peers on the network: whatever they send is a message or a named error, in
bounded time and memory. An operator's lines and recordings are files somebody made: loaded, or refused in one line.
"""

import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["inference.alerts.ears", "inference.alerts.announcements"]):
    from inference.alerts.announcements import load_lines, read_sound
    from inference.alerts.ears.freeswitch import MAX_BODY_BYTES, MAX_LINE_BYTES, read_message
    from inference.alerts.ears.sip import parse_answer

from inference.alerts.optout import normalise_number
from inference.errors import ConfigError

BRANCH = "z9hG4bKx"
SEEDS = (
    b"\x00Content-Type: api/response\nContent-Length: 4\n\n+OK\n",
    b"\x00Content-Type: command/reply\nReply-Text: +OK accepted\n\n",
    b"\x01SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nCSeq: 1 MESSAGE\r\n\r\n",
    b"\x02language: en\nlines: {general: Hello., tax: Hello.}\n",
    b"\x03RIFF\x2c\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00"
    b"data\x08\x00\x00\x00\x01\x00\x02\x00\x03\x00\x04\x00",
    b"\x04sip:+442079460000@ims.example;user=phone",
)


async def event_socket(data: bytes) -> None:
    """One message of an event socket."""
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    reader.feed_data(data)
    reader.feed_eof()
    with contextlib.suppress(ValueError, EOFError, asyncio.LimitOverrunError):
        _, _, body = await read_message(reader)
        if len(body) > MAX_BODY_BYTES:
            raise RuntimeError("a body beyond its bound")


def refused_in_one_line(read: object, path: Path, data: bytes) -> None:
    """A file of an operator's."""
    path.write_bytes(data)
    try:
        read(path)  # type: ignore[operator]
    except ConfigError as error:
        if "\n" in str(error):
            raise RuntimeError("an error message of two lines") from error


def main() -> None:
    """Run until the time is over."""
    runner = asyncio.Runner()
    with tempfile.TemporaryDirectory() as folder:
        yaml_path, wav_path = Path(folder) / "en.yaml", Path(folder) / "sound.wav"

        def one_input(data: bytes) -> None:
            kind, rest = data[:1], data[1:]
            if kind == b"\x01":
                status = parse_answer(rest, BRANCH)
                if status is not None and not 100 <= status < 700:
                    raise RuntimeError("no status code")
            elif kind == b"\x02":
                refused_in_one_line(load_lines, yaml_path, rest)
            elif kind == b"\x03":
                refused_in_one_line(read_sound, wav_path, rest)
            elif kind == b"\x04":
                normalise_number(rest.decode("utf-8", "replace"))
            else:
                runner.run(event_socket(rest))

        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(SEEDS):
            (corpus / f"seed{number}").write_bytes(seed)
        atheris.Setup([*sys.argv, str(corpus), "-max_len=4096"], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

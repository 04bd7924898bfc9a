"""Feed WebSocket sessions of every dialect, and AudioSocket, with what coverage-guided fuzzing comes up with.

    python tests/fuzz/fuzz_connections.py [-max_total_time=60] [corpus folder]

Every input is a few messages to one session, text or binary, over a real plane and watch. Whatever comes: an error of
ours or none, no call that no connection owns, no leg left behind. Needs atheris (``pip install 'scamtap[fuzz]'``).
"""

import asyncio
import json
import sys
from typing import Any

import atheris
import numpy as np
import structlog

from inference.gateway.narrow import warm
from inference.rtp.plane import PacketPlane, PlaneConfig  # before: compiled kernels cannot be instrumented

with atheris.instrument_imports(include=["inference.gateway.websocket", "inference.gateway.audiosocket"]):
    from inference.gateway.audiosocket import AudioSocketConfig, AudioSocketConnection, AudioSocketGateway
    from inference.gateway.websocket import asterisk, config, duplex, fork, media_streams

from inference.alerts.dispatcher import Dispatcher
from inference.alerts.outbox import Outbox
from inference.audio.segmenter import Segmenter, SegmenterBank, SegmenterConfig
from inference.errors import ScamTapError
from inference.gateway.connected import ConnectedCalls
from inference.service.bus import EventBus
from inference.service.call import CallParts
from inference.service.publisher import Publisher
from inference.service.telemetry import Telemetry
from inference.service.watch import Watch, WatchConfig
from inference.verdict.verdict import Verdict

SESSIONS: list[tuple[str, Any, Any]] = [
    ("twilio", media_streams.MediaStreamsSession, config.MediaStreamsConfig(near="inbound", plays=True)),
    ("telnyx", media_streams.MediaStreamsSession, config.MediaStreamsConfig()),
    ("jambonz", fork.ForkSession, config.ForkConfig()),
    ("freeswitch", fork.ForkSession, config.ForkConfig(mono="far")),
    ("asterisk", asterisk.AsteriskSession, config.AsteriskConfig(plays=True)),
    ("session", duplex.DuplexSession, config.SessionConfig(include_text=True)),
]
QUERIES: list[dict[str, str]] = [
    {}, {"call": "c1", "leg": "far"}, {"call": "c1", "leg": "near"}, {"call": "c1", "rate": "16k", "mix": "mono"},
    {"call": "\x00", "leg": "x", "near": "left"},
]  # fmt: skip
TEMPLATES: list[str] = [
    '{"event":"start","streamSid":"s","start":{"callSid":"c2","mediaFormat":{"encoding":"audio/x-mulaw"}}}',
    '{"event":"start","start":{"call_control_id":"c3","media_format":{"encoding":"PCMA","sample_rate":8000}}}',
    '{"event":"media","media":{"track":"inbound","timestamp":"20","payload":"////fw=="}}',
    '{"event":"dtmf","dtmf":{"track":"inbound_track","digit":"1"}}',
    '{"event":"stop"}',
    '{"callSid":"c4","sampleRate":16000,"mixType":"stereo"}',
    "MEDIA_START connection_id:c channel:x format:slin16 optimal_frame_size:640",
    '{"event":"MEDIA_START","format":"ulaw"}',
    "DTMF_END digit:1",
    '{"type":"start","call":"c5","codec":"L16","rate":16000,"channels":["far","near"]}',
    '{"type":"key","leg":"near","digit":"#"}',
    '{"type":"end"}',
]


class DeafVad:
    """Nobody speaks: no model is needed."""

    def open(self, num_legs: int) -> Any:
        """See :class:`inference.audio.vad.Vad`."""
        return np.zeros(num_legs)

    def score(self, frames: Any, states: Any) -> Any:
        """See :class:`inference.audio.vad.Vad`."""
        return np.zeros(len(states), np.float32)

    def skip(self, states: Any, num_frames: Any) -> None:
        """See :class:`inference.audio.vad.Vad`."""


class NoStages:
    """No segment ever reaches the models."""

    is_mixing = True

    def understand(self, batch: Any) -> Any:
        """See :class:`inference.service.stages.Stages`."""
        raise AssertionError("silence became speech")

    def window_samples(self, num_samples: int) -> int:
        """See :class:`inference.service.stages.Stages`."""
        raise AssertionError("silence became speech")


class Sent:
    """A connection's other direction that remembers nothing."""

    def send(self, message: str | bytes) -> None:
        """See :class:`inference.gateway.websocket.session.Outlet`."""

    def close(self, code: int, reason: str) -> None:
        """See :class:`inference.gateway.websocket.session.Outlet`."""


class Wire(asyncio.Transport):
    """TCP without a network."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.is_closed = False

    def is_closing(self) -> bool:
        """See :class:`asyncio.Transport`."""
        return self.is_closed

    def close(self) -> None:
        """See :class:`asyncio.Transport`."""
        self.is_closed = True

    def abort(self) -> None:
        """See :class:`asyncio.Transport`."""
        self.is_closed = True

    def write(self, data: Any) -> None:
        """See :class:`asyncio.Transport`."""


def make() -> Watch:
    """A watch over a real plane."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    bank = SegmenterBank(SegmenterConfig(), DeafVad())
    return Watch(
        PacketPlane(PlaneConfig(max_legs=8)),
        CallParts(lambda leg: Segmenter(leg, bank), Verdict),
        NoStages(),  # type: ignore[arg-type]
        WatchConfig(max_calls=4),
        publisher=Publisher(Telemetry(), EventBus(), Dispatcher(Outbox(None), [])),
    )


def changed(data: atheris.FuzzedDataProvider) -> str:
    """A message that is nearly right: a piece of it replaced."""
    text = data.PickValueInList(TEMPLATES)
    if data.ConsumeBool():
        return str(text)
    start = data.ConsumeIntInRange(0, len(text))
    end = min(len(text), start + data.ConsumeIntInRange(0, 12))
    return str(text[:start] + data.ConsumeUnicode(data.ConsumeIntInRange(0, 12)) + text[end:])


def converse(watch: Watch, data: atheris.FuzzedDataProvider) -> ConnectedCalls:
    """A few messages to one session, which then is closed."""
    calls = ConnectedCalls("websocket", watch, linger_s=0)
    name, session_of, settings = data.PickValueInList(SESSIONS)
    query = data.PickValueInList(QUERIES)
    session = session_of(name, settings, calls, query, Sent(), lambda _parameters: None)
    try:
        for _ in range(data.ConsumeIntInRange(1, 6)):
            if data.ConsumeIntInRange(0, 2):
                session.text(changed(data))
            else:
                session.binary(bytes(data.ConsumeBytes(data.ConsumeIntInRange(0, 700))))
            if session.is_over:
                break
    except ScamTapError as error:
        json.dumps(str(error))
    session.closed(is_clean=True)
    return calls


def connect(watch: Watch, data: atheris.FuzzedDataProvider) -> ConnectedCalls:
    """Bytes to one AudioSocket connection, cut anywhere, which then is closed."""
    gateway = AudioSocketGateway(AudioSocketConfig(plays=True), watch)
    connection = AudioSocketConnection(gateway)
    connection.connection_made(Wire())
    if data.ConsumeBool():
        connection.data_received(b"\x01\x00\x10" + bytes(15) + bytes([data.ConsumeIntInRange(0, 3)]))
    while data.remaining_bytes():
        connection.data_received(bytes(data.ConsumeBytes(data.ConsumeIntInRange(1, 200))))
    connection.connection_lost(None)
    return gateway.calls


async def one(watch: Watch, data: atheris.FuzzedDataProvider) -> None:
    """One input, and nothing is left of it."""
    calls = connect(watch, data) if data.ConsumeIntInRange(0, 3) == 0 else converse(watch, data)
    watch.tick()
    await calls.aclose()
    assert len(calls) == 0
    assert watch.call_ids == []
    assert watch.media_counters()["legs"] == 0


def main() -> None:
    """Run until the time is over."""
    runner, watch = asyncio.Runner(), make()
    warm()

    def one_input(data: bytes) -> None:
        runner.run(one(watch, atheris.FuzzedDataProvider(data)))

    atheris.Setup([*sys.argv, "-len_control=0", "-max_len=2048"], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""A real WebSocket server before a watch in virtual time, and doubles of the gateways that connect to it.

The doubles are written from the published protocols (see the files they test); none of these gateways installs here.
"""

import asyncio
import base64
import contextlib
import json

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from inference.gateway.websocket.config import WebSocketConfig
from inference.gateway.websocket.server import WebSocketGateway
from inference.rtp.g711 import encode_alaw, encode_ulaw

CHUNK = 160
ALL = {name: {} for name in ("twilio", "telnyx", "signalwire", "jambonz", "freeswitch", "asterisk", "session")}


@pytest.fixture
def websocket(serving):
    """``async with websocket(twilio={}) as (served, open)``; ``open(path)`` is a connected client."""

    @contextlib.asynccontextmanager
    async def make(max_calls=16, **config):
        settings = WebSocketConfig(**{"port": 0} | (config or ALL))

        def gateway(watch, clock):
            return WebSocketGateway(settings, watch, clock=clock)

        async with serving(gateway, max_calls=max_calls) as served, contextlib.AsyncExitStack() as clients:

            async def open_(path, **more):
                url = f"ws://127.0.0.1:{served.gateway.port}{path}"
                return await clients.enter_async_context(connect(url, close_timeout=1, **{"proxy": None} | more))

            yield served, open_

    return make


async def status(open_, path, **more):
    """What the handshake answered; 101 where it was taken."""
    try:
        await open_(path, **more)
    except InvalidStatus as error:
        return error.response.status_code
    return 101


def chunks(samples):
    return [samples[i : i + CHUNK] for i in range(0, len(samples), CHUNK)]


class Twilio:
    """Twilio's or SignalWire's media stream."""

    path = "/twilio"
    call = "CA0123456789abcdef0123456789abcdef"

    def __init__(self) -> None:
        self.number = {"inbound": 0, "outbound": 0}

    def opening(self, **parameters):
        start = {
            "accountSid": "AC1", "streamSid": "MZ1", "callSid": self.call, "tracks": ["inbound", "outbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        }  # fmt: skip
        return [
            json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}),
            json.dumps({"event": "start", "sequenceNumber": "1", "start": start, "streamSid": "MZ1"}),
        ]

    def media(self, track, samples, encode=encode_ulaw):
        number = self.number[track]
        self.number[track] += 1
        media = {
            "track": track, "chunk": str(number + 1), "timestamp": str(5 + 20 * number),
            "payload": base64.b64encode(encode(samples)).decode(),
        }  # fmt: skip
        return json.dumps({"event": "media", "sequenceNumber": "9", "media": media, "streamSid": "MZ1"})

    def rounds(self, far, near):
        pairs = zip(chunks(far), chunks(near), strict=True)
        return [[(0, self.media("inbound", a)), (0, self.media("outbound", b))] for a, b in pairs]

    def key(self, digit):
        return json.dumps({"event": "dtmf", "streamSid": "MZ1", "dtmf": {"track": "outbound_track", "digit": digit}})

    closing = json.dumps({"event": "stop", "streamSid": "MZ1", "stop": {"accountSid": "AC1", "callSid": call}})


class SignalWire(Twilio):
    path = "/signalwire"


class Telnyx(Twilio):
    """Telnyx: names with underscores, A-law, messages out of order."""

    path = "/telnyx"
    call = "v3:pz7nLBDNk0sZ-x1W0Hq_Q"

    def opening(self, *, encoding="PCMA", **parameters):
        start = {
            "user_id": "u", "call_control_id": self.call, "custom_parameters": parameters,
            "media_format": {"encoding": encoding, "sample_rate": 8000, "channels": 1},
        }  # fmt: skip
        return [
            json.dumps({"event": "connected", "version": "1.0.0"}),
            json.dumps({"event": "start", "sequence_number": "1", "start": start, "stream_id": "s1"}),
        ]

    def rounds(self, far, near):
        pairs = zip(chunks(far), chunks(near), strict=True)
        made = [[self.media("inbound", a, encode_alaw), self.media("outbound", b, encode_alaw)] for a, b in pairs]
        for i in range(1, len(made) - 1, 4):
            made[i], made[i + 1] = made[i + 1], made[i]
        return [[(0, message) for message in both] for both in made]

    def key(self, digit):
        return json.dumps({"event": "dtmf", "stream_id": "s1", "dtmf": {"track": "outbound", "digit": digit}})

    closing = json.dumps({"event": "stop", "stream_id": "s1", "stop": {"call_control_id": call}})


def wide(samples, times):
    """Samples at 8 kHz, at so many times the rate; good enough for tones."""
    at = np.arange(len(samples) * times) / times
    return np.interp(at, np.arange(len(samples)), samples).astype("<i2")


def stereo(left, right):
    return np.stack([left, right], axis=1).astype("<i2").tobytes()


class Jambonz:
    """jambonz ``listen`` with mixType stereo."""

    path = "/jambonz"
    call = "ab5bbb5e-1f5b-4f5e-9c5f-5b5b5b5b5b5b"
    times = 2

    def opening(self, **more):
        metadata = {
            "callSid": self.call, "accountSid": "a", "from": "+15550001", "to": "+15550002", "direction": "inbound",
            "sampleRate": 8000 * self.times, "mixType": "stereo",
        }  # fmt: skip
        return [json.dumps(metadata | more)]

    def rounds(self, far, near):
        pairs = zip(chunks(far), chunks(near), strict=True)
        return [[(0, stereo(wide(a, self.times), wide(b, self.times)))] for a, b in pairs]

    def key(self, digit):
        return json.dumps({"event": "dtmf", "dtmf": digit, "duration": "1600"})

    closing = None


class FreeSwitch(Jambonz):
    """mod_audio_fork and mod_audio_stream, told everything by the URL."""

    call = "6d7a0f2e-0000-4000-8000-000000000001"
    path = f"/freeswitch?call={call}&rate=8k&mix=stereo"
    times = 1

    def opening(self, **more):
        return []


class Session:
    """A client of our own session."""

    path = "/session"
    call = "session-1"

    def opening(self, **more):
        start = {"type": "start", "call": self.call, "codec": "L16", "rate": 8000, "channels": ["far", "near"]}
        return [json.dumps(start | more)]

    def rounds(self, far, near):
        return [[(0, stereo(a, b))] for a, b in zip(chunks(far), chunks(near), strict=True)]

    def key(self, digit):
        return json.dumps({"type": "key", "leg": "near", "digit": digit})

    closing = json.dumps({"type": "end"})


class Asterisk:
    """chan_websocket: a connection a party."""

    call = "1790617675.20"
    path = f"/asterisk?call={call}&leg=far"
    other_path = f"/asterisk?call={call}&leg=near"

    def opening(self, form="ulaw", **more):
        return [f"MEDIA_START connection_id:c1 channel:WebSocket/x/0x7f channel_id:1.2 format:{form} "
                f"optimal_frame_size:160 ptime:20"]  # fmt: skip

    def rounds(self, far, near):
        pairs = zip(chunks(far), chunks(near), strict=True)
        return [[(0, encode_ulaw(a)), (1, encode_ulaw(b))] for a, b in pairs]

    def key(self, digit):
        return f"DTMF_END digit:{digit}"

    closing = None


DIALECTS = {kind.__name__: kind for kind in (Twilio, SignalWire, Telnyx, Jambonz, FreeSwitch, Session, Asterisk)}


@pytest.fixture
def dialects():
    """Doubles by name."""
    return DIALECTS


@pytest.fixture(params=DIALECTS)
def dialect(request):
    """Each double in turn."""
    return DIALECTS[request.param]()


@pytest.fixture
def run():
    return asyncio.run

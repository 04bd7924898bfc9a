"""``scamtap demo``: the service on loopback, and two calls arriving as real RTP, in real time.

The sender plays the part of a media gateway: it registers each call through the control API, sends both legs as G.711
in 20 ms packets, and hangs up. Everything behind the socket is what a deployment runs.
"""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import soundfile as sf

from inference.alerts.announcements import load_announcements
from inference.alerts.tone import mix_tone
from inference.audio import LEGS, SAMPLE_RATE_HZ, Leg
from inference.audio.segment import PCM
from inference.errors import MediaError, ScamTapError
from inference.rtp.g711 import encode_alaw, encode_ulaw
from inference.rtp.packet import PT_PCMA, PT_PCMU, RtpPacket
from inference.service.events import AlertEvent, Event, VerdictEvent
from inference.service.terminal import CallView
from inference.service.worker import Worker

if TYPE_CHECKING:
    from inference.config import Settings

PACKET_MS = 20
VERDICT_TIMEOUT_S = 60.0  # after hanging up
PACKET_NUM_SAMPLES = SAMPLE_RATE_HZ * PACKET_MS // 1000
CODECS = {"PCMU": (PT_PCMU, encode_ulaw), "PCMA": (PT_PCMA, encode_alaw)}


@dataclass(slots=True)
class DemoCall:
    """One recorded call to be sent, and what became of it.

    Attributes:
        name: id and file stem.
        title: heading of its view.
        legs: int16 ``[num_samples]`` per leg, equally long.
        ask_s: when the far party first asks for money, a code or secrecy; None in a genuine call.
        codec: how it is sent.
    """

    name: str
    title: str
    legs: dict[Leg, PCM]
    ask_s: float | None
    codec: str
    view: CallView = field(init=False)
    alerts: list[AlertEvent] = field(default_factory=list)
    verdict: VerdictEvent | None = None

    def __post_init__(self) -> None:
        self.view = CallView(self.title)

    @property
    def duration_s(self) -> float:
        """Length of the recording, seconds."""
        return self.legs["far"].size / SAMPLE_RATE_HZ

    def take(self, event: Event) -> None:
        """Account for one event of this call."""
        self.view.add(event)
        if isinstance(event, AlertEvent):
            self.alerts.append(event)
        elif isinstance(event, VerdictEvent):
            self.verdict = event

    def outcome(self) -> tuple[bool, str]:
        """Whether the call ended as it should, and one line that says so."""
        first_s = self.alerts[0].alert.at_s if self.alerts else None
        if self.ask_s is None:
            if first_s is None:
                return True, "left alone, as it should be"
            return False, f"FALSE ALARM at {first_s:.1f} s"
        if first_s is None:
            return False, "MISSED: no warning"
        if first_s >= self.ask_s:
            return False, f"TOO LATE: warned at {first_s:.1f} s, asked at {self.ask_s:.1f} s"
        return True, f"warned at {first_s:.1f} s, {self.ask_s - first_s:.1f} s before the ask"


def load_demo_call(path: Path, title: str, codec: str) -> DemoCall:
    """Read ``<name>.wav`` (stereo, 8 kHz, far left) and its labels ``<name>.json``.

    Raises:
        MediaError: missing or not as it should be.
    """
    try:
        samples, rate_hz = sf.read(path, dtype="int16", always_2d=True)
        labels = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, sf.LibsndfileError, json.JSONDecodeError) as error:
        raise MediaError(f"{path.name}: the demo call cannot be read; run from a full clone") from error
    if rate_hz != SAMPLE_RATE_HZ or samples.shape[1] != 2:
        raise MediaError(f"{path.name}: want stereo at {SAMPLE_RATE_HZ} Hz, far party left")
    legs: dict[Leg, PCM] = {leg: np.ascontiguousarray(samples[:, i]) for i, leg in enumerate(LEGS)}
    return DemoCall(path.stem, title, legs, labels["ask_s"], codec)


async def send_call(call: DemoCall, api: httpx.AsyncClient, media: tuple[str, int]) -> None:
    """Play the gateway for one call: register, send both legs in real time, hang up."""
    loop = asyncio.get_running_loop()
    payload_type, encode = CODECS[call.codec]
    with contextlib.ExitStack() as exits:
        transports = {}
        for leg in LEGS:
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=(media[0], 0), remote_addr=media
            )
            exits.callback(transport.close)
            transports[leg] = transport
        sources = {leg: "{}:{}".format(*t.get_extra_info("sockname")[:2]) for leg, t in transports.items()}
        spec = {"id": call.name} | {leg: {"local_port": media[1], "source": sources[leg]} for leg in LEGS}
        response = await api.post("/v1/calls", json=spec)
        if response.is_error:
            raise ScamTapError(f"the control API answered {response.status_code} to a new call")
        await _send_legs(call, {leg: t.sendto for leg, t in transports.items()}, payload_type, encode)
        (await api.delete(f"/v1/calls/{call.name}", timeout=VERDICT_TIMEOUT_S)).raise_for_status()


async def _send_legs(
    call: DemoCall,
    send: dict[Leg, Callable[[bytes], None]],
    payload_type: int,
    encode: Callable[[PCM], bytes],
) -> None:
    payloads = {leg: encode(samples) for leg, samples in call.legs.items()}
    sequence, timestamp, ssrc = ({leg: random.getrandbits(bits) for leg in LEGS} for bits in (16, 32, 32))
    started_s = time.monotonic()
    for number in range(len(payloads["far"]) // PACKET_NUM_SAMPLES):
        offset = number * PACKET_NUM_SAMPLES
        for leg in LEGS:
            packet = RtpPacket(
                payload_type=payload_type,
                sequence_number=(sequence[leg] + number) & 0xFFFF,
                timestamp=(timestamp[leg] + offset) & 0xFFFFFFFF,
                ssrc=ssrc[leg],
                payload=payloads[leg][offset : offset + PACKET_NUM_SAMPLES],
                marker=number == 0,
            )
            send[leg](bytes(packet))
        call.view.now_s = (offset + PACKET_NUM_SAMPLES) / SAMPLE_RATE_HZ
        await asyncio.sleep(max(0.0, started_s + (number + 1) * PACKET_MS / 1000 - time.monotonic()))


async def run_demo(settings: "Settings", calls: list[DemoCall], on_event: Callable[[Event], None]) -> None:
    """Serve, send every call at once, and return when each has its verdict.

    Raises:
        ScamTapError: the service does not start, or a call was not followed to its end.
    """
    by_name = {call.name: call for call in calls}
    async with Worker(settings) as worker:
        with contextlib.closing(worker.bus.follow()) as follower:

            async def follow() -> None:
                while any(call.verdict is None for call in calls):
                    event = await follower.get()
                    if event is None:
                        return
                    by_name[event.call].take(event)
                    on_event(event)

            following = asyncio.create_task(follow())
            host, port = worker.api_address
            media = (settings.media.host, worker.watch.media_ports[0])
            try:
                async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as api:
                    await asyncio.gather(*(send_call(call, api, media) for call in calls))
                await asyncio.wait_for(following, VERDICT_TIMEOUT_S)
            except (httpx.HTTPError, TimeoutError) as error:
                raise ScamTapError(
                    f"the demo's calls were not followed to their end ({type(error).__name__}): "
                    "the machine may be too slow; see scamtap doctor"
                ) from error


def write_warning(call: DemoCall, path: Path) -> None:
    """What the subscriber heard: the far party, with the warning mixed in where each alert came.

    Raises:
        ConfigError: the clone's announcements are damaged.
        MediaError: ``path`` cannot be written.
    """
    audio, announcements = call.legs["far"], load_announcements()
    for event in call.alerts:
        announcement = announcements.pick(event.alert.level, event.alert.family, "en")
        if announcement is not None:
            audio = mix_tone(audio, announcement.samples, event.alert.at_s)
    try:
        sf.write(path, audio, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    except (OSError, sf.LibsndfileError) as error:
        raise MediaError(f"{path}: cannot be written: choose another file with --out") from error

"""The warning's whole way: a call over RTP, its gateway told to play, the subscriber's key on the near leg."""

import asyncio
import io
import struct

import pytest
import soundfile as sf

from inference.alerts.announcements import load_announcements
from inference.errors import ConfigError
from inference.rtp.packet import RtpPacket
from inference.service.api import ApiConfig

CHANNEL = "a2c1b1de-0f0f-4d1c-9d1e-6d6d6d6d6d6d"
EVENT = 101


class EventSocket:
    """FreeSWITCH's event socket as its interface is published: takes every command, and notes it."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    async def serve(self, reader, writer) -> None:
        writer.write(b"Content-Type: auth/request\n\n")
        await reader.readuntil(b"\n\n")
        writer.write(b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n")
        self.commands.append((await reader.readuntil(b"\n\n")).decode().strip().removeprefix("api uuid_displace "))
        writer.write(b"Content-Type: api/response\nContent-Length: 12\n\n+OK Success\n")
        await writer.drain()
        writer.close()


def key(digit: int):
    """A press of 40 ms in RFC 4733 packets, the end three times."""
    payloads = [(False, 160), (False, 320), (True, 320), (True, 320), (True, 320)]
    return [
        bytes(
            RtpPacket(
                payload_type=EVENT,
                sequence_number=500 + i,
                timestamp=16_000,
                ssrc=7,
                payload=struct.pack("!BBH", digit, 10 | (0x80 if end else 0), num),
            )
        )
        for i, (end, num) in enumerate(payloads)
    ]


def with_reach(spec: dict, **reach) -> dict:
    for leg in ("far", "near"):
        spec[leg]["payload_types"] = {EVENT: "telephone-event"}
    return spec | {"reach": {"via": "freeswitch", "call": CHANNEL, **reach}}


def warnings_of(server, **more) -> dict:
    host, port = server.sockets[0].getsockname()
    return {"freeswitch": {"host": host, "port": port, "password": "p", "file": "/s/{name}.wav"}, **more}


def test_both_levels_are_played_to_the_subscribers_channel(live, doubles):
    far = doubles.packets(doubles.speech(doubles.HELLO, doubles.THREAT, None, doubles.ASK, None))

    async def run():
        switch = EventSocket()
        server = await asyncio.start_server(switch.serve, "127.0.0.1", 0)
        async with server, live(warnings=warnings_of(server)) as (_, api, gateway):
            begun = await api.post("/v1/calls", json=with_reach(gateway.spec("call-1")))
            assert begun.status_code == 201, begun.text
            assert CHANNEL not in begun.text
            await gateway.send(far=far)
            await doubles.until(lambda: len(switch.commands) == 2)
            await api.delete("/v1/calls/call-1")
            metrics = (await api.get("/metrics")).text
        return switch.commands, metrics

    commands, metrics = asyncio.run(run())
    assert commands == [
        f"{CHANNEL} start /s/suspect.wav 2 mux",
        f"{CHANNEL} start /s/en-danger-card_otp.wav 7 mux",
    ]
    assert 'scamtap_warnings_total{ear="freeswitch",outcome="played"} 2.0' in metrics
    assert CHANNEL not in metrics


def test_the_subscribers_key_silences_the_rest_of_the_call(live, doubles):
    opening = doubles.packets(doubles.speech(doubles.HELLO, doubles.THREAT, None))
    asking = doubles.packets(doubles.speech(doubles.ASK, None, None), first=65500 + len(opening), ts=160 * len(opening))

    async def run():
        switch = EventSocket()
        server = await asyncio.start_server(switch.serve, "127.0.0.1", 0)
        async with server, live(warnings=warnings_of(server)) as (worker, api, gateway):
            await api.post("/v1/calls", json=with_reach(gateway.spec("call-1")))
            await gateway.send(far=opening)
            await doubles.until(lambda: switch.commands)
            await gateway.send(near=key(9))
            await gateway.send(far=asking)
            await doubles.until(lambda: worker.watch.describe("call-1")["level"] == "danger")
            await api.delete("/v1/calls/call-1")
            metrics = (await api.get("/metrics")).text
        return switch.commands, metrics

    commands, metrics = asyncio.run(run())
    assert not [command for command in commands if "danger" in command]
    assert 'scamtap_warnings_total{ear="freeswitch",outcome="not a scam"} 1.0' in metrics
    assert 'scamtap_warnings_total{ear="freeswitch",outcome="suppressed: not a scam"} 1.0' in metrics


def test_a_call_without_a_way_back_is_counted(live, doubles):
    async def run():
        async with live() as (_, api, gateway):
            await api.post("/v1/calls", json=gateway.spec("call-1"))
            await gateway.send(far=doubles.packets(doubles.speech(doubles.THREAT, None)))
            await api.delete("/v1/calls/call-1")
            return (await api.get("/metrics")).text

    assert 'scamtap_warnings_total{ear="none",outcome="suppressed: no way"} 1.0' in asyncio.run(run())


def test_gateways_fetch_the_very_sound_without_a_token(live):
    async def run():
        async with live(api=ApiConfig(port=0, token="t" * 20)) as (_, api, _gateway):
            sound = await api.get("/v1/announcements/en-danger-tax.wav")
            others = [
                (await api.get(f"/v1/announcements/{name}")).status_code
                for name in ("nothing.wav", "en-danger-tax", "..%2fsounds.json", "%2e%2e/en.yaml", "EN.wav", ".wav")
            ]
            return sound, others, (await api.post("/v1/announcements/en-danger-tax.wav")).status_code

    sound, others, posted = asyncio.run(run())
    assert (sound.status_code, sound.headers["content-type"]) == (200, "audio/wav")
    samples, rate_hz = sf.read(io.BytesIO(sound.content), dtype="int16")
    assert rate_hz == 8000
    assert (samples == load_announcements().get("en-danger-tax").samples).all()
    assert set(others) <= {404, 422}
    assert posted == 405


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"announcements_dir": "no/such/folder"}, "neither en.yaml nor zh.yaml"),
        ({"opt_out_path": "no/such/file", "opt_out_key": "k"}, "warnings.opt_out_path no/such/file: No such file"),
    ],
)
def test_a_mistake_in_the_settings_is_said_at_the_start(live, config, words):
    async def run():
        async with live(warnings=config):
            raise AssertionError("it started")

    with pytest.raises(ConfigError, match=words):
        asyncio.run(run())

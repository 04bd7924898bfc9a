"""Packets of strangers, and of no sense: nothing grows, nobody's call ends."""

import asyncio
import gc
import sys

from inference.gateway.spec import CallSpec
from inference.rtp.plane import Datagram


def collect(bus):
    follower = bus.follow()
    return lambda: [event.to_json() for event in list(follower._waiting)]


def test_a_hundred_thousand_spoofed_sources_create_nothing(bench, spec_of, doubles):
    packet = doubles.packets(doubles.speech(None))[0]

    def spoofed(number, now_s):
        data = packet[:8] + number.to_bytes(4, "big") + packet[12:]
        return Datagram(
            data, (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1024 + number % 60_000), 40000, now_s
        )

    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec_of()))
            b.plane.feed(spoofed(n, b.now_s) for n in range(20_000))  # more than fill the rows once
            b.watch.tick()
            gc.collect()
            reserved, before = b.plane.memory_bytes, sys.getallocatedblocks()
            b.plane.feed(spoofed(n, b.now_s) for n in range(20_000, 100_000))
            b.watch.tick()
            gc.collect()
            return (
                b.watch.media_counters(),
                b.watch.call_ids,
                sys.getallocatedblocks() - before,
                b.plane.memory_bytes - reserved,
            )

    counters, call_ids, grown, reserved = asyncio.run(run())
    assert counters["unregistered"] == 100_000
    assert (counters["legs"], call_ids) == (2, ["c1"])
    assert reserved == 0
    assert grown < 800  # Python objects: one kept per source would be 80,000


def test_spoofed_ssrcs_from_the_right_address_neither_grow_nor_end_the_call(bench, spec_of, doubles):
    far = doubles.packets(doubles.speech(doubles.THREAT))

    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec_of()))
            events = collect(b.bus)
            await b.play({30000: far})
            for number in range(2000):
                b.feed(far[0][:8] + number.to_bytes(4, "big") + far[0][12:], 30000)
            await b.tick()
            return events(), (await b.watch.end("c1")).to_json()

    events, verdict = asyncio.run(run())
    assert [event["type"] for event in events[:2]] == ["utterance", "alert"]
    assert verdict["level"] == "suspect"
    far_counters = verdict["packets"]["far"]
    assert far_counters["received"] == len(far) + 2000
    assert far_counters["stray"] + far_counters["late"] + far_counters["ssrc_changes"] >= 1999


def test_datagrams_of_no_and_of_much_length_are_counted(bench, spec_of):
    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec_of()))
            for data in (b"", b"\x80" + b"\0" * 65_000, b"GET / HTTP/1.1", b"\x80\x00"):
                b.feed(data, 30000)
            await b.tick()
            return b.watch.media_counters(), b.watch.describe("c1")["packets"]["far"]["received"]

    counters, received = asyncio.run(run())
    assert counters["datagrams"] == 4
    assert counters["malformed"] + counters["oversized"] == 4
    assert received == 0

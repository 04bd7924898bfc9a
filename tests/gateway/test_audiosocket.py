"""AudioSocket through real TCP, with a double of Asterisk written from its documentation."""

import asyncio
import contextlib
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from inference.alerts.ear import Announcement, Reach
from inference.errors import AlertError
from inference.gateway.audiosocket import AudioSocketConfig, AudioSocketGateway, Frame, FrameReader, call_and_leg

CALL = "6d7a0f2e-0000-4000-8000-00000000aa00"
NEAR = CALL[:-1] + "1"


@pytest.fixture
def audiosocket(serving):
    """``async with audiosocket(...) as (served, open)``; ``open(uuid)`` is Asterisk's end of a connection."""

    @contextlib.asynccontextmanager
    async def make(**config):
        settings = AudioSocketConfig(**{"port": 0} | config)
        async with serving(lambda watch, clock: AudioSocketGateway(settings, watch, clock=clock)) as served:
            writers = []

            async def open_(name):
                reader, writer = await asyncio.open_connection("127.0.0.1", served.gateway.port)
                writers.append(writer)
                if name is not None:
                    writer.write(bytes(Frame(0x01, uuid.UUID(name).bytes)))
                return reader, writer

            try:
                yield served, open_
            finally:
                for writer in writers:
                    writer.transport.abort()

    return make


def frames(samples, kind=0x10, times=1):
    at = np.arange(len(samples) * times) / times
    wide = np.interp(at, np.arange(len(samples)), samples).astype("<i2")
    size = 160 * times
    return [bytes(Frame(kind, wide[i : i + size].tobytes())) for i in range(0, len(wide), size)]


@pytest.mark.parametrize(("kind", "times"), [(0x10, 1), (0x12, 2), (0x16, 6)])
def test_two_connections_are_the_legs_of_a_call(audiosocket, doubles, kind, times):
    far = frames(doubles.speech(doubles.HELLO, None, doubles.THREAT), kind, times)
    near = frames(doubles.speech(None, doubles.FINE, None), kind, times)

    async def call():
        async with audiosocket() as (served, open_):
            writers = {"far": (await open_(CALL))[1], "near": (await open_(NEAR))[1]}
            await served.until(lambda: CALL in served.watch.call_ids)
            for number, pair in enumerate(zip(far, near, strict=True), 1):
                for writer, frame in zip(writers.values(), pair, strict=True):
                    writer.write(frame)
                await served.until(lambda number=number: all(served.received(CALL, leg) >= number for leg in writers))
                served.now_s += 0.02
                if number % 3 == 0:
                    await served.pass_time(0)
            await served.pass_time(0.4)
            writers["near"].write(bytes(Frame(0x03, b"5")) + bytes(Frame(0x77, b"yet unknown")))
            await served.until(lambda: served.keys)
            for writer in writers.values():
                writer.write(bytes(Frame(0x00, b"")))
            await served.verdict(CALL)
            return served.said(), served.keys

    said, keys = asyncio.run(call())
    assert said == {
        (CALL, "far", doubles.HELLO.text),
        (CALL, "far", doubles.THREAT.text),
        (CALL, "near", doubles.FINE.text),
    }
    assert keys == [(CALL, "near", "5")]


def test_a_connection_can_be_a_call_of_its_own(audiosocket, doubles):
    async def call():
        async with audiosocket(legs="far") as (served, open_):
            await open_(CALL)
            _, writer = await open_(NEAR)
            await served.until(lambda: len(served.watch.call_ids) == 2)
            writer.write(b"".join(frames(doubles.tone(400, 0.1))))
            await served.until(lambda: served.received(NEAR) == 5)
            return sorted(served.watch.call_ids), served.watch.describe(NEAR)["packets"].keys()

    assert asyncio.run(call()) == ([CALL, NEAR], {"far"})


@pytest.mark.parametrize(
    "first",
    [
        b"\x01\x00\x10" + uuid.UUID(CALL[:-1] + "7").bytes,  # a leg that is none
        b"\x01\x00\x02xx",
        bytes(Frame(0x10, bytes(320))),
        b"GET / HTTP/1.1\r\n\r\n" + bytes(300),
    ],
)
def test_garbage_is_cut_and_no_call_begins(audiosocket, first):
    async def call():
        async with audiosocket() as (served, open_):
            reader, writer = await open_(None)
            writer.write(first)
            with contextlib.suppress(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 60)
            return served.watch.call_ids, len(served.gateway.connections)

    assert asyncio.run(call()) == ([], 0)


def test_a_dawdling_and_a_silent_connection_are_cut(audiosocket):
    async def call():
        async with audiosocket(start_timeout_s=0.05, idle_timeout_s=0.05) as (served, open_):
            slow, writer = await open_(None)
            writer.write(b"\x01\x00")
            silent, _ = await open_(CALL)
            await served.until(lambda: CALL in served.watch.call_ids)
            served.now_s += 1
            for reader in (slow, silent):
                with contextlib.suppress(ConnectionResetError):
                    await asyncio.wait_for(reader.read(), 60)
            return dict(served.gateway.refused)

    assert asyncio.run(call()) == {"no UUID came": 1, "nothing was said": 1}


def test_peers_are_allowed_by_address_and_number(audiosocket):
    async def refused(**config):
        async with audiosocket(**config) as (served, open_):
            for _ in range(3):
                await open_(None)
            await served.until(lambda: served.gateway.refused)
            return dict(served.gateway.refused)

    assert asyncio.run(refused(peers=["192.0.2.0/24"])) == {"not an allowed peer": 3}
    assert asyncio.run(refused(peers=["127.0.0.0/8"], max_connections=2)) == {"too many connections": 1}
    with pytest.raises(ValidationError, match="knows no passwords"):
        AudioSocketConfig(host="0.0.0.0")


def warning(samples):
    return Announcement("en-danger-x", "danger", "en", "", samples)


def test_a_warning_is_whispered_over_the_near_connection_alone(audiosocket, doubles):
    tone = doubles.tone(900, 0.2)

    async def call():
        async with audiosocket(plays=True) as (served, open_):
            (far, _), (near, _) = await open_(CALL), await open_(NEAR)
            await served.until(lambda: len(served.gateway.connections) == 2 and CALL in served.watch.call_ids)
            reach = Reach(via="audiosocket", call=SecretStr(CALL))
            await served.until(lambda: served.gateway.calls._calls[CALL].lines.keys() == {"far", "near"})
            await served.gateway.calls.play(reach, warning(tone))
            heard = await asyncio.wait_for(near.readexactly(10 * 323), 60)
            await served.gateway.calls.play(reach, warning(np.tile(tone, 50)))
            await near.readexactly(323)
            await served.gateway.calls.stop(reach)
            await served.watch.end(CALL)
            rest = await near.read()
            return heard, rest, await far.read()

    heard, rest, at_far = asyncio.run(call())
    got = [frame.payload for frame in FrameReader().take(heard)]
    assert np.array_equal(np.frombuffer(b"".join(got), "<i2"), tone)
    assert rest.endswith(bytes(3)), "and a hang-up"
    assert len(rest) <= 10 * 323, "stopped long before its ten seconds"
    assert at_far == bytes(3), "nothing but the hang-up"


def test_nobody_is_whispered_to_where_it_is_not_configured(audiosocket, doubles):
    async def call():
        async with audiosocket() as (served, open_):
            await open_(NEAR)
            await served.until(lambda: CALL in served.watch.call_ids)
            for reference in (CALL, "another"):
                reach = Reach(via="audiosocket", call=SecretStr(reference))
                with pytest.raises(AlertError):
                    await served.gateway.calls.play(reach, warning(doubles.tone(900, 0.1)))

    asyncio.run(call())


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=400)), max_size=12), st.data())
def test_frames_are_the_same_however_the_stream_is_cut(messages, data):
    sent = [Frame(kind, payload) for kind, payload in messages]
    stream = b"".join(map(bytes, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    reader, got = FrameReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += reader.take(stream[start:end])
    assert got == sent


@given(st.uuids())
def test_every_uuid_is_a_leg_or_refused(name):
    call, leg = call_and_leg(name, "far")
    assert (call, leg) == (str(name), "far")
    pair = [uuid.UUID(str(name)[:-1] + digit) for digit in "01"]
    calls = [call_and_leg(each, "last_digit") for each in pair]
    assert calls[0][0] == calls[1][0]
    assert [leg for _, leg in calls] == ["far", "near"]

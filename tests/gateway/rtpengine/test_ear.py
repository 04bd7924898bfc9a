"""A warning on a real rtpengine, with the call going on: who hears it, when, and what becomes of the call."""

import asyncio
import contextlib
import os
import signal
import sys
import time
import wave

import numpy as np
import pytest
from pydantic import SecretStr

from inference.alerts.ear import Announcement, Reach
from inference.alerts.tone import warning_tone
from inference.errors import AlertError
from inference.gateway.rtpengine.ear import MAX_BLOB_SAMPLES, PAD_SAMPLES, ulaw_wav
from inference.gateway.rtpengine.follower import id_of
from inference.rtp.g711 import ULAW_TO_PCM

pytestmark = [pytest.mark.gateway, pytest.mark.anyio]

NAME = id_of("c1")
TONE = warning_tone("danger")
REACH = Reach(via="rtpengine", call=SecretStr("c1"), ear=SecretStr("tag-callee"))
CALL_SSRC = 0x5CA
PLAYED_S = (len(TONE) + PAD_SAMPLES) / 8000


async def until(condition, timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def announcement(samples=TONE, name="en-danger-tone") -> Announcement:
    return Announcement(name=name, level="danger", language="en", text="", samples=samples)


@contextlib.asynccontextmanager
async def followed(gateway, service, **config):
    async with gateway(**config) as g:
        await until(lambda: g.find("c1"))
        await until(lambda: min(of.received for of in service.counters(NAME).values()) > 5)
        yield g


def is_tone(packet) -> bool:
    return packet.ssrc != CALL_SSRC


def pcm(packet):
    return ULAW_TO_PCM[np.frombuffer(packet.payload, np.uint8)]


async def test_only_the_subscriber_hears_it_and_it_stops_by_itself(call, service, gateway):
    c1 = call()
    async with followed(gateway, service, caller_while_warning="heard") as g:
        began_s = time.monotonic()
        await g.ear.play(REACH, announcement())
        await asyncio.sleep(PLAYED_S + 0.4)
        forked = service.counters(NAME)
    tone = [packet for packet in c1.callee.since(began_s) if is_tone(packet)]
    assert [packet for packet in c1.caller.since(began_s) if is_tone(packet)] == []
    assert {of.ssrc_changes for of in forked.values()} == {0}, "no tone in our fork"
    assert 0 <= len(tone) - PLAYED_S / 0.02 <= 2, "all of it, once"
    heard = np.concatenate([pcm(packet) for packet in tone])[: len(TONE)].astype(float)
    assert np.corrcoef(heard, TONE[: len(heard)])[0, 1] > 0.99
    # The call itself went on, and its fork, without a gap.
    both = {"caller": c1.caller, "callee": c1.callee}
    for phone in both.values():
        numbers = [packet.sequence_number for packet in phone.since(began_s) if not is_tone(packet)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert {of.lost for of in forked.values()} == {0}


async def test_the_caller_held_the_subscriber_never_gets_two_streams(call, service, gateway, doubles):
    c1 = call()
    c1.caller.says = doubles.tone(700, 30)
    async with followed(gateway, service) as g:
        service.read(NAME)
        began_s = time.monotonic()
        await g.ear.play(REACH, announcement())
        await asyncio.sleep(PLAYED_S / 2)
        service.read(NAME)
        await asyncio.sleep(0.2)
        middle = service.read(NAME)
        await asyncio.sleep(PLAYED_S)
        service.read(NAME)
        numbers = service.counters(NAME)["far"]
    got = c1.callee.since(began_s)
    tone = [packet.at_s for packet in got if is_tone(packet)]
    speech = [packet.at_s for packet in got if not is_tone(packet)]
    over_s = tone[0] + PLAYED_S  # rtpengine sends a sound a fifth of a second ahead of its time: it plays until then
    assert tone[-1] < over_s
    assert [at_s for at_s in speech if tone[0] < at_s < over_s] == []
    assert min(at_s for at_s in speech if at_s > tone[-1]) < over_s + 0.2, "and is heard again right after it"
    # In our fork the window is a gap, not silence: nobody takes it for the caller being quiet.
    assert not middle["far"][1].any()
    assert middle["near"][1].all()
    assert numbers.silence_s == 0
    assert numbers.gap_s > 0.9 * PLAYED_S


async def test_decision_to_first_tone_packet(call, service, gateway, capsys):
    c1 = call()
    delays_ms = []
    async with followed(gateway, service) as g:
        for _ in range(50):
            began_s = time.monotonic()
            await g.ear.play(REACH, announcement(TONE[:1600]))
            await until(lambda at=began_s: any(is_tone(p) for p in c1.callee.since(at)))
            delays_ms.append(1000 * (next(p.at_s for p in c1.callee.since(began_s) if is_tone(p)) - began_s))
            await g.ear.stop(REACH)
            await asyncio.sleep(0.08)  # what was sent before the stop is in
    p50, p95 = np.percentile(delays_ms, [50, 95])
    with capsys.disabled():
        sys.stdout.write(
            f"\nto the first tone packet: p50 {p50:.1f}, p95 {p95:.1f}, max {max(delays_ms):.1f} ms of 50\n"
        )
    assert p50 <= 100
    assert p95 <= 1000  # 8 ms on a quiet machine; one that is busy with other things gives us our turn late


async def test_stop_is_at_once(call, service, gateway):
    c1 = call()
    async with followed(gateway, service) as g:
        await g.ear.play(REACH, announcement(np.tile(TONE, 4)))
        await asyncio.sleep(0.3)
        await g.ear.stop(REACH)
        await asyncio.sleep(0.1)
        stopped_s = time.monotonic()
        await asyncio.sleep(0.3)
        got = c1.callee.since(stopped_s)
    assert len(got) > 10
    assert not any(map(is_tone, got))


async def test_a_new_warning_replaces_the_old_one(call, service, gateway):
    c1 = call()
    async with followed(gateway, service) as g:
        await g.ear.play(REACH, announcement(np.tile(TONE, 4)))
        await asyncio.sleep(0.2)
        await g.ear.play(REACH, announcement(TONE[:3200]))
        await asyncio.sleep(0.8)
        over_s = time.monotonic()
        await asyncio.sleep(0.2)
        assert c1.callee.since(over_s)
        assert not any(map(is_tone, c1.callee.since(over_s)))


async def test_a_sound_of_the_operators_own(call, service, gateway, tmp_path):
    c1 = call()
    with wave.open(str(tmp_path / "en-danger-gift_card.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(TONE.tobytes())
    async with followed(gateway, service, sounds=str(tmp_path)) as g:
        began_s = time.monotonic()
        await g.ear.play(REACH, announcement(TONE[:160], "en-danger-gift_card"))
        await asyncio.sleep(len(TONE) / 8000 + 0.2)
        assert 0 <= sum(map(is_tone, c1.callee.since(began_s))) - len(TONE) / 160 <= 2
        with pytest.raises(AlertError, match="refuses 'play media'"):
            await g.ear.play(REACH, announcement(TONE, "no-such-sound"))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_the_longest_sound_that_is_sent_along(call, daemon, service, gateway, transport):
    c1 = call()
    async with followed(gateway, service, nodes=(daemon.node(transport=transport),)) as g:
        began_s = time.monotonic()
        await g.ear.play(REACH, announcement(np.tile(TONE, 12)[: MAX_BLOB_SAMPLES + 8000]))
        await until(lambda: any(map(is_tone, c1.callee.since(began_s))))
        await g.ear.stop(REACH)


async def test_a_call_that_is_over_is_said(call, service, gateway):
    c1 = call()
    async with followed(gateway, service) as g:
        c1.hang_up()
        with pytest.raises(AlertError):
            await g.ear.play(REACH, announcement())
        await until(lambda: service.ended == [NAME])
        with pytest.raises(AlertError, match="not followed"):
            await g.ear.play(REACH, announcement())


async def test_closing_in_the_middle_lets_the_caller_be_heard(call, service, gateway):
    c1 = call()
    async with followed(gateway, service) as g:
        await g.ear.play(REACH, announcement(np.tile(TONE, 8)))
        await asyncio.sleep(0.1)
    closed_s = time.monotonic()
    await asyncio.sleep(0.3)
    assert sum(not is_tone(packet) for packet in c1.callee.since(closed_s)) > 10


async def test_who_gives_up_waiting_blocks_nobody(call, service, gateway, monkeypatch):
    c1 = call()
    async with followed(gateway, service) as g:
        node = g.find("c1").wanted.node
        request = node.request

        async def slow(command, **more):
            if command == "play media":
                await asyncio.sleep(60)
            return await request(command, **more)

        monkeypatch.setattr(node, "request", slow)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await g.ear.play(REACH, announcement())
        given_up_s = time.monotonic()
        await asyncio.sleep(0.4)
        assert len(c1.callee.since(given_up_s + 0.1)) > 10


async def test_without_its_guard_no_caller_is_held(call, service, gateway):
    c1 = call()
    async with followed(gateway, service) as g:
        os.kill(g._guard._process.pid, signal.SIGKILL)
        await g._guard._process.wait()
        began_s = time.monotonic()
        await g.ear.play(REACH, announcement())
        await asyncio.sleep(0.5)
        got = c1.callee.since(began_s)
        assert any(map(is_tone, got))
        assert not all(map(is_tone, got))


def test_a_ulaw_wav_is_read_by_others(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "tone.wav"
    path.write_bytes(ulaw_wav(TONE))
    info = soundfile.info(path)
    assert (info.subtype, info.samplerate, info.channels, info.frames) == ("ULAW", 8000, 1, len(TONE))
    samples, _ = soundfile.read(path, dtype="int16")
    assert np.corrcoef(samples, TONE)[0, 1] > 0.999

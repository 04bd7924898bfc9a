"""``scamtap serve`` beside a real rtpengine: a scam call from its first packet to the warned ear; killed, restarted."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from inference.alerts.tone import warning_tone
from inference.gateway.rtpengine.ear import PAD_SAMPLES
from inference.gateway.rtpengine.follower import id_of

pytestmark = [pytest.mark.gateway, pytest.mark.anyio]

DOUBLES = Path(__file__).parents[2] / "service" / "doubles.py"
PLAYING = Path(__file__).with_name("playing.py")
NAME = id_of("c1")
CALL_SSRC = 0x5CA
REATTACHED_S = 5.0
HELD_PACKETS = sum((len(warning_tone(level)) + PAD_SAMPLES) // 160 + 2 for level in ("suspect", "danger"))
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
CONFIG = """
privacy: {{legal_basis: a test of our own software}}
media: {{ports: [0], max_legs: 16}}
api: {{port: 0}}
segmenter: {{end_silence_s: 0.2, tail_s: 0.1, lead_in_s: 0.1}}
log: {{json_lines: true}}
gateways:
  rtpengine:
    nodes: [{{address: "127.0.0.1:{port}"}}]
    {more}
"""


class Served:
    """A running ``scamtap serve`` and what it logs, with times."""

    def __init__(self, config: Path) -> None:
        self.began_s = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, str(DOUBLES), "serve", "--config", str(config)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=ENVIRONMENT,
        )  # fmt: skip
        self.lines: list[tuple[float, dict]] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            entry = json.loads(line) if line.startswith("{") else {"event": line.strip()}
            self.lines.append((time.monotonic(), entry))

    def event(self, name: str) -> tuple[float, dict] | None:
        return next((line for line in list(self.lines) if line[1]["event"] == name), None)

    async def until(self, name: str, timeout_s: float = 60) -> tuple[float, dict]:
        async with asyncio.timeout(timeout_s):
            while (found := self.event(name)) is None:
                assert self.process.poll() is None, self.lines
                await asyncio.sleep(0.01)
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reading.join()

    def close(self) -> None:
        self.kill()
        self.process.stderr.close()


@pytest.fixture
def serve(daemon, tmp_path):
    with contextlib.ExitStack() as stack:

        def start(more: str = "poll_s: 0.2") -> Served:
            config = tmp_path / "scamtap.yaml"
            config.write_text(CONFIG.format(port=daemon.ng_port, more=more))
            return stack.enter_context(contextlib.closing(Served(config)))

        yield start


def numbers(phone, since_s=0.0):
    return [packet.sequence_number for packet in phone.since(since_s) if packet.ssrc == CALL_SSRC]


def is_whole(sequence) -> bool:
    return sequence == list(range(sequence[0], sequence[0] + len(sequence)))


async def test_from_the_first_packet_to_the_warned_ear(serve, call, doubles, capsys):
    served = serve()
    _, serving = await served.until("serving")
    c1 = call()
    await served.until("call followed")
    c1.caller.says = doubles.speech(doubles.HELLO, doubles.THREAT, doubles.ASK)
    alerted_s, alert = await served.until("alert")
    assert alert["call"] == NAME
    async with asyncio.timeout(60):
        while not (warned := [packet for packet in c1.callee.got if packet.ssrc != CALL_SSRC]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    with capsys.disabled():
        sys.stdout.write(f"\nthe alert is in the subscriber's ear after {1000 * (warned[0].at_s - alerted_s):.0f} ms\n")
    assert not [packet for packet in c1.caller.got if packet.ssrc != CALL_SSRC]
    async with httpx.AsyncClient(base_url=serving["api"], trust_env=False) as api:
        described = (await api.get(f"/v1/calls/{NAME}")).json()
    assert described["level"] != "none"
    # None; where we were slow to ask, those that the warnings themselves held back.
    assert described["packets"]["far"]["lost"] <= HELD_PACKETS
    c1.hang_up()
    await served.until("call ends")


async def test_an_encrypted_fork_is_heard(serve, call, doubles):
    served = serve("srtp: true")
    _, serving = await served.until("serving")
    c1 = call()
    await served.until("call followed")
    c1.caller.says = doubles.speech(doubles.HELLO, doubles.THREAT, doubles.ASK)
    await served.until("alert")
    async with httpx.AsyncClient(base_url=serving["api"], trust_env=False) as api:
        packets = (await api.get(f"/v1/calls/{NAME}")).json()["packets"]
    assert all(packets[leg]["received"] > 20 for leg in ("far", "near"))


async def test_killed_the_call_goes_on_and_is_found_again(serve, call, capsys):
    c1 = call()
    served = serve()
    await served.until("call followed")
    await asyncio.sleep(0.5)
    served.kill()  # SIGKILL: it can tell nobody
    killed_s = time.monotonic()
    await asyncio.sleep(2)
    for phone in (c1.caller, c1.callee):
        assert len(numbers(phone, killed_s)) > 80
    again = serve()
    serving_s, _ = await again.until("serving")
    followed_s, line = await again.until("call followed")
    with capsys.disabled():
        sys.stdout.write(
            f"\nfollowed {followed_s - serving_s:.2f} s after serving, {followed_s - again.began_s:.2f} s after start\n"
        )
    assert line["call"] == NAME
    assert followed_s - serving_s < REATTACHED_S
    c1.stop()
    for phone in (c1.caller, c1.callee):
        assert {packet.ssrc for packet in phone.got} == {CALL_SSRC}
        assert is_whole(numbers(phone)), "the call's own RTP: no packet less, none more, none changed"


@contextlib.asynccontextmanager
async def warning(daemon, mode):
    """A process in the middle of a warning; killed at the end at the latest, its guard with it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PLAYING), str(daemon.ng_port), mode,
        stdout=subprocess.PIPE, env=ENVIRONMENT, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            await process.stdout.readuntil(b"playing")
            guard = int((await process.stdout.readline()).split()[-1])
        await asyncio.sleep(0.5)
        yield process, guard
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        process._transport.close()


@pytest.mark.parametrize("mode", ["heard", "held"])
@pytest.mark.parametrize("kill", [os.kill, os.killpg])
async def test_killed_in_the_middle_of_a_warning(daemon, call, mode, kill):
    c1 = call()
    async with warning(daemon, mode) as (process, _):
        began_s = time.monotonic()
        await asyncio.sleep(0.2)
        during = numbers(c1.callee, began_s)
        assert during == [] if mode == "held" else is_whole(during)
        kill(process.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        back = []
        while not back and time.monotonic() < killed_s + 6:
            await asyncio.sleep(0.1)
            back = [packet.at_s for packet in c1.callee.since(killed_s) if packet.ssrc == CALL_SSRC]
        await asyncio.sleep(0.8)
    # .1 s on a quiet machine; on a busy one the guard waits for its turn like everybody.
    assert back, "the caller is heard again: the guard outlived us"
    assert back[0] - killed_s < 5  # and the warning would last for 8 s
    assert is_whole(numbers(c1.callee, killed_s))
    assert is_whole(numbers(c1.caller)), "the other direction never noticed anything"


async def test_killed_with_its_guard_the_next_one_lets_the_caller_go(daemon, call, serve):
    """As when a whole container is killed in the middle of a warning, and started again."""
    c1 = call()
    async with warning(daemon, "held") as (process, guard):
        os.kill(guard, signal.SIGKILL)
        process.kill()
        await process.wait()
        killed_s = time.monotonic()
        await asyncio.sleep(0.5)
        assert numbers(c1.callee, killed_s) == []
        served = serve()
        followed_s, _ = await served.until("call followed")
        await asyncio.sleep(3)
        back = [packet.at_s for packet in c1.callee.since(killed_s) if packet.ssrc == CALL_SSRC]
        assert back
        assert back[0] - followed_s < 3

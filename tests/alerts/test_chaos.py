"""Senders killed at random, answers lost, a disk that takes nothing: no alert is missing, none has two effects."""

import asyncio
import contextlib
import os
import random
import resource
import sys
import time
from pathlib import Path

import pytest

CHAOS = Path(__file__).with_name("chaos.py")
ROOT = Path(__file__).resolve().parents[2]
LOST_ANSWERS = 0.1
FULL_AT_BYTES = 4096
REFUSALS_SEEN = 5


class Sender:
    """The sending process, run again after every kill."""

    def __init__(self, outbox: Path, url: str, num_alerts: int, kill_at: list[int], full_at: int) -> None:
        self.outbox = outbox
        self.url = url
        self.num_alerts = num_alerts
        self.kill_at = sorted(kill_at)  # numbers of alerts; a kill comes shortly after such a one was accepted
        self.full_at = full_at
        self.num_accepted = 0
        self.num_kills = 0
        self.num_refused = 0
        self.num_refused_when_full = 0

    async def run(self) -> None:
        while True:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(CHAOS), str(self.outbox), self.url, str(self.num_accepted), str(self.num_alerts)),
                stdout=asyncio.subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
            try:
                await self._follow(process)
            except BaseException:
                _kill(process)
                raise
            if await process.wait() == 0:
                return
            assert process.returncode == -9, process.returncode
            self.num_kills += 1

    async def _follow(self, process: asyncio.subprocess.Process) -> None:
        if self._is_disk_full():
            self._set_disk(process, is_full=True)
        async for line in process.stdout:
            if line == b"refused\n":
                self.num_refused += 1
                self.num_refused_when_full += 1
                if self.num_refused_when_full in (REFUSALS_SEEN, 3 * REFUSALS_SEEN):
                    _kill(process)  # while it holds in memory what the disk refused
                if not self._is_disk_full():
                    self._set_disk(process, is_full=False)
                continue
            self.num_accepted = max(self.num_accepted, int(line))
            if self._is_disk_full():
                self._set_disk(process, is_full=True)
            if self.kill_at and self.num_accepted >= self.kill_at[0]:
                self.kill_at.pop(0)
                await asyncio.sleep(random.uniform(0, 0.1))
                _kill(process)

    def _is_disk_full(self) -> bool:
        return self.num_accepted >= self.full_at and self.num_refused < 4 * REFUSALS_SEEN

    def _set_disk(self, process: asyncio.subprocess.Process, *, is_full: bool) -> None:
        """Files of the process grow no further: the kernel refuses writes to the outbox, whoever runs the test."""
        with contextlib.suppress(ProcessLookupError):  # killed before; the next one is told when it begins
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (FULL_AT_BYTES if is_full else hard, hard))


def _kill(process: asyncio.subprocess.Process) -> None:
    """Lines of a process killed before are still being read: then it is gone already."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()


async def deliver(chaos, folder: Path, num_alerts: int, num_kills: int) -> str:
    began_s = time.monotonic()
    kill_at = random.sample(range(1, num_alerts), num_kills) + [num_alerts] * 2  # two while it only delivers
    async with chaos.Receiver(LOST_ANSWERS, seed=1) as receiver:
        sender = Sender(folder / "outbox.db", receiver.url, num_alerts, kill_at, full_at=num_alerts // 3)
        await sender.run()
    notices = (chaos.alert(number).notice(with_text=False, now_s=0.0) for number in range(num_alerts))
    sent = {chaos.told(notice.cloud_event("/")) for notice in notices}
    assert len(sent) == num_alerts
    missing = sent - receiver.effects.keys()
    foreign = receiver.effects.keys() - sent
    twice = [warning for warning, count in receiver.effects.items() if count != 1]
    report = (
        f"{num_alerts} alerts, {sender.num_kills} kills, {receiver.num_lost} answers lost, {sender.num_refused} "
        f"refused by a full disk; {receiver.num_requests} deliveries, {len(receiver.effects)} effects, "
        f"{len(missing)} missing, {len(twice)} duplicated, {len(foreign)} foreign; {time.monotonic() - began_s:.0f} s"
    )
    assert (missing, foreign, twice, receiver.num_unsigned) == (set(), set(), [], 0), report
    assert sender.num_kills >= 0.9 * num_kills, report  # one may hit a process that is gone already
    assert sender.num_refused >= REFUSALS_SEEN, report
    assert receiver.num_requests > num_alerts + receiver.num_lost / 2, report  # the key had something to do
    assert receiver.num_lost > 0.08 * num_alerts, report
    return report


@pytest.mark.gateway
@pytest.mark.timeout(600)
def test_three_thousand_alerts_through_kills_lost_answers_and_a_full_disk(chaos, tmp_path, capsys):
    report = asyncio.run(deliver(chaos, tmp_path, 3_000, num_kills=8))
    with capsys.disabled():
        print("\n" + report)  # noqa: T201


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_hundred_thousand_alerts_through_kills_lost_answers_and_a_full_disk(chaos, tmp_path, capsys):
    report = asyncio.run(deliver(chaos, tmp_path, 100_000, num_kills=100))
    with capsys.disabled():
        print("\n" + report)  # noqa: T201

"""Ways to run the models for benchmarks/engine.py, and the batches that the live scheduler makes."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from speech import Heard

from inference.audio.segment import SpeechSegment
from inference.service.due import DueConfig, DueQueue, Waiting
from inference.service.stages import DueSegment
from inference.speech.recogniser import Recogniser

COST = 0.012  # seconds a second of window, by which batches are cut, as a worker of its own core measures it here
TICK_S = 0.06  # of a worker
TICKS_PER_S = 100  # of /proc's CPU times

Work = list[tuple[str, SpeechSegment]]


@dataclass(eq=False)
class AnyCall:
    """A call as the queue sees it."""

    level: str = "none"
    suspect_in_llr: float = 3.0


class PassesEvery:
    """What calls make of the gate's word: every ``n``-th window passes, none for 0. The gate is asked, and paid."""

    def __init__(self, n: int) -> None:
        self._n, self._seen = n, 0
        self._passes: list[bool] = []

    def needed(self, num_windows: int) -> list[float]:
        """For the next batch, what must be said of each: anything, or more than can be."""
        numbers = range(self._seen, self._seen + num_windows)
        self._passes = [bool(self._n) and number % self._n == 0 for number in numbers]
        self._seen += num_windows
        return [-math.inf if passes else math.inf for passes in self._passes]

    def __call__(self, index: int, _llr: float) -> bool:
        return self._passes[index]


@dataclass
class Mode:
    """One way to run the models, and what it took."""

    recogniser: Recogniser
    weigh: PassesEvery | None = None
    heard: Heard = field(default_factory=Heard)
    wall_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    def run(self, batch: Work, cpu_s: Callable[[], float]) -> None:
        segments = [segment for _, segment in batch]
        gating = () if self.weigh is None else (self.weigh, self.weigh.needed(len(batch)))
        before, began_s = cpu_s(), time.perf_counter()
        out = self.recogniser.transcribe(segments, ["en"] * len(batch), *gating)
        self.latencies_s.append(time.perf_counter() - began_s)
        self.wall_s += self.latencies_s[-1]
        self.heard.cpu_s += cpu_s() - before
        for (key, _), utterance in zip(batch, out, strict=True):
            self.heard.texts[key].append(utterance.text)


def in_turn(
    modes: dict[str, Mode],
    plans: dict[str, list[Work]],
    cpu: dict[str, Callable[[], float]],
    on_warm: Callable[[], object] = lambda: None,
) -> None:
    """Run every mode's batches, side by side in time, so that all meet the same load of the machine."""
    for name, mode in modes.items():  # load what is loaded lazily, and allocate
        replace(mode, heard=Heard(), latencies_s=[]).run(plans[name][0], cpu[name])
    on_warm()
    longest = max(map(len, plans.values()))
    for round_ in range(longest):
        for name, mode in modes.items():
            plan = plans[name]
            for batch in plan[round_ * len(plan) // longest : (round_ + 1) * len(plan) // longest]:
                mode.run(batch, cpu[name])


def as_scheduled(work: Work, recogniser: Recogniser, *, is_mixing: bool) -> list[Work]:
    """The batches that the scheduler makes of these segments, each leg a call of its own and all of them due."""
    config = DueConfig(max_waiting_s=1e6, max_wait_s=1e6)
    queue = DueQueue(config, recogniser.window_samples, is_mixing=is_mixing)
    calls: dict[str, AnyCall] = {}
    keys: dict[int, str] = {}
    for key, segment in work:
        call = calls.setdefault(key, AnyCall())
        keys[id(segment)] = key
        queue.add(Waiting(DueSegment(call, segment, 0.0)), 0.0)  # type: ignore[arg-type]
    batches: list[Work] = []
    while rows := queue.take(len(batches) + 1.0, COST):
        queue.give_back(rows)
        batches.append([(keys[id(row.due.segment)], row.due.segment) for row in rows])
    return batches


def own_cpu_s() -> float:
    return time.process_time()


def sibling_server() -> int | None:
    """The tritonserver that whoever started us started too (python -m inference.triton -- ...)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, fields = stat.read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue  # it has just ended
        if name == "tritonserver" and int(fields.split()[1]) == os.getppid():
            return int(stat.parent.name)
    return None


def group_cpu_s(pid: int) -> float:
    """CPU time of a process group: the server and its children."""
    total, group = 0, os.getpgid(pid)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[2]) == group:
            total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def as_heard(work: Work, recogniser: Recogniser, *, is_hopping: bool) -> Work:
    """The windows that the queue makes of each leg as time goes by."""
    queue = DueQueue(DueConfig(max_waiting_s=1e6, max_wait_s=1e6), recogniser.window_samples)
    calls = {key: AnyCall() for key, _ in work}
    key_of, out = {call: key for key, call in calls.items()}, []
    coming = sorted(work, key=lambda one: one[1].known_s)
    now_s = 0.0
    while coming or len(queue):
        now_s += TICK_S
        while coming and coming[0][1].known_s <= now_s:
            key, segment = coming.pop(0)
            due = DueSegment(calls[key], segment, segment.known_s)  # type: ignore[arg-type]
            queue.add(Waiting(due), now_s, is_hopping=is_hopping)
        while rows := queue.take(now_s, COST):
            queue.give_back(rows)
            out += [(key_of[row.due.call], row.due.segment) for row in rows]  # type: ignore[index]
    return out

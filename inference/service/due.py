"""Speech that waits for the models: whose turn it is, what waits too long, what there is no room for.

Order of service. Calls at ``suspect`` or above come first, then those that little more evidence would make so, then the
rest, then calls that are over (nobody can be warned any more). Within a class, whoever has gone unserved longest. Every
few batches begin with whoever has gone unserved longest of all, so that no class starves. A call's segments keep their
order.

Batches. A batch is no larger than a budget of computing time, so that a suspect call never waits behind a long one;
the budget grows as the worker falls behind, since larger batches cost less a segment.
Where a request must be of one length (a server takes it whole), a batch holds windows of one length only, that of its
first: padding a short segment to a long one's window costs as much as hearing it. In process windows of all lengths
share one, each encoded at its own.

Hops. While the worker is told to hear low-risk calls less often, what comes of them waits for more to come, and is then
joined: one window in place of two saves a window's padding. That holds for what comes while it is told so, so that
nothing piles up at the end of it.

What is shed. Speech of low-risk calls that waited too long, and, where the queue is full, speech of the least risky
calls, of the most talkative first, the oldest of it first. Speech of a call at ``suspect`` is not shed: only where such
calls alone fill the queue does its bound hold against them too.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from inference.audio import SAMPLE_RATE_HZ
from inference.audio.segment import SpeechSegment
from inference.service.call import Call
from inference.service.stages import DueSegment, Outcome

SUSPECT, NEAR, LOW, ENDED = range(4)
"""Classes of calls, in order of service."""


class DueConfig(BaseModel):
    """Bounds of the queue, and what a batch may be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_waiting_s: float = Field(
        6000, gt=0, description="speech that may wait, seconds: 16 kB each; 4 a call for its hop"
    )
    max_wait_s: float = Field(10, gt=0, description="low-risk speech that waited longer is shed: newer says more")
    near_llr: float = Field(1.5, ge=0, description="evidence missing to suspect, nats, up to which a call is near it")
    batch_s: float = Field(0.4, gt=0, description="computing time of a batch; one segment may exceed it")
    max_batch_s: float = Field(2, gt=0, description="to which it grows as the worker falls behind: half of the lag")
    max_rows: int = Field(64, ge=1, description="segments in a batch; its time mostly allows less")
    oldest_every: int = Field(4, ge=1, description="every so many batches begin with whoever waits longest")
    hop_s: float = Field(4, ge=0, description="long_hop: how long speech of low-risk calls waits for more")
    max_joined_s: float = Field(8, gt=0, le=28, description="long_hop: length up to which segments are joined")
    max_join_gap_s: float = Field(1, ge=0, description="long_hop: silence up to which they are, kept in between")


@dataclass(eq=False, slots=True)
class Waiting:
    """A segment in the queue.

    Attributes:
        due: the segment.
        answer: resolved with what came of it; None where nobody asks.
        ready_s: low risk: when it may go to the models.
        is_hopping: it came while such calls were to be heard less often.
        window: samples that the models hear for it.
    """

    due: DueSegment
    answer: "asyncio.Future[Outcome] | None" = None
    ready_s: float = 0.0
    is_hopping: bool = False
    window: int = 0

    @property
    def num_samples(self) -> int:
        """Its length."""
        return len(self.due.segment.samples)

    def settle(self, outcome: Outcome) -> None:
        """Tell whoever asks what came of it."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(outcome)

    def fail(self, failure: BaseException) -> None:
        """Tell that it failed."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(failure)


@dataclass(eq=False, slots=True)
class Row:
    """What goes to the models as one window: a segment, or several of one leg that were joined."""

    due: DueSegment
    parts: list[Waiting]


@dataclass(eq=False, slots=True)
class _Line:
    """What waits of one call."""

    call: Call
    since_s: float  # when it was last served, or when its first segment came
    waiting: deque[Waiting] = field(default_factory=deque)
    num_samples: int = 0
    is_out: bool = False  # a batch with segments of it is under way
    is_ended: bool = False


class DueQueue:
    """The queue. Time is given, never read; nothing here waits.

    Args:
        config: bounds.
        window_samples: how long a window is made for a segment of so many samples.
        is_mixing: whether windows of all lengths share a batch, or only equal ones.
    """

    def __init__(self, config: DueConfig, window_samples: Callable[[int], int], *, is_mixing: bool = False) -> None:
        self._config = config
        self._window_samples = window_samples
        self._is_mixing = is_mixing
        self._lines: dict[Call, _Line] = {}
        self._max_samples = round(config.max_waiting_s * SAMPLE_RATE_HZ)
        self._num_batches = 0
        self._losers: list[tuple[tuple[int, int], int, _Line]] | None = None  # a heap, while the queue is full
        self._num_losers = 0
        self.num_samples = 0

    def __len__(self) -> int:
        return sum(len(line.waiting) for line in self._lines.values())

    @property
    def calls(self) -> list[Call]:
        """Those of which speech waits or is under way."""
        return list(self._lines)

    @property
    def waiting_s(self) -> float:
        """Speech that waits, seconds."""
        return self.num_samples / SAMPLE_RATE_HZ

    def ready_window_s(self, now_s: float) -> float:
        """What the models should be hearing by now, paddings included, seconds."""
        ready = 0
        for line in self._lines.values():
            is_low = self._rank(line) == LOW
            ready += sum(one.window for one in line.waiting if not is_low or one.ready_s <= now_s)
        return ready / SAMPLE_RATE_HZ

    def add(self, waiting: Waiting, now_s: float, *, is_hopping: bool = False) -> list[Waiting]:
        """Take a segment.

        Args:
            waiting: the segment.
            now_s: now.
            is_hopping: calls of low risk are to be heard less often.

        Returns:
            What had to go to make room, which may be this very one.
        """
        call = waiting.due.call
        waiting.is_hopping, waiting.window = is_hopping, self._window_samples(waiting.num_samples)
        waiting.ready_s = waiting.due.due_s + (self._config.hop_s if is_hopping else 0.0)
        line = self._lines.setdefault(call, _Line(call, now_s))
        if not line.waiting and not line.is_out:
            line.since_s = now_s
        line.waiting.append(waiting)
        self._count(line, waiting.num_samples)
        gone, touched = [], [line]
        while self.num_samples > self._max_samples:
            loser = self._loser()
            touched.append(loser)
            if self._rank(loser) == SUSPECT:  # they alone fill the queue: the newcomer finds no room
                line.waiting.remove(waiting)
                self._count(line, -waiting.num_samples)
                gone.append(waiting)
                break
            gone.append(self._pop(loser))
        self._forget_empty(touched)
        return gone

    def hurry(self, call: Call) -> None:
        """The call is over: what it said waits for no more of it, and is not shed for being late."""
        if call in self._lines:
            self._lines[call].is_ended = True

    def withdraw(self, waiting: Waiting) -> bool:
        """Take a segment out again; false where it is not here any more."""
        line = self._lines.get(waiting.due.call)
        if line is None or waiting not in line.waiting:
            return False
        line.waiting.remove(waiting)
        self._count(line, -waiting.num_samples)
        self._forget_empty([line])
        return True

    def shed_late(self, now_s: float) -> list[Waiting]:
        """Take out low-risk speech that has waited too long."""
        gone = []
        self._losers = None
        for line in self._lines.values():
            if line.is_ended or self._rank(line) == SUSPECT:
                continue
            while line.waiting and now_s - line.waiting[0].due.due_s > self._config.max_wait_s:
                gone.append(self._pop(line))
        self._forget_empty(list(self._lines.values()))
        return gone

    def take(self, now_s: float, cost: float, lag_s: float = 0.0) -> list[Row]:
        """The next batch; empty where nothing is ready. Its calls get no other until :meth:`give_back`.

        Args:
            now_s: now.
            cost: seconds that a second of window takes the models.
            lag_s: how far behind the worker is.
        """
        ready: list[tuple[tuple[int, float], int, _Line]] = []  # turn, a number that keeps equals in order, line
        for line in self._lines.values():
            rank = self._rank(line)
            if self._is_ready(line, rank, now_s):
                ready.append(((ENDED if line.is_ended else rank, line.since_s), len(ready), line))
        if not ready:
            return []
        self._num_batches += 1
        ready.sort()
        lines = [line for _, _, line in ready]
        if self._num_batches % self._config.oldest_every == 0:
            lines.insert(0, lines.pop(min(range(len(lines)), key=lambda place: lines[place].since_s)))
        config = self._config
        batch_s = max(config.batch_s, min(config.max_batch_s, lag_s / 2))
        return self._fill(lines, now_s, batch_s / max(cost, 1e-9))

    def _fill(self, lines: Sequence[_Line], now_s: float, window_s: float) -> list[Row]:
        """A batch of the lines' next rows, in their order, that has ``window_s`` of windows."""
        rows: list[Row] = []
        room = window_s * SAMPLE_RATE_HZ
        length = self._window(self._next(lines[0]))
        for line in lines:
            if len(rows) == self._config.max_rows:
                break
            while (joined := self._next(line)) and len(rows) < self._config.max_rows:
                window = self._window(joined)
                if rows and (window > room or not (self._is_mixing or window == length)):
                    break
                rows.append(Row(_join(joined), [self._pop(line) for _ in joined]))
                line.is_out, line.since_s = True, now_s
                room -= window
        return rows

    def put_back(self, rows: Sequence[Row]) -> None:
        """The models could not take these: they are first in their lines again, if need be a batch above the bound."""
        for row in reversed(rows):
            line = self._lines[row.due.call]  # kept while it is out
            for part in reversed(row.parts):
                line.waiting.appendleft(part)
                self._count(line, part.num_samples)

    def give_back(self, rows: Sequence[Row]) -> None:
        """The batch is done: its calls may be served again."""
        for row in rows:
            line = self._lines.get(row.due.call)
            if line is not None:
                line.is_out = False
                self._forget_empty([line])

    def _rank(self, line: _Line) -> int:
        if line.call.level != "none":
            return SUSPECT
        if line.is_ended:
            return ENDED
        return NEAR if line.call.suspect_in_llr <= self._config.near_llr else LOW

    def _kept(self, line: _Line) -> tuple[int, int]:
        """The smaller, the sooner it loses speech."""
        return -self._rank(line), -line.num_samples

    def _loser(self) -> _Line:
        """The line that loses speech next; there is one.

        A full queue asks with every segment, so the order is made once a tick, and from then on only the top of it is
        held against what its calls have become meanwhile.
        """
        if self._losers is None:
            # Numbered without gaps: a line that comes later has the next number, and two lines never the same one.
            waiting = (line for line in self._lines.values() if line.waiting)
            self._losers = [(self._kept(line), number, line) for number, line in enumerate(waiting)]
            self._num_losers = len(self._losers)
            heapq.heapify(self._losers)
        while True:
            was, number, line = self._losers[0]
            if not line.waiting:
                heapq.heappop(self._losers)
            elif (now := self._kept(line)) == was:
                return line
            else:
                heapq.heapreplace(self._losers, (now, number, line))

    def _is_ready(self, line: _Line, rank: int, now_s: float) -> bool:
        if line.is_out or not line.waiting:
            return False
        is_enough = line.num_samples >= self._config.max_joined_s * SAMPLE_RATE_HZ
        return rank != LOW or line.waiting[0].ready_s <= now_s or is_enough

    def _next(self, line: _Line) -> list[Waiting]:
        """The segments that make the line's next row."""
        if not line.waiting:
            return []
        may_join = line.waiting[0].is_hopping and self._rank(line) in (LOW, ENDED)
        return list(self._joinable(line.waiting)) if may_join else [line.waiting[0]]

    def _joinable(self, waiting: deque[Waiting]) -> Iterator[Waiting]:
        first = last = waiting[0].due.segment
        for one in waiting:
            segment = one.due.segment
            fits = (
                segment.leg == first.leg
                and segment.start_s >= last.start_s
                and segment.start_s - last.end_s <= self._config.max_join_gap_s
                and segment.end_s - first.start_s <= self._config.max_joined_s
            )
            if segment is not first and not fits:
                return
            yield one
            last = segment

    def _window(self, joined: Sequence[Waiting]) -> int:
        first, last = joined[0].due.segment, joined[-1].due.segment
        if first is last:
            return joined[0].window
        return self._window_samples(round((last.end_s - first.start_s) * SAMPLE_RATE_HZ))

    def _pop(self, line: _Line) -> Waiting:
        waiting = line.waiting.popleft()
        self._count(line, -waiting.num_samples)
        return waiting

    def _count(self, line: _Line, num_samples: int) -> None:
        line.num_samples += num_samples
        self.num_samples += num_samples
        if num_samples > 0 and self._losers is not None:
            self._num_losers += 1
            heapq.heappush(self._losers, (self._kept(line), self._num_losers, line))

    def _forget_empty(self, lines: Iterable[_Line]) -> None:
        for line in lines:
            if not line.waiting and not line.is_out:
                self._lines.pop(line.call, None)


def _join(joined: Sequence[Waiting]) -> DueSegment:
    """One segment of several, with the silence between them; known when the last of them was."""
    first, last = joined[0].due.segment, joined[-1].due
    if len(joined) == 1:
        return last
    samples = np.zeros(round((last.segment.end_s - first.start_s) * SAMPLE_RATE_HZ), np.int16)
    for one in joined:
        segment = one.due.segment
        start = round((segment.start_s - first.start_s) * SAMPLE_RATE_HZ)
        samples[start : start + len(segment.samples)] = segment.samples[: len(samples) - start]
    whole = SpeechSegment(
        first.leg, first.start_s, last.segment.end_s, last.segment.known_s, samples, last.segment.is_cut
    )
    return replace(last, segment=whole)

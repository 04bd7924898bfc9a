"""A simulated day through the real screener, in virtual time: what it decides about whom."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from inference.screening.attempt import ACTIONS, CallAttempt, CallOutcome, Decision
from inference.screening.passport import NO_PASSPORT, PassportCheck
from inference.screening.remembered import WindowStore
from inference.screening.rules import Known, rule
from inference.screening.screener import Screener
from inference.screening.store import Mark
from inference.screening.traffic import DAY_S, UNWANTED, TrafficCall

EPOCH_S = 1_800_000_000.0 - 1_800_000_000.0 % DAY_S
COMPLAINS_AFTER_S = 1800.0


@dataclass(slots=True)
class Confusion:
    """Actions per kind of caller; the truth is known, since it is simulated.

    Attributes:
        counts: kind -> action -> calls.
    """

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, call: TrafficCall, action: str) -> None:
        """Count one decision."""
        self.counts[call.kind][action] += 1

    def share(self, is_unwanted: bool, actions: Iterable[str]) -> float | None:
        """Share of all (un)wanted calls with one of these actions; None where there were no such calls."""
        chosen = [counted for kind, counted in self.counts.items() if (kind in UNWANTED) == is_unwanted]
        total = sum(sum(counted.values()) for counted in chosen)
        return sum(counted[action] for counted in chosen for action in actions) / total if total else None

    def rows(self) -> list[tuple[str, bool, list[int]]]:
        """Kind, whether unwanted, and calls per action of :data:`inference.screening.attempt.ACTIONS`."""
        return [
            (kind, kind in UNWANTED, [counted[action] for action in ACTIONS])
            for kind, counted in sorted(self.counts.items(), key=lambda item: (item[0] in UNWANTED, item[0]))
        ]


class VirtualClock:
    """Seconds since the epoch, as a rehearsal sets them."""

    now_s = EPOCH_S

    def __call__(self) -> float:
        """The time now."""
        return self.now_s


class RehearsedScreener(Screener):
    """A screener that takes a simulated PASSporT as verified: signing millions of them would measure only that."""

    async def decide_simulated(self, call: TrafficCall, attempt: CallAttempt) -> tuple[Known, Decision]:
        """Decide as :meth:`decide` does, and tell what was known."""
        known, is_degraded = await self._look_up(attempt, attempt.at_s or 0.0)
        passport = _passport(call)
        known = replace(known, passport=passport)
        decision = self._decision(attempt, known, rule(known, self.config, self._model), is_degraded)
        return known, decision


async def rehearse_day(
    calls: Iterable[TrafficCall],
    screener: RehearsedScreener,
    store: WindowStore,
    clock: VirtualClock,
    on_decision: Callable[[TrafficCall, Known, Decision], None],
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Play calls in order of time; outcomes, complaints and what was heard become known when they would.

    Args:
        calls: simulated.
        screener: the real one, on ``clock``.
        store: its store.
        clock: set to each call's time.
        on_decision: told every call, what was known of it, and the decision.
        advance: told after every call.
    """
    pending: list[tuple[float, int, str, TrafficCall]] = []
    for number, call in enumerate(calls):
        while pending and pending[0][0] <= call.at_s:
            due_s, _, what, about = heapq.heappop(pending)
            clock.now_s = EPOCH_S + due_s
            await _learn(screener, store, what, about, clock.now_s)
        clock.now_s = EPOCH_S + call.at_s
        attempt = CallAttempt(
            call_id=str(number),
            caller=f"+{call.caller}",
            callee=f"+{call.callee}",
            at_s=clock.now_s,
            trunk=call.trunk,
        )
        known, decision = await screener.decide_simulated(call, attempt)
        on_decision(call, known, decision)
        if decision.action in ("allow", "prompt"):
            ended_s = call.at_s + call.rang_s + call.talked_s
            heapq.heappush(pending, (ended_s, number, "ended", call))
            if call.is_heard:
                heapq.heappush(pending, (ended_s, number, "heard_danger", call))
            if call.complains:
                heapq.heappush(pending, (ended_s + COMPLAINS_AFTER_S, number, "complaint", call))
        advance()


def _passport(call: TrafficCall) -> PassportCheck:
    if call.attestation is None:
        return NO_PASSPORT
    return PassportCheck("bad_signature") if call.attestation == "bad" else PassportCheck("valid", call.attestation)


async def _learn(screener: Screener, store: WindowStore, what: str, call: TrafficCall, at_s: float) -> None:
    if what == "ended":
        await screener.ended(
            CallOutcome(
                call_id="-",
                caller=f"+{call.caller}",
                callee=f"+{call.callee}",
                at_s=at_s,
                answered=call.answered,
                rang_s=call.rang_s,
                talked_s=call.talked_s,
            )
        )
        return
    mark: Mark = "complaint" if what == "complaint" else "heard_danger"
    await store.mark(call.caller, call.callee, mark, at_s, is_attested=call.attestation == "A")

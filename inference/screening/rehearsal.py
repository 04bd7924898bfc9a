"""Simulated calls through the real screener, in virtual time: what would have rung, and what was stopped."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.screening.attacks import CROWDS, VICTIM, AttackKind, CrowdKind, SimulatedCall, attack, crowd, real_calls
from inference.screening.attempt import CallAttempt, CallOutcome
from inference.screening.backend import MemoryBackend
from inference.screening.bombing import BombingConfig, BombingDetector
from inference.screening.lists import NumberLists
from inference.screening.remembered import WindowStore
from inference.screening.rules import RulesConfig
from inference.screening.screener import Screener

EPOCH_S = 1_800_000_000.0
HABIT_DAYS = 10
QUIZ_EVERY_DAYS = 3.0
"""A line that runs quizzes has run some before."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What became of one simulated burst.

    Attributes:
        attempts: made by the attack, or by the crowd.
        detected_s, detected_after: seconds and attack attempts from its beginning until the shield went up; None if
            it never did.
        stopped, after: attack calls challenged or rejected, of those made after that.
        known_through, known: calls of contacts let through, of all of theirs.
        bystanders_challenged, bystanders: real calls of strangers that were challenged, of all of theirs.
    """

    attempts: int
    detected_s: float | None
    detected_after: int | None
    stopped: int
    after: int
    known_through: int
    known: int
    bystanders_challenged: int
    bystanders: int


async def rehearse(
    calls: Sequence[SimulatedCall], habit: Sequence[SimulatedCall] = (), config: BombingConfig | None = None
) -> Rehearsed:
    """Play ``calls`` against a callee whose ``habit`` (negative times) came before.

    A call that is challenged or rejected does not ring, so nothing more is learnt from it; outcomes are known to the
    screener only once they have happened.
    """
    clock = _Clock()
    store = WindowStore(MemoryBackend(clock=clock))
    rules = RulesConfig(region="GB", unallocated="allow")  # so that the shield alone is measured
    screener = Screener(rules, NumberLists(), store, bursts=BombingDetector(config), clock=clock)
    ordered = sorted((*habit, *calls), key=lambda call: call.at_s)
    for caller in {call.caller for call in ordered if call.is_known and call.caller is not None}:
        await store.add_contact(VICTIM, caller.removeprefix("+"))
    pending: list[tuple[float, int, CallOutcome]] = []
    detected_s, detected_after, attempts = None, None, 0
    counted = dict.fromkeys(("stopped", "after", "through", "known", "challenged", "bystanders"), 0)
    for number, call in enumerate(ordered):
        while pending and pending[0][0] <= call.at_s:
            ended_s, _, outcome = heapq.heappop(pending)
            clock.now_s = EPOCH_S + ended_s
            await screener.ended(outcome)
        clock.now_s = EPOCH_S + call.at_s
        decision = await screener.decide(CallAttempt(call_id=str(number), caller=call.caller, callee=f"+{VICTIM}"))
        is_stopped = decision.action in ("challenge", "reject")
        if "CALL_BOMBING" in decision.reasons and detected_s is None:
            detected_s, detected_after = max(0.0, call.at_s), attempts
        if call.at_s < 0:
            pass
        elif call.is_attack:
            attempts += 1
            counted["after"] += detected_s is not None
            counted["stopped"] += is_stopped
        elif call.is_known:
            counted["known"] += 1
            counted["through"] += not is_stopped
        else:
            counted["bystanders"] += 1
            counted["challenged"] += is_stopped
        if not is_stopped:
            ended_s = call.at_s + call.rang_s + call.talked_s
            outcome = CallOutcome(
                call_id=str(number),
                caller=call.caller,
                callee=f"+{VICTIM}",
                answered=call.answered,
                rang_s=call.rang_s,
                talked_s=call.talked_s,
            )
            heapq.heappush(pending, (ended_s, number, outcome))
    return Rehearsed(
        attempts or sum(call.at_s >= 0 for call in calls),
        detected_s,
        detected_after,
        counted["stopped"],
        counted["after"],
        counted["through"],
        counted["known"],
        counted["challenged"],
        counted["bystanders"],
    )


class _Clock:
    now_s = EPOCH_S

    def __call__(self) -> float:
        return self.now_s


async def rehearse_attack(kind: AttackKind, per_minute: float, seed: int) -> Rehearsed:
    """An attack on a person with an ordinary habit, mixed with real calls."""
    rng = np.random.default_rng(seed)
    duration_s = 3600.0 if kind == "slow" else 120.0
    made = attack(kind, per_minute, rng, duration_s)
    return await rehearse([*made, *real_calls(30.0, duration_s, rng)], _habit(rng, 0.4))


async def rehearse_crowd(kind: CrowdKind, seed: int) -> Rehearsed:
    """A crowd; only a quiz line has had crowds before, a school a few calls an hour, a recall line none at all."""
    rng = np.random.default_rng(seed)
    habit = _habit(rng, {"quiz": 2.0, "recall": 0.0, "school": 3.0, "birthday": 0.4}[kind])
    if kind == "quiz":
        day_s = 86_400.0
        for back in np.arange(QUIZ_EVERY_DAYS, HABIT_DAYS, QUIZ_EVERY_DAYS):
            habit += [_moved(call, -back * day_s) for call in crowd("quiz", rng)]
    return await rehearse(crowd(kind, rng), habit)


def _habit(rng: np.random.Generator, per_hour: float) -> list[SimulatedCall]:
    if not per_hour:
        return []
    duration_s = HABIT_DAYS * 86_400.0
    return [_moved(call, -duration_s - 4000) for call in real_calls(per_hour, duration_s, rng)]


def _moved(call: SimulatedCall, by_s: float) -> SimulatedCall:
    return SimulatedCall(
        call.at_s + by_s,
        call.caller,
        call.answered,
        call.rang_s,
        call.talked_s,
        is_attack=False,
        is_known=call.is_known,
    )


CROWD_KINDS: tuple[CrowdKind, ...] = tuple(CROWDS)

import asyncio
from itertools import pairwise

from inference.screening.backend import MemoryBackend
from inference.screening.lists import NumberLists
from inference.screening.rehearse_day import Confusion, RehearsedScreener, VirtualClock, rehearse_day
from inference.screening.remembered import WindowStore
from inference.screening.rules import RulesConfig
from inference.screening.score import LogisticRisk, load_risk
from inference.screening.traffic import HABITS, UNWANTED, traffic


def confusion(days=1.0, seed=7, scale=0.1, model=None) -> Confusion:
    clock, done = VirtualClock(), Confusion()
    store = WindowStore(MemoryBackend(clock=clock))
    screener = RehearsedScreener(RulesConfig(region="GB"), NumberLists(), store, model=model, clock=clock)
    asyncio.run(
        rehearse_day(
            traffic(days, seed, scale), screener, store, clock, lambda call, _known, made: done.add(call, made.action)
        )
    )
    return done


def test_traffic_is_in_order_and_the_same_for_a_seed():
    calls = list(traffic(0.5, 3, 0.05))
    assert calls == list(traffic(0.5, 3, 0.05))
    assert calls != list(traffic(0.5, 4, 0.05))
    assert all(a.at_s <= b.at_s for a, b in pairwise(calls))
    assert {call.kind for call in traffic(1.0, 3, 0.1)} == set(HABITS)


def test_the_model_tells_unwanted_calls_from_wanted_ones():
    done = confusion(model=LogisticRisk(load_risk()))
    stopped = ("challenge", "reject")
    assert done.share(True, stopped) > 4 * done.share(False, stopped)
    assert done.share(False, stopped) < 0.02
    assert done.share(True, ("prompt", *stopped)) > 0.25
    assert sum(sum(row) for _, _, row in done.rows()) == sum(1 for _ in traffic(1.0, 7, 0.1))
    assert {kind for kind, is_unwanted, _ in done.rows() if is_unwanted} <= UNWANTED


def test_rules_alone_stop_only_numbers_of_no_plan():
    done = confusion()
    assert all(not sum(row[2:]) for kind, _, row in done.rows() if kind in ("person", "clinic", "bank", "campaign"))
    assert done.counts["spoofed"]["challenge"] > 0

"""The cascade in virtual time: a call is read once the gate has heard enough of it, and its evidence is its own."""

import asyncio
import math

import pytest

from inference.gate.evidence import GateEvidence
from inference.gateway.spec import CallSpec
from inference.service.due import DueConfig
from inference.service.overload import OverloadConfig
from inference.service.scheduler import SchedulerConfig
from tests.service.doubles import GATE_CALIBRATION

CALIBRATION = GATE_CALIBRATION


@pytest.fixture
def cascade(doubles):
    """``cascade(gates)``: parts and stages with a gate that hears half of what the intent model would think."""
    return lambda gates: {"parts": doubles.gated_parts(), "stages": doubles.gated_stages(gates)}


def said(bus):
    follower = bus.follow()

    def collect():
        events = [event.to_json() for event in list(follower._waiting)]
        return [(e["call"], e["leg"], e["text"]) for e in events if e["type"] == "utterance"]

    return collect


def play(bench, spec_of, doubles, cascade, **calls):
    """Play calls of ``name=(far phrases, near phrases)`` side by side; what was read of each."""

    async def run():
        async with bench(**cascade) as b:
            heard, legs = said(b.bus), {}
            for number, (name, (far, near)) in enumerate(calls.items()):
                ports = 30000 + 4 * number, 30002 + 4 * number
                b.watch.begin(CallSpec.model_validate(spec_of(name, *ports)))
                legs |= {
                    port: doubles.packets(doubles.speech(*leg)) for port, leg in zip(ports, (far, near), strict=True)
                }
            await b.play(legs)
            verdicts = {name: (await b.watch.end(name)).level for name in calls}
            return heard(), verdicts, b.watch.load()

    return asyncio.run(run())


def test_a_call_is_read_from_where_it_passes_and_others_are_not(bench, spec_of, doubles, cascade):
    hello, threat, ask, fine = doubles.HELLO, doubles.THREAT, doubles.ASK, doubles.FINE
    heard, verdicts, load = play(
        bench, spec_of, doubles, cascade("always"),
        bad=((hello, threat, None, ask), (None, None, fine, None)),
        good=((fine, fine, None, fine), (None, None, fine, None)),
    )  # fmt: skip
    assert heard == [("bad", "far", threat.text), ("bad", "near", fine.text), ("bad", "far", ask.text)]
    assert verdicts["bad"] in ("suspect", "danger")
    assert verdicts["good"] == "none"
    assert load["held_s"] > load["understood_s"] > 0


def test_without_need_everything_is_read_and_the_gate_listens_along(bench, spec_of, doubles, cascade):
    made = cascade("overload")
    heard, _, load = play(bench, spec_of, doubles, made, good=((doubles.FINE, doubles.HELLO), (doubles.FINE,)))
    assert len(heard) == 3
    assert load["held_s"] == 0
    assert made["stages"].recogniser.num_weighed == 3


def test_under_overload_a_call_that_passed_before_goes_on_being_read(bench, spec_of, doubles, cascade):
    hello, threat, fine = doubles.HELLO, doubles.THREAT, doubles.FINE
    # Any lag at all is overload, and it never calms down.
    always_late = OverloadConfig(long_hop_from_s=1e-9, gate_only_from_s=1e-9, refuse_from_s=100, calm_s=1e9)
    made = cascade("overload") | {"scheduler": SchedulerConfig(overload=always_late, due=DueConfig(hop_s=0))}
    heard, _, _ = play(
        bench, spec_of, doubles, made, bad=((hello, threat, fine), (None,)), good=((fine, hello, fine), (None,))
    )
    assert ("bad", "far", threat.text) in heard
    assert ("bad", "far", fine.text) in heard
    assert [text for call, _, text in heard if call == "good"] in ([], [fine.text])  # the first came before the lag


def test_what_the_gate_hears_is_added_to_what_the_words_say(bench, spec_of, doubles, cascade):
    risks = []
    for fusion in (0.0, 1.0):
        made = cascade("overload") | {"stages": doubles.gated_stages("overload", fusion=fusion)}

        async def run(made=made):
            async with bench(**made) as b:
                b.watch.begin(CallSpec.model_validate(spec_of("one", 30000, 30002)))
                await b.play({30000: doubles.packets(doubles.speech(doubles.HELLO, doubles.HELLO))})
                return (await b.watch.end("one")).risk

        risks.append(asyncio.run(run()))
    odds = [risk / (1 - risk) for risk in risks]
    # The gate of the doubles says half of what the words do, once for each of the two.
    assert odds[1] / odds[0] == pytest.approx(math.exp(doubles.HELLO.llr), rel=1e-3)


def test_evidence_has_a_floor_and_the_near_leg_adds_none():
    gate = GateEvidence(CALIBRATION)
    assert not any(gate.weigh("far", -1.0) for _ in range(100))
    assert gate.evidence_llr == -CALIBRATION.floor_llr
    assert not gate.weigh("near", 100.0)
    assert not gate.weigh("far", 3.9)
    assert gate.weigh("far", 0.2)
    assert gate.weigh("near", 0.0)
    assert not gate.weigh("far", -50.0)


def test_below_zero_a_gate_reads_at_first_and_settings_win_over_the_operating_point():
    gate = GateEvidence(CALIBRATION, pass_llr=-1.0)
    assert gate.weigh("near", 0.0)
    assert [gate.weigh("far", llr) for llr in (-0.9, -0.2, -9.0, 1.9, 0.2)] == [True, False, False, False, True]
    assert not GateEvidence(CALIBRATION, pass_llr=2.0).weigh("far", 1.5)

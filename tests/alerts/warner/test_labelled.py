"""A label that was shown before the call rang, said when it is answered."""

import pytest

from inference.alerts.ear import Reach


class Everybody:
    """A list that all are on."""

    is_kept = False

    def covers(self, subscriber):
        return True


def label(bench, via="gate"):
    bench.warner.labelled(Reach(via=via, call="their-id", subscriber="+1555"), "Reported by 214 subscribers", "en")
    return bench.warner.settle()


def test_it_is_said_once_by_the_calls_own_ear(warned):
    async def run(bench):
        await label(bench)
        await bench.alert("danger")  # a warning in the same call is still said, and not for the cooldown

    bench = warned(run, cooldown_s=60)
    assert bench.gate.played == ["suspect", "en-danger-card_otp"]
    assert bench.outcomes == [("gate", "label said"), ("gate", "played")]
    assert bench.ears["sms"].played == []


@pytest.mark.parametrize(
    ("config", "via", "outcome"),
    [
        ({"in_call": False}, "gate", ("gate", "label suppressed: off")),
        ({"opt_outs": Everybody()}, "gate", ("gate", "label suppressed: opted out")),
        ({}, None, ("none", "label suppressed: no way")),
        ({}, "elsewhere", ("none", "label suppressed: no way")),
    ],
)
def test_why_it_is_not_said_is_counted(warned, config, via, outcome):
    bench = warned(lambda b: label(b, via), **config)
    assert bench.outcomes == [outcome]
    assert bench.gate.heard == []


@pytest.mark.parametrize("mood", ["refuses", "waits"])
def test_a_gateway_that_does_not_is_counted(warned, mood):
    async def run(bench):
        bench.gate.mood = mood
        await label(bench)

    bench = warned(run, play_timeout_s=0.02)
    assert bench.outcomes == [("gate", "label failed")]

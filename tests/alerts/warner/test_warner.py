"""Who is warned, with what, how often and by which way; and that nothing is said to those who want none."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import capture_logs

from inference.alerts import warner
from inference.alerts.alert import Alert
from inference.alerts.ear import Reach
from inference.alerts.warner import MAX_RUNNING, WarnerConfig
from inference.errors import ConfigError


def test_each_level_is_said_once_by_the_way_that_the_call_came(warned):
    async def run(b):
        await b.alert("suspect")
        await b.alert("danger")

    b = warned(run)
    assert b.gate.played == ["suspect", "en-danger-card_otp"]
    assert b.ears["sms"].heard == []
    assert b.outcomes == [("gate", "played")] * 2
    assert all(ear.is_closed for ear in b.ears.values())


@pytest.mark.parametrize(
    ("family", "language", "name"),
    [("card_otp", "zh", "zh-danger-card_otp"), ("prize", "en", "en-danger-general"), (None, None, "en-danger-general")],
)
def test_the_line_is_about_the_scam_in_the_calls_language(warned, family, language, name):
    async def run(b):
        await b.alert("danger", family=family, language=language)

    assert warned(run).gate.played == [name]


def test_within_the_cooldown_nothing_but_a_rise_is_said(warned):
    async def run(b):
        await b.alert("danger")
        b.now_s += 29.0
        await b.alert("danger")
        await b.alert("suspect")
        b.now_s += 1.0
        await b.alert("danger")

    b = warned(run, cooldown_s=30)
    assert b.gate.played == ["en-danger-card_otp"] * 2
    assert [outcome for _, outcome in b.outcomes] == ["played", *["suppressed: cooldown"] * 2, "played"]


def test_no_more_than_so_many_in_a_call(warned):
    async def run(b):
        for _ in range(5):
            await b.alert("danger")
            b.now_s += 60
        await b.alert("danger", call="c2")

    b = warned(run, max_per_call=2)
    assert len(b.gate.played) == 3
    assert [outcome for _, outcome in b.outcomes].count("suppressed: enough") == 3


@pytest.mark.parametrize(("config", "why"), [({"suspect_tone": False}, "suspect is off"), ({"in_call": False}, "off")])
def test_what_is_switched_off_is_not_heard_and_counted(warned, config, why):
    async def run(b):
        await b.alert("suspect")

    b = warned(run, **config)
    assert b.gate.heard == []
    assert b.outcomes == [("gate", f"suppressed: {why}")]


@pytest.mark.parametrize("mood", ["refuses", "waits"])
def test_a_failing_gateway_is_followed_by_the_fall_backs_in_turn(warned, mood):
    async def run(b):
        b.gate.mood = b.ears["sip"].mood = mood
        with capture_logs() as logs:
            await b.alert("danger")
        assert {line["event"] for line in logs if line["log_level"] == "warning"} == {"warning not played"}

    b = warned(run, "gate", "sip", "sms", fallbacks=("sip", "sms"), play_timeout_s=0.01)
    assert b.outcomes == [("gate", "failed"), ("sip", "failed"), ("sms", "played")]


def test_a_beep_has_no_fall_back(warned):
    async def run(b):
        b.gate.mood = "refuses"
        await b.alert("suspect")
        await b.alert("suspect", call="c2", via="rtpengine")

    b = warned(run, fallbacks=("sms",))
    assert b.outcomes == [("gate", "failed"), ("none", "suppressed: no way")]


@pytest.mark.parametrize("via", [None, "a gateway that is not here"])
def test_a_call_without_a_way_back_is_counted_or_falls_back(warned, via):
    async def run(b):
        await b.alert("danger", via=via)

    assert warned(run).outcomes == [("none", "suppressed: no way")]
    assert warned(run, fallbacks=("sms",)).outcomes == [("sms", "played")]


def test_the_caller_never_waits(warned):
    async def run(b):
        b.gate.mood = "waits"
        for number in range(3):
            b.warner.alerted(Alert(f"c{number}", "danger", 1.0, 0.9, None, None, ()), Reach(via="gate"), "en")
        assert b.gate.heard == []  # not even begun: that is for the event loop
        await asyncio.sleep(0)
        b.gate.waiting.set()
        await b.warner.settle()

    assert warned(run).outcomes == [("gate", "played")] * 3


def test_a_flood_of_warnings_is_bounded(warned):
    async def run(b):
        b.gate.mood = "waits"
        for number in range(MAX_RUNNING + 5):
            b.warner.alerted(Alert(f"c{number}", "danger", 1.0, 0.9, None, None, ()), Reach(via="gate"), "en")
        b.gate.waiting.set()

    outcomes = warned(run).outcomes
    assert outcomes.count(("gate", "suppressed: busy")) == 5
    assert outcomes.count(("gate", "played")) == MAX_RUNNING


def test_the_key_stops_the_sound_silences_the_call_and_is_feedback(warned):
    async def run(b):
        await b.alert("suspect")
        b.now_s += 0.2
        b.warner.key_pressed("c1", "near", "9")
        await b.warner.settle()
        b.warner.key_pressed("c1", "near", "9")
        b.now_s += 100
        await b.alert("danger")
        await b.alert("danger", call="c2")

    b = warned(run, fallbacks=("sms",))
    assert b.gate.heard == [("play", "suspect"), ("stop", ""), ("play", "en-danger-card_otp")]
    assert b.ears["sms"].heard == []
    (feedback,) = b.feedback
    body = feedback.to_json()
    assert (body["call"], body["says"], body["level"], body["after_s"]) == ("c1", "not_a_scam", "suspect", 0.2)
    assert body["alert"].startswith("alr_")
    assert body["id"].startswith("fbk_")
    assert ("gate", "suppressed: not a scam") in b.outcomes


@pytest.mark.parametrize(
    ("leg", "digits", "wait_s", "counts"),
    [
        ("near", "9", 1.0, True),
        ("near", "9", 20.0, True),
        ("near", "9", 20.1, False),
        ("far", "9", 1.0, False),
        ("near", "8", 1.0, False),
        ("near", "1239", 1.0, True),
        ("near", "?", 1.0, False),
    ],
)
def test_only_the_subscribers_key_soon_after_a_warning_counts(warned, leg, digits, wait_s, counts):
    async def run(b):
        b.warner.key_pressed("c1", leg, "9")  # before any warning: no word on it
        await b.alert("danger")
        b.now_s += wait_s
        for digit in digits:
            b.warner.key_pressed("c1", leg, digit)

    assert bool(warned(run).feedback) is counts


@pytest.mark.parametrize("mood", ["refuses", "waits"])
def test_a_key_after_a_warning_that_nobody_heard_means_something_else(warned, mood):
    async def run(b):
        b.gate.mood = mood
        await b.alert("suspect")
        b.warner.key_pressed("c1", "near", "9")
        b.gate.mood = "takes"
        await b.alert("danger", call="c2", via=None)  # a message, not heard in the call
        b.warner.key_pressed("c2", "near", "9")
        await b.alert("danger")

    b = warned(run, play_timeout_s=0.01, fallbacks=("sms",))
    assert not b.feedback
    assert b.gate.played == ["suspect", "en-danger-card_otp"]


def test_a_key_after_a_failed_warning_still_answers_the_one_before(warned):
    async def run(b):
        await b.alert("suspect")
        b.gate.mood = "refuses"
        await b.alert("danger")
        b.warner.key_pressed("c1", "near", "9")

    assert [feedback.level for feedback in warned(run).feedback] == ["suspect"]


def test_several_keys_count_in_a_row_and_none_is_none(warned):
    async def run(b):
        await b.alert("danger")
        for digit in "*1**":
            b.warner.key_pressed("c1", "near", digit)

    assert len(warned(run, not_scam_keys="**").feedback) == 1
    assert not warned(run, not_scam_keys="*9").feedback
    assert not warned(run, not_scam_keys="").feedback


def test_a_key_while_the_gateway_is_about_to_play_still_stops_it(warned):
    async def run(b):
        b.gate.mood = "waits"
        b.warner.alerted(Alert("c1", "danger", 1.0, 0.9, None, None, ()), Reach(via="gate"), "en")
        while not b.gate.heard:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        b.warner.key_pressed("c1", "near", "9")
        b.gate.mood = "takes"
        b.gate.waiting.set()

    assert warned(run).gate.heard[-1] == ("stop", "")


def test_a_call_that_ended_hears_nothing_but_gets_its_message(warned):
    async def run(b):
        b.warner.alerted(Alert("c1", "danger", 1.0, 0.9, "card_otp", None, ()), Reach(via="gate"), "en")
        b.warner.ended("c1")
        await b.warner.settle()
        assert b.warner.num_calls == 0
        b.warner.key_pressed("c1", "near", "9")
        b.warner.ended("c1")

    b = warned(run, fallbacks=("sms",))
    assert b.gate.heard == []
    assert b.ears["sms"].played == ["en-danger-card_otp"]
    assert b.outcomes == [("gate", "suppressed: call over"), ("sms", "played")]
    assert not b.feedback


def test_a_standing_call_begins_again_unsilenced(warned):
    async def run(b):
        await b.alert("danger")
        b.warner.key_pressed("c1", "near", "9")
        b.warner.ended("c1")
        await b.alert("danger")

    assert len(warned(run).gate.played) == 2


def test_a_beep_that_danger_overtook_is_not_sent_any_more(warned):
    async def run(b):
        for level in ("suspect", "danger"):
            b.warner.alerted(Alert("c1", level, 1.0, 0.9, "card_otp", None, ()), Reach(via="gate"), "en")

    b = warned(run)
    assert b.gate.played == ["en-danger-card_otp"]
    assert ("gate", "suppressed: a later one") in b.outcomes


def test_numbers_are_in_no_log_line(warned):
    async def run(b):
        for mood in ("takes", "refuses", "waits"):
            b.gate.mood = mood
            await b.alert("danger", call=mood, subscriber="+442079460000")
            b.warner.key_pressed(mood, "near", "9")

    with capture_logs() as logs:
        warned(run, play_timeout_s=0.01)
    assert {line["event"] for line in logs} >= {"warning played", "warning not played", "subscriber says not a scam"}
    assert not [line for line in logs if "442079460000" in repr(line) or "their-id" in repr(line)]


def test_two_ways_of_one_name_are_one_line(warned, noting_ear):
    async def run(b):
        with pytest.raises(ConfigError, match="called gate"):
            b.warner.add(noting_ear("gate"))
        added = noting_ear("rtpengine")
        b.warner.add(added)
        await b.alert("danger", via="rtpengine")
        await b.warner.aclose()
        assert not added.is_closed  # its gateway sees to that

    assert warned(run).outcomes == [("rtpengine", "played")]


def test_calls_that_nobody_ended_are_forgotten_in_the_end(warned, monkeypatch):
    monkeypatch.setattr(warner, "MAX_CALLS", 3)

    async def run(b):
        for number in range(5):
            await b.alert("danger", call=f"c{number}")
        assert b.warner.num_calls == 3
        await b.alert("danger", call="c4")
        await b.alert("danger", call="c0")

    assert [outcome for _, outcome in warned(run).outcomes] == ["played"] * 5 + ["suppressed: cooldown", "played"]


@pytest.mark.parametrize(
    "values",
    [
        {"not_scam_keys": "x"},
        {"max_per_call": 0},
        {"opt_out_path": "x"},
        {"cooldown_s": -1},
        {"language": "fr"},
        {"a": 1},
    ],
)
def test_config_refuses(values):
    with pytest.raises(ValidationError):
        WarnerConfig(**values)


class Subscribers:
    """Those who opted out, by number; in place of a file."""

    is_kept = True

    def __init__(self) -> None:
        self.opted_out: set[str] = set()

    def covers(self, subscriber: str) -> bool:
        return subscriber in self.opted_out

    def refresh(self) -> None:
        return None


EVENTS = st.one_of(
    st.tuples(st.just("alert"), st.sampled_from(["suspect", "danger"]), st.integers(0, 1)),
    st.tuples(st.just("key"), st.sampled_from(["near", "far"]), st.integers(0, 1)),
    st.tuples(st.just("end"), st.none(), st.integers(0, 1)),
    st.tuples(st.just("opt out"), st.none(), st.integers(0, 1)),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 4.0, 10.0, 25.0]), st.just(0)),
    st.tuples(st.just("mood"), st.sampled_from(["takes", "refuses"]), st.just(0)),
)


@settings(max_examples=200, deadline=None)
@given(events=st.lists(EVENTS, max_size=40), max_per_call=st.integers(1, 4))
def test_whatever_the_order_of_events_the_bounds_hold(warned, events, max_per_call):
    """Never more than N a call, the same or less within the cooldown, or anything after the key or an opt-out."""
    cooldown_s, window_s, subscribers = 10.0, 5.0, Subscribers()
    plays: dict[str, list[tuple[float, str]]] = {}

    async def run(b):
        silenced = set()
        last_s: dict[str, float] = {}
        for what, value, number in events:
            call, before = f"c{number}", len(b.gate.played)
            if what == "alert":
                await b.alert(value, call=call, subscriber=call)
            elif what == "opt out":
                subscribers.opted_out.add(call)
            elif what == "key":
                b.warner.key_pressed(call, value, "9")
                if value == "near" and b.now_s - last_s.get(call, -1e9) <= window_s:
                    silenced.add(call)
            elif what == "end":
                b.warner.ended(call)
                plays.pop(call, None)
                silenced.discard(call)
                last_s.pop(call, None)
            elif what == "wait":
                b.now_s += value
            else:
                b.gate.mood = value
            await b.warner.settle()
            for name in b.gate.played[before:]:
                assert what == "alert"
                assert call not in silenced | subscribers.opted_out
                earlier = plays.setdefault(call, [])
                assert len(earlier) < max_per_call
                if earlier:
                    at_s, former = earlier[-1]
                    has_risen = former == "suspect" and name != "suspect"
                    assert has_risen or b.now_s - at_s >= cooldown_s
                earlier.append((b.now_s, name))
                if b.gate.mood == "takes":
                    last_s[call] = b.now_s

    b = warned(
        run, "gate", max_per_call=max_per_call, cooldown_s=cooldown_s, key_window_s=window_s, opt_outs=subscribers
    )
    assert len(b.feedback) == [outcome for _, outcome in b.outcomes].count("not a scam")

"""One suite over every place to remember in."""

import asyncio
import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.errors import CapacityError
from inference.screening.backend import MemoryBackend
from inference.screening.remembered import WindowStore
from inference.screening.sqlite import SqliteBackend

NOW_S = 1_800_000_000.0
HOUR_S, DAY_S = 3600, 86_400
CALLER, CALLEE = "441632960001", "441632960002"


class Clock:
    now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.gateway)])
def opened(request, tmp_path):
    """``async with opened() as store``: an empty store of each kind."""

    @contextlib.asynccontextmanager
    async def make(clock=None):
        if request.param == "memory":
            backend = MemoryBackend(clock=clock or Clock())
        elif request.param == "sqlite":
            path = tmp_path / "screening.db"
            path.unlink(missing_ok=True)
            backend = SqliteBackend(path, clock=clock or Clock())
        else:
            from inference.screening.redis import RedisBackend, RedisConfig

            server = request.getfixturevalue("redis_server")
            server.flush()
            backend = RedisBackend(RedisConfig(url=server.url, timeout_s=2))
        store = WindowStore(backend)
        try:
            yield store
        finally:
            await store.aclose()

    return make


def run(opened, steps):
    async def go():
        async with opened() as store:
            return await steps(store)

    return asyncio.run(go())


async def call(store, callee=CALLEE, at_s=NOW_S, caller=CALLER, is_night=False):
    return await store.attempt(caller, callee, at_s, is_night=is_night)


def test_attempts_are_counted_over_their_windows(opened):
    async def steps(store):
        for age_s in (25 * HOUR_S + 1, 23 * HOUR_S, 2 * HOUR_S, 600, 5):
            seen = await call(store, f"44163296{age_s % 10_000:04}", NOW_S - age_s, is_night=age_s == 600)
        return await call(store), seen

    seen, before = run(opened, steps)
    assert (before.caller.attempts, seen.caller.attempts) == (4, 5)
    assert seen.caller.attempts_1h == 3
    assert seen.caller.distinct_callees == 6  # kept in blocks of six hours: up to 30 hours back
    assert seen.caller.night == 1
    assert seen.caller.first_seen_s == NOW_S - (25 * HOUR_S + 1)


def test_outcomes_are_counted(opened):
    async def steps(store):
        for answered, rang_s, talked_s in ((True, 9, 5), (True, 4, 300), (False, 2, 0), (False, 25, 0)):
            await store.outcome(CALLER, CALLEE, NOW_S, answered=answered, rang_s=rang_s, talked_s=talked_s)
        await store.outcome(None, CALLEE, NOW_S, answered=False, rang_s=1, talked_s=0)
        return await call(store)

    seen = run(opened, steps)
    assert (seen.caller.ended, seen.caller.answered, seen.caller.short) == (4, 2, 1)
    assert seen.callee.short_rings_60s == 2


def test_numbers_dialled_in_a_row_are_noticed(opened):
    async def steps(store):
        for callee in (100, 101, 103, 200, 199, 200):
            seen = await call(store, str(441632960000 + callee))
        return seen

    assert run(opened, steps).caller.sequential == 3


def test_marks_count_once_per_callee_and_fade(opened):
    async def steps(store):
        for callee in (1, 1, 2):
            await store.mark(CALLER, f"44163296{callee}", "complaint", NOW_S)
        await store.mark(CALLER, CALLEE, "heard_danger", NOW_S, is_attested=True)
        await store.mark(CALLER, CALLEE, "not_a_scam", NOW_S)
        return (await call(store)).caller, (await call(store, at_s=NOW_S + 7 * DAY_S)).caller

    now, later = run(opened, steps)
    assert (now.complaints, now.heard_danger, now.heard_attested, now.not_a_scam) == (2, 1, 1, 1)
    assert later.complaints == pytest.approx(1.0)
    assert later.heard_danger == pytest.approx(0.5)


def test_a_callee_sees_its_burst(opened):
    async def steps(store):
        for number in range(30):
            seen = await call(store, caller=f"4470000{number:05}", at_s=NOW_S + number)
        return seen, await call(store, at_s=NOW_S + 200, caller=None)

    seen, later = run(opened, steps)
    assert seen.callee.attempts_60s == 30
    assert 8 <= seen.callee.attempts_10s <= 10
    assert seen.callee.callers_60s == 30
    assert (later.callee.attempts_60s, later.callee.attempts_600s) == (1, 31)


def test_a_callees_habit_is_known_when_a_burst_is_possible(opened):
    async def steps(store):
        for hour in range(10):
            for number in range(3):
                await call(store, at_s=NOW_S - (hour + 2) * HOUR_S, caller=f"447{number}")
        quiet = await call(store)
        for _ in range(5):
            burst = await call(store)
        return quiet, burst

    quiet, burst = run(opened, steps)
    assert quiet.callee.baseline_per_hour == 0
    assert 2.5 <= burst.callee.baseline_per_hour <= 3.0
    assert burst.callee.baseline_peak_10min == 3


def test_contacts_and_call_backs_are_known_for_their_time(opened):
    async def steps(store):
        await store.add_contact(CALLEE, "1")
        await store.add_contact(CALLEE, "2", NOW_S + 60)
        return [
            (await call(store, caller=caller, at_s=at_s)).is_contact
            for caller, at_s in (("1", NOW_S), ("2", NOW_S), ("2", NOW_S + 61), ("3", NOW_S), (None, NOW_S))
        ]

    assert run(opened, steps) == [True, True, False, False, False]


def test_a_shield_is_on_until_its_time_or_until_it_is_taken_off(opened):
    async def steps(store):
        await store.shield(CALLEE, NOW_S + 60)
        on, over = await call(store), await call(store, at_s=NOW_S + 61)
        await store.shield(CALLEE, None)
        return [s.callee.shielded_until_s for s in (on, over, await call(store))]

    assert run(opened, steps) == [NOW_S + 60, None, None]


def test_withheld_callers_have_no_window_but_count_for_the_callee(opened):
    async def steps(store):
        for number in range(3):
            seen = await call(store, caller=None, at_s=NOW_S + number)
        return seen

    seen = run(opened, steps)
    assert seen.caller.attempts == 0
    assert (seen.callee.attempts_60s, seen.callee.callers_60s) == (3, 3)


steps = st.lists(
    st.tuples(
        st.sampled_from(["attempt", "outcome", "complaint", "heard_danger", "shield", "contact"]),
        st.integers(1, 3),
        st.integers(1, 3),
        st.integers(0, 4000),
        st.booleans(),
    ),
    max_size=25,
)


async def play(store, script):
    at_s, seen = NOW_S, []
    for what, caller, callee, step_s, flag in script:
        at_s += step_s
        one, other = f"44700{caller}", f"44800{callee}"
        if what == "attempt":
            seen.append(await store.attempt(one, other, at_s, is_night=flag))
        elif what == "outcome":
            await store.outcome(one, other, at_s, answered=flag, rang_s=3, talked_s=step_s)
        elif what == "shield":
            await store.shield(other, at_s + 100 if flag else None)
        elif what == "contact":
            await store.add_contact(other, one, at_s + 500 if flag else None)
        else:
            await store.mark(one, other, what, at_s, is_attested=flag)
    return seen


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_every_store_sees_the_same(opened, script):
    async def go():
        async with opened() as store:
            return await play(store, script), await play(WindowStore(MemoryBackend(clock=Clock())), script)

    seen, want = asyncio.run(go())
    assert seen == want


def test_a_busy_number_stays_small(opened):
    async def steps(store):
        for step in range(24 * 40):  # every hour for forty days, then every two seconds
            await call(store, at_s=NOW_S + step * HOUR_S)
        return await call(store, at_s=NOW_S + 24 * 40 * HOUR_S)

    seen = run(opened, steps)
    assert seen.caller.attempts in (24, 25)


def test_a_full_table_of_marks_takes_a_new_one(opened):
    async def steps(store):
        for number in range(600):
            await store.mark(CALLER, f"44{number:010}", "not_a_scam", NOW_S + number / 100)
        await store.mark(CALLER, CALLEE, "complaint", NOW_S + 10)
        return (await call(store, at_s=NOW_S + 10)).caller

    seen = run(opened, steps)
    assert seen.complaints == 1
    assert 400 < seen.not_a_scam <= 512


def test_whom_a_subscriber_called_may_call_back(opened):
    async def steps(store):
        await store.attempt(CALLEE, "441", NOW_S, is_night=False, is_outgoing=True)
        known = [await call(store, caller=c, at_s=NOW_S + 60) for c in ("441", "442", None)]
        late = await call(store, caller="441", at_s=NOW_S + 15 * DAY_S)
        return [s.is_contact for s in (*known, late)]

    assert run(opened, steps) == [True, False, False, False]


def test_after_a_call_for_help_whoever_calls_is_let_through(opened):
    async def steps(store):
        await store.attempt(CALLEE, "999", NOW_S, is_night=False, is_outgoing=True, is_emergency=True)
        return [(await call(store, at_s=NOW_S + s)).is_called_back for s in (60, 3 * HOUR_S)]

    assert run(opened, steps) == [True, False]


def test_labels_shown_are_counted_a_day(opened):
    async def steps(store):
        counts = []
        for day in range(6):
            at_s = NOW_S + day * DAY_S
            for _ in range(day):
                await store.told(CALLEE, "label", at_s)
            counts.append((await call(store, at_s=at_s)).wants.prompts_today)
        return counts

    assert run(opened, steps) == [0, 1, 2, 3, 4, 5]


def test_too_many_contacts_are_said(opened, monkeypatch):
    monkeypatch.setattr("inference.screening.remembered.MAX_CONTACTS", 2)

    async def steps(store):
        await store.add_contact(CALLEE, "1")
        await store.add_contact(CALLEE, "2", NOW_S + 5)
        with pytest.raises(CapacityError, match="2 contacts"):
            await store.add_contact(CALLEE, "3", now_s=NOW_S)
        await store.add_contact(CALLEE, "3", now_s=NOW_S + 6)  # an old one made room
        await store.forget_contact(CALLEE, "1")
        return [(await call(store, caller=c, at_s=NOW_S + 6)).is_contact for c in "123"]

    assert run(opened, steps) == [False, False, True]


def test_what_was_decided_is_known_until_the_call_is_answered_and_heard(opened):
    async def steps(store):
        async def attempt(at_s, *, is_attested, caller=CALLER):
            await store.attempt(caller, CALLEE, at_s, is_night=False, is_attested=is_attested)

        await attempt(NOW_S, is_attested=True)
        await store.labelled(CALLER, CALLEE, "Listed | as fraud", "zh", NOW_S)
        await store.labelled(None, CALLEE, "of nobody", "en", NOW_S)
        ages_s = (5, 179, 200, 5 * HOUR_S, 7 * HOUR_S)
        seen = [await store.screened(CALLER, CALLEE, NOW_S + age_s) for age_s in ages_s]
        other = await store.screened("441632960009", CALLEE, NOW_S)
        wants = (await call(store)).wants.prompts_today
        await attempt(NOW_S + 60, is_attested=False)  # somebody else shows the number now
        return seen, other, wants, await store.screened(CALLER, CALLEE, NOW_S + 61)

    seen, other, prompts_today, spoofed = run(opened, steps)
    assert [s.label for s in seen] == ["Listed | as fraud"] * 2 + [None] * 3
    assert [s.is_attested for s in seen] == [True] * 4 + [False]
    assert (seen[0].language, prompts_today) == ("zh", 2)
    assert (other.label, other.is_attested, spoofed.is_attested) == (None, False, False)


def test_messages_are_counted_a_day_apart_from_labels(opened):
    async def steps(store):
        await store.told(CALLEE, "reminder", NOW_S)
        await store.told(CALLEE, "reminder", NOW_S)
        await store.told(CALLEE, "shield", NOW_S)
        return await store.preferences(CALLEE, NOW_S), await store.preferences(CALLEE, NOW_S + DAY_S)

    today, tomorrow = run(opened, steps)
    assert (today.prompts_today, today.reminders_today, today.shields_today) == (0, 2, 1)
    assert (tomorrow.reminders_today, tomorrow.shields_today) == (0, 0)

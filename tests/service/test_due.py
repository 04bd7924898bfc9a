"""The queue of due speech in virtual time: order of service, batches, hops, what is shed; and its laws."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.audio.segment import SpeechSegment
from inference.service.due import DueConfig, DueQueue, Waiting
from inference.service.stages import DueSegment

RATE_HZ = 8000


@dataclass(eq=False)
class FakeCall:
    """What the queue looks at of a call."""

    level: str = "none"
    suspect_in_llr: float = 3.0
    segments: list = field(default_factory=list)


def window(num_samples):
    """As the recogniser makes them: a second of silence, in half seconds."""
    return math.ceil((num_samples + RATE_HZ) / 4000) * 4000


def queue(*, is_mixing=False, **config):
    return DueQueue(DueConfig(**config), window, is_mixing=is_mixing)


def say(call, due_s, spoken_s=2.0, leg="far", start_s=None):
    start_s = due_s - spoken_s if start_s is None else start_s
    samples = np.full(round(spoken_s * RATE_HZ), 7, np.int16)
    return Waiting(DueSegment(call, SpeechSegment(leg, start_s, start_s + spoken_s, due_s, samples), due_s))


def taken(queue, now_s, cost=0.01):
    rows = queue.take(now_s, cost)
    queue.give_back(rows)
    return [row.due.call for row in rows]


def test_suspects_come_first_then_those_near_it_then_the_rest_then_the_ended():
    low, near, suspect, ended = FakeCall(), FakeCall(suspect_in_llr=1.0), FakeCall("suspect"), FakeCall()
    q = queue(max_rows=1, oldest_every=100)
    for number, call in enumerate((ended, low, near, suspect)):
        q.add(say(call, float(number)), number)
    q.hurry(ended)
    assert [taken(q, 5.0)[0] for _ in range(4)] == [suspect, near, low, ended]


def test_within_a_class_whoever_went_unserved_longest_is_next():
    calls = [FakeCall() for _ in range(3)]
    q = queue(max_rows=1, oldest_every=100)
    for turn in range(3):
        for call in calls:
            q.add(say(call, 1.0), 1.0 + turn)
    assert [taken(q, 5.0 + turn)[0] for turn in range(6)] == calls * 2


def test_every_few_batches_begin_with_whoever_waits_longest_of_all():
    low, suspect = FakeCall(), FakeCall("suspect")
    q = queue(max_rows=1, oldest_every=3)
    q.add(say(low, 0.0), 0.0)
    served = []
    for turn in range(3):
        q.add(say(suspect, 1.0), 1.0 + turn)
        served += taken(q, 2.0 + turn)
    assert served == [suspect, suspect, low]


def test_a_batch_holds_windows_of_one_length_and_keeps_to_its_time():
    calls = [FakeCall() for _ in range(40)]
    q = queue(max_rows=16, batch_s=0.4)
    for number, call in enumerate(calls):
        q.add(say(call, 1.0, spoken_s=2.0 if number % 2 else 5.0), 1.0)
    first = q.take(2.0, 0.01)  # 6 s windows cost 60 ms each
    second = q.take(2.0, 0.03)  # 3 s windows, 90 ms each
    assert {len(row.due.segment.samples) for row in first} == {5 * RATE_HZ}
    assert [len(first), len(second)] == [6, 4]


@pytest.mark.parametrize(("lag_s", "rows"), [(0.0, 1), (0.7, 1), (2.0, 3), (4.0, 6), (100.0, 6)])
def test_the_further_behind_the_larger_the_batches(lag_s, rows):
    q = queue(batch_s=0.4, max_batch_s=2)
    for _ in range(10):
        q.add(say(FakeCall(), 1.0), 1.0)
    assert len(q.take(2.0, 0.11, lag_s)) == rows  # windows of 3 s cost .33 s each


def test_where_lengths_mix_a_batch_is_filled_in_order_up_to_its_time():
    calls = [FakeCall() for _ in range(10)]
    q = queue(batch_s=0.4, is_mixing=True)
    for number, call in enumerate(calls):
        q.add(say(call, 1.0 + number, spoken_s=2.0 if number % 2 else 5.0), 1.0 + number)
    rows = q.take(20.0, 0.02)  # room for 20 s of windows, of 6 and 3 s in turn
    assert [row.due.call for row in rows] == calls[:4]


def test_one_segment_may_exceed_the_time_of_a_batch():
    q = queue(batch_s=0.01)
    q.add(say(FakeCall(), 1.0), 1.0)
    assert len(q.take(1.0, 10.0)) == 1


def test_a_call_is_never_in_two_batches_at_once_and_keeps_its_order():
    call = FakeCall()
    q = queue(max_rows=2)
    said = [say(call, float(number)) for number in range(5)]
    for waiting in said:
        q.add(waiting, 5.0)
    first = q.take(5.0, 0.01)
    assert q.take(5.0, 0.01) == []
    q.give_back(first)
    second = q.take(5.0, 0.01)
    assert [part for row in (*first, *second) for part in row.parts] == said[:4]


def test_hopping_speech_of_low_risk_waits_and_is_joined_with_its_pause():
    call = FakeCall()
    q = queue(hop_s=4)
    q.add(say(call, 2.0, start_s=0.0), 2.0, is_hopping=True)
    assert q.take(3.0, 0.01) == []
    assert q.ready_window_s(3.0) == 0
    q.add(say(call, 4.5, start_s=2.5), 4.5, is_hopping=True)
    (row,) = q.take(6.0, 0.01)
    joined = row.due.segment
    assert len(row.parts) == 2
    assert (joined.start_s, joined.end_s, joined.known_s, row.due.due_s) == (0.0, 4.5, 4.5, 4.5)
    assert joined.samples.tolist() == [7] * 16000 + [0] * 4000 + [7] * 16000


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ({"start_s": 2.5, "leg": "near"}, "another voice"),
        ({"start_s": 3.5}, "too long a pause"),
        ({"start_s": 2.5, "spoken_s": 6.0}, "too long a whole"),
        ({"start_s": -1.0, "spoken_s": 2.5}, "begun earlier"),
    ],
)
def test_what_does_not_belong_together_is_not_joined(second, why):
    call = FakeCall()
    q = queue(hop_s=1)
    q.add(say(call, 2.0, start_s=0.0), 2.0, is_hopping=True)
    q.add(say(call, 9.0, **second), 9.0, is_hopping=True)
    rows = q.take(20.0, 0.01)
    assert len(rows[0].parts) == 1, why


@pytest.mark.parametrize("change", [{"level": "suspect"}, {"suspect_in_llr": 0.5}])
def test_a_call_that_comes_near_waits_no_longer_and_is_not_joined(change):
    call = FakeCall()
    q = queue(hop_s=4)
    for number in range(2):
        q.add(say(call, 2.0 + 0.1 * number), 2.0, is_hopping=True)
    for name, value in change.items():
        setattr(call, name, value)
    assert [len(row.parts) for row in q.take(2.5, 0.01)] == [1, 1]


def test_enough_to_fill_a_window_waits_no_longer():
    call = FakeCall()
    q = queue(hop_s=100, max_joined_s=8)
    for number in range(4):
        q.add(say(call, 2.0 * number), 2.0 * number, is_hopping=True)
    (row,) = q.take(8.0, 0.01)
    assert len(row.parts) == 4


def test_low_risk_speech_that_waits_too_long_is_shed_and_no_other():
    low, near, suspect, ended = FakeCall(), FakeCall(suspect_in_llr=1.0), FakeCall("danger"), FakeCall()
    q = queue(max_wait_s=10)
    said = {call: say(call, 1.0) for call in (low, near, suspect, ended)}
    for waiting in said.values():
        q.add(waiting, 1.0)
    q.hurry(ended)
    assert q.shed_late(11.0) == []
    assert q.shed_late(11.1) == [said[low], said[near]]
    assert len(q) == 2


def test_a_full_queue_gives_up_the_oldest_of_the_most_talkative_of_the_least_risky():
    brief, talkative, suspect = FakeCall(), FakeCall(), FakeCall("suspect")
    q = queue(max_waiting_s=10)
    for call in (brief, talkative, talkative, suspect):
        q.add(waiting := say(call, 1.0), 1.0)
        call.segments.append(waiting)
    assert q.add(say(suspect, 2.0), 2.0) == []
    assert q.add(say(suspect, 3.0), 3.0) == talkative.segments[:1]
    assert q.waiting_s == 10


def test_only_suspects_that_fill_the_queue_alone_find_its_bound():
    suspect = FakeCall("suspect")
    q = queue(max_waiting_s=4)
    assert q.add(say(suspect, 1.0), 1.0) == []
    assert q.add(say(suspect, 2.0), 2.0) == []
    newcomer = say(suspect, 3.0)
    assert q.add(newcomer, 3.0) == [newcomer]
    assert [q.add(low := say(FakeCall(), 4.0), 4.0), len(q)] == [[low], 2]


def test_what_was_withdrawn_is_gone():
    q = queue()
    q.add(waiting := say(FakeCall(), 1.0), 1.0)
    assert q.withdraw(waiting)
    assert not q.withdraw(waiting)
    assert (len(q), q.num_samples, q.calls) == (0, 0, [])


@settings(max_examples=200, deadline=None)
@given(
    said=st.lists(st.tuples(st.integers(0, 7), st.sampled_from([0.5, 1.0, 2.5])), min_size=20, max_size=80),
    rises=st.lists(st.tuples(st.integers(0, 79), st.integers(0, 7), st.sampled_from(["near", "suspect"])), max_size=6),
)
def test_a_full_queue_gives_up_whose_turn_it_is_though_calls_change_meanwhile(said, rises):
    """Within a tick the order is kept, not made anew: it is the same."""
    calls = [FakeCall() for _ in range(8)]
    q = queue(max_waiting_s=12)
    for number, (who, spoken_s) in enumerate(said):
        for _, risen, to in (rise for rise in rises if rise[0] == number):
            calls[risen].suspect_in_llr, calls[risen].level = (
                0.5,
                "suspect" if to == "suspect" else calls[risen].level,
            )
        if number % 30 == 29:
            q.shed_late(1.0)  # a tick
        lost = q.add(say(calls[who], 1.0, spoken_s), 1.0)
        if len(lost) == 1 and lost[0].due.call.level == "none":
            (gone,) = lost
            held = Counter(
                {call: sum(one.num_samples for one in _waiting(q) if one.due.call is call) for call in calls}
            )
            held[gone.due.call] += gone.num_samples
            order = {
                call: (2 if call.suspect_in_llr > 1.5 else 1, held[call]) for call in calls if call.level == "none"
            }
            assert order[gone.due.call] == max(order[call] for call in order if held[call])


# --- laws ------------------------------------------------------------------------------------------------------------

NUM_CALLS = 6
STEP = st.one_of(
    st.tuples(st.just("say"), st.integers(0, NUM_CALLS - 1), st.sampled_from([0.5, 1.0, 2.5, 4.0])),
    st.tuples(st.just("level"), st.integers(0, NUM_CALLS - 1), st.sampled_from(["none", "suspect", "danger"])),
    st.tuples(st.just("near"), st.integers(0, NUM_CALLS - 1), st.sampled_from([0.5, 3.0])),
    st.tuples(st.just("wait"), st.floats(0, 3), st.none()),
    st.tuples(st.just("take"), st.booleans(), st.none()),
    st.tuples(st.just("end"), st.integers(0, NUM_CALLS - 1), st.none()),
)
BOUND_S = 9.0


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(STEP, max_size=120), is_hopping=st.booleans(), is_mixing=st.booleans())
def test_laws_of_the_queue(steps, is_hopping, is_mixing):
    """Bounded; nothing lost or doubled; a call in order; no suspect shed while there is anybody else's speech."""
    calls = [FakeCall() for _ in range(NUM_CALLS)]
    q = queue(max_waiting_s=BOUND_S, max_wait_s=6, max_rows=3, hop_s=2, is_mixing=is_mixing)
    now_s, out = 0.0, None
    offered, served, gone = [], [], []
    for kind, what, value in steps:
        match kind:
            case "say":
                waiting = say(calls[what], now_s, value)
                offered.append(waiting)
                lost = q.add(waiting, now_s, is_hopping=is_hopping)
                if any(one.due.call.level != "none" for one in lost):
                    left = {call for call in calls if call.level == "none"}
                    assert not left & {one.due.call for one in _waiting(q)}
                gone += lost
            case "level":
                calls[what].level = value
            case "near":
                calls[what].suspect_in_llr = value
            case "wait":
                now_s += what
                late = q.shed_late(now_s)
                assert all(one.due.call.level == "none" and now_s - one.due.due_s > 6 for one in late)
                gone += late
            case "take":
                if out is not None:
                    q.give_back(out)
                    out = None
                else:
                    out = q.take(now_s, 0.01)
                    assert len(out) <= 3
                    assert is_mixing or len({window(len(row.due.segment.samples)) for row in out}) <= 1
                    served += [part for row in out for part in row.parts]
            case "end":
                q.hurry(calls[what])
        assert q.waiting_s <= BOUND_S
        everything = Counter(map(id, (*served, *gone, *_waiting(q))))
        assert everything == Counter(map(id, offered))
    by_call = defaultdict(list)
    for one in served:
        by_call[one.due.call].append(offered.index(one))
    assert all(order == sorted(order) for order in by_call.values())


def _waiting(queue):
    return [one for line in queue._lines.values() for one in line.waiting]


@settings(max_examples=100, deadline=None)
@given(
    levels=st.lists(st.sampled_from(["none", "near", "suspect"]), min_size=2, max_size=8),
    lengths=st.lists(st.sampled_from([0.5, 2.0, 4.0]), min_size=1, max_size=5),
)
def test_nobody_starves_however_long_all_talk(levels, lengths):
    """All calls always have speech waiting: each is served again within a bounded number of batches."""
    calls = [FakeCall("suspect" if level == "suspect" else "none", 0.5 if level == "near" else 3.0) for level in levels]
    every = 4
    q = queue(max_rows=1, max_waiting_s=100_000, oldest_every=every)
    now_s = 0.0
    for call in calls:
        for number in range(40):
            q.add(say(call, now_s, lengths[number % len(lengths)]), now_s)
    last_served = dict.fromkeys(calls, 0)
    for turn in range(1, 41):
        now_s += 1.0
        for call in taken(q, now_s):
            last_served[call] = turn
        assert all(turn - last <= every * len(calls) for last in last_served.values())

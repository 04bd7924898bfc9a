"""The table of transactions: what is kept of a call after its refusal was acknowledged, and for how long."""

import gc

import pytest

from inference.errors import CapacityError
from inference.gateway.sip.incoming import Incoming
from inference.gateway.sip.message import parse_message
from inference.gateway.sip.table import Transactions


def incoming(sip, number, wire):
    data = sip.request(branch=f"z9hG4bK{number}", call=f"c{number}@sbc", From=f"<sip:src@sbc.example>;tag={number}")
    return Incoming.read(parse_message(data), wire)


def refuse(table, request, *, acknowledge=True):
    transaction = table.open(request)
    transaction.respond(302)
    if acknowledge:
        transaction.acknowledged()


def test_after_its_ack_a_refusal_is_known_by_its_key_for_5_s(sip, clock):
    table, request = Transactions(clock, 4), incoming(sip, 1, sip.Wire())
    refuse(table, request)
    assert table.find(request.key) is None
    clock.advance(4.9)
    assert table.is_settled(request.key)
    assert table.is_merged(request)
    clock.advance(0.2)
    assert not table.is_settled(request.key)
    assert not table.is_merged(request)
    assert len(table) == clock.num_due == 0


def test_each_is_forgotten_in_its_turn_by_one_timer(sip, clock):
    table, wire = Transactions(clock, 1000), sip.Wire()
    for number in range(300):
        refuse(table, incoming(sip, number, wire))
        clock.advance(0.01)
    assert (len(table), clock.num_due) == (300, 1)
    clock.advance(3.5)  # 5 s after the hundred and fiftieth
    assert len(table) == pytest.approx(150, abs=4)
    clock.advance(2)
    assert len(table) == clock.num_due == 0


def test_what_was_acknowledged_counts_against_the_bound_until_it_is_forgotten(sip, clock):
    table, wire = Transactions(clock, 2), sip.Wire()
    refuse(table, incoming(sip, 0, wire))
    refuse(table, incoming(sip, 1, wire), acknowledge=False)
    with pytest.raises(CapacityError, match="2 SIP transactions are open"):
        table.open(incoming(sip, 2, wire))
    clock.advance(6)
    table.open(incoming(sip, 2, wire))


def test_over_tcp_nothing_is_kept_after_the_ack(sip, clock):
    table = Transactions(clock, 4)
    refuse(table, incoming(sip, 1, sip.Wire("TCP")))
    assert len(table) == clock.num_due == 0


def test_an_ack_before_the_answer_changes_nothing(sip, clock):
    table, wire = Transactions(clock, 4), sip.Wire()
    transaction = table.open(incoming(sip, 1, wire))
    transaction.acknowledged()
    clock.advance(0.3)
    assert [message.status for message in wire.take()] == [100]
    transaction.respond(302)
    assert [message.status for message in wire.take()] == [302]


def test_closed_it_holds_nothing_and_waits_for_nothing(sip, clock):
    table, wire = Transactions(clock, 4), sip.Wire()
    refuse(table, incoming(sip, 1, wire))
    refuse(table, incoming(sip, 2, wire), acknowledge=False)
    table.close()
    assert len(table) == clock.num_due == 0


@pytest.mark.parametrize(("acknowledge", "most_each"), [(True, 0.1), (False, 20)])
def test_what_is_kept_is_little_for_the_garbage_collector(sip, clock, acknowledge, most_each):
    """Of whole requests kept for their time, a pass was .17 s at 2,000 a second: every call waited."""
    table, wire, count = Transactions(clock, 2000), sip.Wire(), 500
    for number in range(1100):  # headers that were read are remembered in a cache: fill it
        incoming(sip, 10_000 + number, wire)
    gc.collect()
    before = len(gc.get_objects())
    for number in range(count):
        refuse(table, incoming(sip, number, wire), acknowledge=acknowledge)
        wire.sent.clear()
    clock.advance(1)
    gc.collect()
    after = len(gc.get_objects())
    assert len(table) == count
    assert after - before <= most_each * count

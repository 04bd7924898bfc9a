"""Timers of transactions (RFC 3261 section 17), in virtual time."""

import pytest

from inference.errors import CapacityError
from inference.gateway.sip.incoming import Incoming
from inference.gateway.sip.message import parse_message
from inference.gateway.sip.table import Transactions


@pytest.fixture
def opened(sip, clock):
    """``opened(method, transport)``: (transactions, transaction, wire)."""

    def make(method="INVITE", transport="UDP", **more):
        wire = sip.Wire(transport)
        transactions = Transactions(clock, 4)
        incoming = Incoming.read(parse_message(sip.request(method, **more)), wire)
        return transactions, transactions.open(incoming), wire

    return make


def statuses(wire):
    return [message.status for message in wire.take()]


def test_an_invite_unanswered_is_told_trying_after_200_ms(opened, clock):
    _, transaction, wire = opened()
    clock.advance(0.19)
    assert statuses(wire) == []
    clock.advance(0.02)
    assert statuses(wire) == [100]
    transaction.respond(200)
    assert statuses(wire) == [200]


def test_a_refusal_is_sent_again_until_its_ack_timer_g(opened, clock):
    transactions, transaction, wire = opened()
    transaction.respond(486)
    sent_s = []
    for _ in range(120):
        sent_s += [clock.time() - 1000.0] * len(statuses(wire))
        clock.advance(0.1)
    assert sent_s == pytest.approx([0, 0.5, 1.5, 3.5, 7.5, 11.5], abs=0.11)
    transaction.acknowledged()
    clock.advance(4.9)
    assert statuses(wire) == []
    assert len(transactions) == 1  # timer I: absorbs copies of the ACK
    clock.advance(0.2)
    assert len(transactions) == clock.num_due == 0


def test_a_refusal_nobody_acknowledges_ends_after_32_s_timer_h(opened, clock):
    transactions, transaction, wire = opened()
    transaction.respond(486)
    clock.advance(31.9)
    assert len(transactions) == 1
    assert len(statuses(wire)) == 11
    clock.advance(0.2)
    assert len(transactions) == clock.num_due == 0


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
def test_a_200_is_sent_again_on_any_transport_until_its_ack(opened, clock, transport):
    transactions, transaction, wire = opened(transport=transport)
    unconfirmed = []
    transaction.respond(200, on_unconfirmed=lambda: unconfirmed.append(clock.time()))
    clock.advance(2)
    assert statuses(wire) == [200, 200, 200]
    transaction.acknowledged()
    clock.advance(40)
    assert statuses(wire) == []
    assert unconfirmed == []
    assert len(transactions) == clock.num_due == 0


def test_a_200_nobody_acknowledges_is_told_once(opened, clock):
    transactions, transaction, _ = opened()
    unconfirmed = []
    transaction.respond(200, on_unconfirmed=lambda: unconfirmed.append(clock.time()))
    clock.advance(100)
    assert unconfirmed == [1032.0]
    assert len(transactions) == clock.num_due == 0


@pytest.mark.parametrize(("transport", "kept_s"), [("UDP", 32), ("TCP", 0)])
def test_other_requests_keep_their_answer_for_copies_timer_j(opened, clock, transport, kept_s):
    transactions, transaction, wire = opened("OPTIONS", transport)
    transaction.received_again()
    assert statuses(wire) == []
    transaction.respond(200)
    if kept_s:
        clock.advance(kept_s - 0.1)
        transaction.received_again()
        assert statuses(wire) == [200, 200]
        clock.advance(0.2)
    assert len(transactions) == clock.num_due == 0


def test_only_the_first_final_answer_counts(opened, clock):
    _, transaction, wire = opened()
    transaction.respond(180)
    transaction.respond(200)
    transaction.respond(486)
    assert statuses(wire) == [180, 200]


def test_a_cancel_before_the_answer_is_487_and_told(opened):
    _, transaction, wire = opened()
    told = []
    transaction.on_cancel = lambda: told.append(1)
    transaction.cancelled()
    transaction.cancelled()
    assert (statuses(wire), told) == ([487], [1])


def test_the_table_is_bounded_both_ways(sip, clock):
    wire, transactions = sip.Wire(), Transactions(clock, 2)
    for number in range(3):
        incoming = Incoming.read(parse_message(sip.request("OPTIONS", branch=f"z9hG4bK{number}", cseq=number)), wire)
        ours = parse_message(sip.request("BYE", branch=f"z9hG4bKo{number}"))
        if number < 2:
            transactions.open(incoming)
            transactions.send(ours, wire, lambda _: None)
            continue
        with pytest.raises(CapacityError, match="2 SIP transactions are open"):
            transactions.open(incoming)
        with pytest.raises(CapacityError, match="2 SIP requests wait"):
            transactions.send(ours, wire, lambda _: None)


def test_a_request_of_ours_is_sent_again_until_answered_timers_e_f_k(sip, clock):
    wire, transactions, got = sip.Wire(), Transactions(clock, 4), []
    transactions.send(parse_message(sip.request("BYE", branch="z9hG4bKb")), wire, got.append)
    clock.advance(8)
    assert len(wire.take()) == 5  # 0, .5, 1.5, 3.5, 7.5 s
    answer = "SIP/2.0 {} x\r\nVia: SIP/2.0/UDP 192.0.2.1;branch={}\r\nCSeq: 1 BYE\r\n\r\n"
    for status, branch in ((200, "z9hG4bKother"), (100, "z9hG4bKb"), (200, "z9hG4bKb"), (200, "z9hG4bKb")):
        transactions.receive_response(parse_message(answer.format(status, branch).encode()))
    assert [response.status for response in got] == [200]
    clock.advance(5)
    assert (wire.take(), len(transactions), clock.num_due) == ([], 0, 0)

    transactions.send(parse_message(sip.request("BYE", branch="z9hG4bKc")), sip.Wire("TCP"), got.append)
    clock.advance(33)
    assert got[1:] == [None]
    assert (len(transactions), clock.num_due) == (0, 0)


def test_answers_go_to_the_host_that_asked_and_never_elsewhere(opened):
    _, transaction, wire = opened(Via="SIP/2.0/UDP 203.0.113.99:5999;branch=z9hG4bKx;maddr=203.0.113.98")
    transaction.respond(200)
    assert wire.ports == [5999]
    (answer,) = wire.take()
    assert "received=192.0.2.10" in answer.headers.get("Via")

    _, transaction, wire = opened(Via="SIP/2.0/UDP 203.0.113.99:5999;branch=z9hG4bKx;rport")
    transaction.respond(200)
    assert wire.ports == [5060]
    assert "rport=5060;received=192.0.2.10" in wire.take()[0].headers.get("Via")

"""The agent at its door: bytes in, bytes out, sessions in between."""

import pytest

from inference.gateway.sip.agent import Agent
from inference.gateway.sip.application import METHODS, AgentConfig, Answer
from inference.gateway.sip.message import RefusedError

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n"


class Office:
    """An application that takes every INVITE and writes down what happens."""

    def __init__(self, clock, **config):
        self.agent = Agent(self, clock, AgentConfig(contact_parameters=("+sip.srs",), **config))
        self.log = []
        self.refusal = None
        self.later = []
        self.defers = False

    def admit(self, request, flow):
        self.log.append("admit")
        if self.refusal is not None and self.refusal.status == 401:
            raise self.refusal

    def probed(self):
        return 200

    def invited(self, transaction):
        if self.refusal is not None:
            raise self.refusal
        if self.defers:
            self.later.append(transaction)
            return
        accepted = self.agent.prepare(transaction, self)
        self.accepted = accepted
        self.agent.accept(accepted, transaction, Answer(SDP))

    def changed(self, incoming):
        if self.refusal is not None:
            raise self.refusal
        self.log.append(incoming.cseq.method)
        return Answer(SDP)

    def ended(self, why):
        self.log.append(why)


@pytest.fixture
def office(clock):
    return Office(clock)


@pytest.fixture
def call(sip, office, clock):
    """A session that stands: ``call(method, **more)`` sends within it and gives the answers."""
    wire = sip.Wire()
    office.agent.receive(sip.request(), wire)
    (ok,) = wire.take()
    tag = ok.headers.get("To").partition("tag=")[2]
    office.agent.receive(sip.request("ACK", to_tag=tag, branch="z9hG4bKack"), wire)
    office.log.clear()
    number = iter(range(2, 100))

    def send(method, *, flow=wire, **more):
        cseq = more.pop("cseq", None) or next(number)
        office.agent.receive(
            sip.request(method, **{"to_tag": tag, "branch": f"z9hG4bKin{cseq}", "cseq": cseq} | more), flow
        )
        return flow.take()

    send.wire, send.tag, send.ok = wire, tag, ok
    return send


def test_an_invite_is_answered_with_what_a_dialog_needs(call, office):
    headers = call.ok.headers
    assert call.ok.status == 200
    assert headers.get("Contact") == "<sip:192.0.2.1:5060>;+sip.srs"
    assert headers.items("Allow") == list(METHODS)
    assert (call.ok.body, headers.get("Content-Type")) == (SDP, "application/sdp")
    assert len(call.tag) >= 16
    assert office.agent.num_sessions == 1


def test_record_route_comes_back_and_becomes_the_route(sip, office, clock):
    wire = sip.Wire()
    routes = "<sip:p2.example;lr>, <sip:p1.example;lr>"
    office.agent.receive(sip.request(more=[f"Record-Route: {routes}"]), wire)
    (ok,) = wire.take()
    assert ok.headers.items("Record-Route") == routes.split(", ")
    office.agent.hang_up(office.accepted)
    (bye,) = wire.take()
    assert (bye.method, bye.uri) == ("BYE", "sip:src@192.0.2.10:5060")
    assert bye.headers.all("Route") == routes.split(", ")
    assert bye.headers.get("From") == ok.headers.get("To")
    assert bye.headers.get("To") == "<sip:src@sbc.example>;tag=far"
    assert office.log[-1] == "hung up"


def test_copies_of_an_invite_get_the_same_answer_and_no_second_session(sip, office):
    wire = sip.Wire()
    for _ in range(3):
        office.agent.receive(sip.request(), wire)
    assert len(wire.sent) == 3
    assert len(set(wire.sent)) == 1
    assert office.agent.num_sessions == 1


def test_an_invite_that_came_by_another_way_too_is_merged(sip, office):
    wire = sip.Wire()
    office.agent.receive(sip.request(), wire)
    office.agent.receive(sip.request(branch="z9hG4bKother"), wire)
    assert [message.status for message in wire.take()] == [200, 482]


def test_bye_ends_it(call, office):
    assert [answer.status for answer in call("BYE")] == [200]
    assert office.log == ["bye"]
    assert office.agent.num_sessions == 0
    assert [answer.status for answer in call("BYE")] == [481]


def test_a_bye_with_a_low_cseq_ends_it_too(call, office):
    assert [answer.status for answer in call("BYE", cseq=1)] == [200]
    assert office.log == ["bye"]


def test_changes_in_order_are_taken_and_late_ones_are_not(call, office):
    assert [answer.status for answer in call("UPDATE")] == [200]
    assert [answer.status for answer in call("INVITE", cseq=9)] == [200]
    assert [answer.status for answer in call("UPDATE", cseq=8)] == [500]
    assert [answer.status for answer in call("INVITE", cseq=10)] == [491]  # 9 is not acknowledged
    assert call("ACK", cseq=9, branch="z9hG4bKack9") == []
    assert [answer.status for answer in call("INVITE", cseq=11)] == [200]
    assert office.log == ["UPDATE", "INVITE", "INVITE"]


def test_a_refused_change_leaves_the_session(call, office):
    office.refusal = RefusedError(488, "no")
    assert [answer.status for answer in call("INVITE")] == [488]
    office.refusal = None
    assert [answer.status for answer in call("BYE")] == [200]


def test_options_outside_and_within(call, sip, office):
    wire = sip.Wire()
    office.agent.receive(sip.request("OPTIONS", branch="z9hG4bKo", call="other"), wire)
    (answer,) = wire.take()
    assert (answer.status, answer.headers.items("Allow")) == (200, list(METHODS))
    assert [answer.status for answer in call("OPTIONS")] == [200]


def test_a_stranger_cannot_end_or_change_a_session(call, sip, office):
    stranger = sip.Wire(peer=("198.51.100.66", 5060))
    office.refusal = RefusedError(401, "who are you")
    assert [a.status for a in call("BYE", flow=stranger)] == [401]
    assert [a.status for a in call("INVITE", flow=stranger)] == [401]
    office.refusal = None
    assert [a.status for a in call("BYE", to_tag="guessed")] == [481]
    assert [a.status for a in call("BYE", From="<sip:src@sbc.example>;tag=other")] == [481]
    assert office.agent.num_sessions == 1


def test_refused_before_the_transaction_nothing_is_kept(sip, office, clock):
    wire = sip.Wire()
    office.refusal = RefusedError(401, "who are you", [("WWW-Authenticate", "Digest x")])
    for number in range(50):
        office.agent.receive(sip.request(branch=f"z9hG4bK{number}", call=f"c{number}"), wire)
        office.agent.receive(sip.request("ACK", branch=f"z9hG4bK{number}", call=f"c{number}"), wire)
    assert [message.status for message in wire.take()] == [401] * 50
    assert office.agent.num_transactions == office.agent.num_sessions == clock.num_due == 0


def test_cancel_before_and_after_the_answer(sip, office, call):
    assert [a.status for a in call("CANCEL", branch="z9hG4bKnone", to_tag=None)] == [481]
    wire = sip.Wire()
    office.defers = True
    office.agent.receive(sip.request(call="c2", branch="z9hG4bKc2"), wire)
    office.agent.receive(sip.request("CANCEL", call="c2", branch="z9hG4bKc2"), sip.Wire(peer=("198.51.100.1", 5060)))
    assert wire.take() == []  # not its sender
    office.agent.receive(sip.request("CANCEL", call="c2", branch="z9hG4bKc2"), wire)
    assert sorted((a.status, a.headers.get("CSeq")) for a in wire.take()) == [(200, "1 CANCEL"), (487, "1 INVITE")]
    office.later[0].respond(200)  # too late: nothing
    assert wire.take() == []
    office.defers = False
    office.agent.receive(sip.request(call="c3", branch="z9hG4bKc3"), wire)
    office.agent.receive(sip.request("CANCEL", call="c3", branch="z9hG4bKc3"), wire)
    assert [(a.status, a.headers.get("CSeq")) for a in wire.take()] == [(200, "1 INVITE"), (200, "1 CANCEL")]
    assert office.agent.num_sessions == 2  # its BYE is to come


def test_a_redirect_is_a_refusal_with_a_contact(sip, office):
    wire = sip.Wire()
    office.refusal = RefusedError(302, "screened", [("Contact", "<sip:announcement@ims.example>")])
    office.agent.receive(sip.request(), wire)
    (answer,) = wire.take()
    assert (answer.status, answer.headers.get("Contact")) == (302, "<sip:announcement@ims.example>")


def test_full_is_503_with_retry_after(sip, clock):
    office = Office(clock, max_sessions=3, max_unconfirmed=2)
    wire = sip.Wire()
    for number in range(4):
        office.agent.receive(sip.request(branch=f"z9hG4bK{number}", call=f"c{number}"), wire)
    answers = wire.take()
    assert [a.status for a in answers] == [200, 200, 503, 503]
    assert answers[-1].headers.get("Retry-After") == "5"


def test_a_half_open_session_ends_after_32_s_with_bye(sip, office, clock):
    wire = sip.Wire()
    office.agent.receive(sip.request(), wire)
    clock.advance(31)
    assert office.agent.num_sessions == 1
    assert {m.status for m in wire.take()} == {200}
    clock.advance(2)
    assert "BYE" in {getattr(m, "method", None) for m in wire.take()}
    assert office.log[-1] == "unconfirmed"
    clock.advance(40)
    assert office.agent.num_sessions == office.agent.num_transactions == clock.num_due == 0


TIMER = ["Supported: timer"]


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ([], None),
        (TIMER, "1800;refresher=uac"),
        ([*TIMER, "Session-Expires: 600"], "600;refresher=uac"),
        ([*TIMER, "x: 600;refresher=uac"], "600;refresher=uac"),
        ([*TIMER, "Session-Expires: 7200"], "1800;refresher=uac"),
        ([*TIMER, "Session-Expires: 7200", "Min-SE: 3600"], "3600;refresher=uac"),
        ([*TIMER, "Session-Expires: 600;refresher=uas", "Allow: INVITE, UPDATE"], "600;refresher=uas"),
        ([*TIMER, "Session-Expires: 600;refresher=uas"], None),  # it takes no UPDATE: we promise nothing
        (["Session-Expires: 60", "Allow: UPDATE"], "90;refresher=uas"),
    ],
)
def test_session_timers_are_agreed_on(sip, office, fields, want):
    wire = sip.Wire()
    office.agent.receive(sip.request(more=fields), wire)
    (ok,) = wire.take()
    assert (ok.status, ok.headers.get("Session-Expires")) == (200, want)
    assert ("timer" in ok.headers.items("Require")) == bool(want and "uac" in want)


def test_an_interval_too_short_or_malformed_is_refused(sip, office):
    wire = sip.Wire()
    office.agent.receive(sip.request(more=[*TIMER, "Session-Expires: 30"]), wire)
    office.agent.receive(sip.request(call="c2", branch="z9hG4bK2", more=[*TIMER, "Session-Expires: soon"]), wire)
    short, malformed = wire.take()
    assert (short.status, short.headers.get("Min-SE")) == (422, "90")
    assert malformed.status == 400
    assert office.agent.num_sessions == 0


def test_a_session_not_refreshed_expires_with_bye(sip, office, clock):
    wire = sip.Wire()
    office.agent.receive(sip.request(more=[*TIMER, "Session-Expires: 90"]), wire)
    tag = wire.take()[0].headers.get("To").partition("tag=")[2]
    office.agent.receive(sip.request("ACK", to_tag=tag, branch="z9hG4bKa"), wire)
    clock.advance(50)
    refresh = sip.request("UPDATE", to_tag=tag, cseq=2, branch="z9hG4bKu", more=[*TIMER, "Session-Expires: 90"])
    office.agent.receive(refresh, wire)
    assert wire.take()[0].headers.get("Session-Expires") == "90;refresher=uac"
    clock.advance(59)
    assert wire.take() == []
    clock.advance(2)  # 90 - 90/3
    assert {m.method for m in wire.take()} == {"BYE"}
    assert office.log[-1] == "expired"


def test_we_refresh_where_we_are_asked_to(sip, office, clock):
    wire = sip.Wire()
    more = [*TIMER, "Session-Expires: 100;refresher=uas", "Allow: UPDATE"]
    office.agent.receive(sip.request(more=more), wire)
    tag = wire.take()[0].headers.get("To").partition("tag=")[2]
    office.agent.receive(sip.request("ACK", to_tag=tag, branch="z9hG4bKa"), wire)
    for _ in range(3):
        clock.advance(50.1)
        (update,) = wire.take()
        assert (update.method, update.headers.get("Session-Expires")) == ("UPDATE", "100;refresher=uac")
        via = update.headers.get("Via")
        office.agent.receive(
            f"SIP/2.0 200 OK\r\nVia: {via}\r\nCSeq: {update.headers.get('CSeq')}\r\n\r\n".encode(), wire
        )
    clock.advance(50.1)
    wire.take()
    clock.advance(33)  # nobody answers
    assert wire.take()[-1].method == "BYE"
    assert office.log[-1] == "lost"


def test_a_peer_on_a_new_connection_is_answered_there(sip, office, clock):
    first = sip.Wire("TCP")
    office.agent.receive(sip.request(), first)
    assert "transport=tcp" in first.sent[0].decode()
    tag = first.take()[0].headers.get("To").partition("tag=")[2]
    first.is_open = False
    second = sip.Wire("TCP", peer=(sip.PEER[0], 40001))
    office.agent.receive(sip.request("UPDATE", to_tag=tag, cseq=2, branch="z9hG4bKu"), second)
    second.take()
    office.agent.hang_up(office.accepted)
    assert second.take()[0].method == "BYE"


def test_requests_of_ours_go_where_answers_go_not_to_the_contact(sip, office):
    wire = sip.Wire()
    office.agent.receive(
        sip.request(Contact="<sip:src@203.0.113.5:9999>", Via="SIP/2.0/UDP a:5070;branch=z9hG4bKx"), wire
    )
    office.agent.hang_up(office.accepted)
    assert wire.ports == [5070, 5070]
    assert wire.take()[-1].uri == "sip:src@203.0.113.5:9999"


def test_requests_of_ours_within_and_outside_a_session(call, office):
    got = []
    office.agent.request(office.accepted, "INFO", [("Content-Type", "text/plain")], b"hi", got.append)
    office.agent.send_request(
        call.wire,
        "MESSAGE",
        "sip:+1555@ims.example",
        [("From", "<sip:scamtap@ims.example>;tag=1"), ("To", "<sip:+1555@ims.example>"), ("Call-ID", "m1"),
         ("CSeq", "1 MESSAGE")],
        b"careful",
        got.append,
    )  # fmt: skip
    info, message = call.wire.take()
    assert (info.method, info.headers.get("Call-ID"), info.body) == ("INFO", "c1@sbc", b"hi")
    assert (message.method, message.body) == ("MESSAGE", b"careful")
    for sent, status in ((info, 200), (message, 404)):
        fields = f"Via: {sent.headers.get('Via')}\r\nCSeq: {sent.headers.get('CSeq')}"
        office.agent.receive(f"SIP/2.0 {status} x\r\n{fields}\r\n\r\n".encode(), call.wire)
    assert [response.status for response in got] == [200, 404]


def test_a_copy_of_an_invite_that_comes_late_opens_no_second_session(call, sip, office, clock):
    """It waited in a queue: under load, 10 of 17,000 calls once got a session that nobody acknowledged."""
    call("BYE")
    clock.advance(20)
    call.wire.take()
    office.agent.receive(sip.request(), call.wire)
    assert call.wire.take() == []
    assert office.agent.num_sessions == 0

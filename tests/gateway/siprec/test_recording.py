"""Recordings from INVITE to BYE, as an SBC sends them: what is answered, and which call the service is told of."""

import asyncio

import pytest

from inference.gateway.sip.sdp import Description
from inference.gateway.spec import CALL_ID_PATTERN
from tests.thorough import cases


def run(server, *steps):
    """Let steps happen in a running loop, ended calls settling after each; the results of each."""

    async def go():
        out = []
        for step in steps:
            out.append(step())
            await server.settle()
        return out

    return asyncio.run(go())


def ended(server):
    return [what for what in server.control.log if what[0] == "end"]


def test_two_streams_become_two_legs(rec):
    server = rec.server()
    (ok,) = server.send(offer=rec.sdp(*rec.TWO), metadata=rec.document(rec.ALICE, rec.BOB))
    assert ok.status == 200
    answer = Description.parse(ok.body)
    assert [m.label for m in answer.media] == ["1", "2"]
    assert [answer.direction(m) for m in answer.media] == ["recvonly", "recvonly"]
    assert [m.port for m in answer.media] == [40000, 40000]
    assert answer.address(answer.media[0]) == "192.0.2.1"
    spec = server.spec
    assert (spec.far.source, spec.near.source) == ("192.0.2.20:30000", "192.0.2.20:30002")
    assert spec.far.local_port == spec.near.local_port == 40000
    reach = spec.reach
    assert reach.via == "siprec"
    assert reach.call.get_secret_value() == "call7@ims"
    assert reach.ear.get_secret_value() == "sip:+15550199002@sbc"
    assert (reach.subscriber.get_secret_value(), reach.caller.get_secret_value()) == ("+15550199002", "+15550100001")


@pytest.mark.parametrize(
    ("config", "far"),
    [
        ({}, 30000),
        ({"near_side": "first"}, 30002),
        ({"near_numbers": ["+1-555-0100"]}, 30002),
        ({"near_numbers": ["+15550199"]}, 30000),
        ({"near_numbers": ["+1555"], "near_side": "first"}, 30002),  # both are ours: the side decides
        ({"near_numbers": ["+44"]}, 30000),
    ],
)
def test_near_is_said_by_numbers_else_by_the_side(rec, config, far):
    server = rec.server(**config)
    server.send(offer=rec.sdp(*rec.TWO), metadata=rec.document(rec.ALICE, rec.BOB))
    assert server.spec.far.source == f"192.0.2.20:{far}"


def test_labels_say_nothing_by_themselves(rec):
    """The same people with labels and lines the other way round: the roles stay with the people."""
    server = rec.server()
    alice, bob = (rec.ALICE[0], rec.ALICE[1], "9"), (rec.BOB[0], rec.BOB[1], "0")
    server.send(offer=rec.sdp(rec.Line(30000, "0"), rec.Line(30002, "9")), metadata=rec.document(alice, bob))
    assert server.spec.far.source == "192.0.2.20:30002"


def test_ids_hold_nothing_of_the_calls_own_unless_told_to(rec):
    ids = {}
    for key, config in (("a", {}), ("b", {}), ("keyed", {"id_key": "secret"}), ("plain", {"call_ids": "plain"})):
        server = rec.server(**config)
        document = rec.document(rec.ALICE, rec.BOB, sip_session="+15550100001 x@ims")
        server.send(offer=rec.sdp(*rec.TWO), metadata=document)
        ids[key] = server.spec.id
    assert ids["a"] == ids["b"] != ids["keyed"]
    assert "5550100001" not in ids["a"]
    assert ids["plain"] == "c+15550100001_x@ims"


@pytest.mark.parametrize("text", ["", "@", "\u202ex", "a" * 500, "-", "é"])
def test_any_call_id_becomes_one_of_ours(rec, text):
    import re

    from inference.gateway.siprec.recording import call_id_of

    for is_plain in (True, False):
        assert re.fullmatch(CALL_ID_PATTERN, call_id_of(text, None, is_plain=is_plain))


@pytest.mark.parametrize(
    ("session", "more", "want"),
    [
        ("one;remote=two", [], "one"),
        (None, ["X-AUDC-Call-ID: three"], "three"),
        ("00000000000000000000000000000000", ["Cisco-Guid: 12-34-56-78"], "12-34-56-78"),
        ("00000000000000000000000000000000", [], "s"),
        (None, ["Session-ID: ab30;remote=00"], "rs1"),
        (None, [], "rs1"),
    ],
)
def test_where_the_recorded_calls_id_is_found(rec, session, more, want):
    server = rec.server(call_ids="plain")
    server.send(offer=rec.sdp(*rec.TWO), metadata=rec.document(rec.ALICE, rec.BOB, sip_session=session), more=more)
    assert server.spec.id == want


def test_bye_ends_the_call(rec):
    server = rec.server()
    run(
        server,
        lambda: server.send(offer=rec.sdp(*rec.TWO), metadata=rec.document(rec.ALICE, rec.BOB)),
        lambda: server.send("BYE"),
    )
    assert [what for what, _ in server.control.log] == ["begin", "end"]
    assert server.gateway.num_recordings == server.agent.num_sessions == 0


def test_hold_is_no_end_and_a_codec_change_is_a_change(rec):
    server = rec.server()
    document = rec.document(rec.ALICE, rec.BOB)
    (ok,) = server.send(offer=rec.sdp(*rec.TWO), metadata=document)
    held = [rec.Line(30000, "1", direction="inactive"), rec.Line(30002, "2", direction="inactive")]
    (on_hold,) = server.send(offer=rec.sdp(*held))
    (old_hold,) = server.send(offer=rec.sdp(*rec.TWO, address="0.0.0.0"))
    assert {m.own_direction for m in Description.parse(on_hold.body).media} == {"inactive"}
    assert {m.own_direction for m in Description.parse(old_hold.body).media} == {"inactive"}
    assert [what for what, _ in server.control.log] == ["begin"]
    versions = [Description.parse(a.body).origin.split()[2] for a in (ok, on_hold, old_hold)]
    assert versions == ["1", "2", "2"]
    server.send(offer=rec.sdp(rec.Line(30000, "1", "8"), rec.Line(30002, "2", "8")))
    assert [what for what, _ in server.control.log] == ["begin"]  # both static: the plane takes either
    server.send(offer=rec.sdp(rec.Line(31000, "1"), rec.Line(30002, "2")))
    assert [what for what, _ in server.control.log] == ["begin", "change"]
    assert server.spec.far.source == "192.0.2.20:31000"


def test_a_refused_change_leaves_all_as_it_was(rec):
    server = rec.server()
    server.send(offer=rec.sdp(*rec.TWO), metadata=rec.document(rec.ALICE, rec.BOB))
    before = server.spec
    (refused,) = server.send(offer=rec.sdp(rec.Line(30000, "1", "9"), rec.Line(30002, "2", "9")))
    assert (refused.status, server.spec) == (488, before)
    (refresh,) = server.send()
    assert (refresh.status, refresh.body) == (200, refresh.body)
    assert Description.parse(refresh.body).media[0].formats == ("0",)


def test_a_transfer_keeps_the_subscriber_near(rec):
    """Partial metadata: Alice leaves, Carol comes; Bob stays whom we protect, though he is the first now."""
    server = rec.server()
    server.send(offer=rec.sdp(*rec.TWO), metadata=rec.document(rec.ALICE, rec.BOB))
    carol = ("p3", "sip:+442071838750@sbc", "3")
    lines = [rec.Line(0, "1"), rec.Line(30002, "2"), rec.Line(30006, "3")]
    partial = rec.document(carol, mode="partial", gone=["p1"], sip_session=None)
    (ok,) = server.send(offer=rec.sdp(*lines), metadata=partial)
    assert [m.port for m in Description.parse(ok.body).media] == [0, 40000, 40000]
    assert (server.spec.far.source, server.spec.near.source) == ("192.0.2.20:30006", "192.0.2.20:30002")
    assert server.spec.reach.caller.get_secret_value() == "+442071838750"


def test_who_is_on_hold_is_not_the_far_party(rec):
    server = rec.server(near_numbers=["+15550199"])
    server.send(offer=rec.sdp(*rec.TWO), metadata=rec.document(rec.ALICE, rec.BOB))
    carol = ("p3", "sip:+442071838750@sbc", "3")
    lines = [rec.Line(30000, "1", direction="inactive"), rec.Line(30002, "2"), rec.Line(30006, "3")]
    server.send(offer=rec.sdp(*lines), metadata=rec.document(carol, mode="partial"))
    assert server.spec.far.source == "192.0.2.20:30006"
    lines = [rec.Line(30000, "1"), rec.Line(30002, "2"), rec.Line(30006, "3", direction="inactive")]
    server.send("UPDATE", offer=rec.sdp(*lines))
    assert server.spec.far.source == "192.0.2.20:30000"


def test_metadata_alone_may_turn_the_roles(rec):
    server = rec.server()
    server.send(offer=rec.sdp(*rec.TWO), metadata=rec.document(rec.ALICE, rec.BOB))
    server.gateway.numbering = type(server.gateway.numbering)(["+15550100"])
    (ok,) = server.send("UPDATE", metadata=rec.document(rec.ALICE, rec.BOB))
    assert (ok.status, ok.body) == (200, b"")
    assert server.spec.near.source == "192.0.2.20:30000"


def test_one_stream_alone_is_the_far_partys_or_waits_for_it(rec):
    server = rec.server()
    server.send(offer=rec.sdp(rec.Line(30000, "1")), metadata=rec.document(rec.ALICE))
    assert (server.spec.far.source, server.spec.near) == ("192.0.2.20:30000", None)
    server = rec.server(near_numbers=["+15550100"])
    (ok,) = server.send(offer=rec.sdp(rec.Line(30000, "1")), metadata=rec.document(rec.ALICE))
    assert (ok.status, server.control.log) == (200, [])
    server.send(offer=rec.sdp(*rec.TWO), metadata=rec.document(rec.ALICE, rec.BOB))
    assert server.spec.far.source == "192.0.2.20:30002"


def test_a_mixed_stream_is_refused(rec):
    people = (rec.ALICE, ("p2", "sip:+15550199002@sbc", "1"))
    (refused,) = rec.server().send(offer=rec.sdp(rec.Line(30000, "1")), metadata=rec.document(*people))
    assert refused.status == 488
    assert "one stream for each" in refused.headers.get("Warning")


def test_without_metadata_the_lines_order_counts(rec):
    server = rec.server()
    server.send(offer=rec.sdp(*rec.TWO))
    assert (server.spec.far.source, server.spec.near.source) == ("192.0.2.20:30000", "192.0.2.20:30002")


@pytest.mark.parametrize(
    ("status", "how"),
    [
        (421, {"offer": True, "Require": None}),
        (488, {}),
        (415, {"body": b"x", "more": ["Content-Type: text/plain"]}),
        (415, {"body": b"x"}),
        (415, {"body": b"x", "more": ["Content-Type: application/sdp", "Content-Encoding: gzip"]}),
        (400, {"body": b"v=1", "more": ["Content-Type: application/sdp"]}),
        (400, {"body": b"x", "more": ["Content-Type: multipart/mixed;boundary=b"]}),
        (400, {"body": b"x", "more": ["Content-Type: multipart/mixed"]}),
        (400, {"body": b"<x/>", "more": ["Content-Type: application/rs-metadata+xml"]}),
        (413, {"body": b"x" * 50_000, "more": ["Content-Type: application/rs-metadata+xml"]}),
        (413, {"body": b"multipart/a" * 6, "more": ["Content-Type: multipart/mixed;boundary=b"]}),
        (420, {"offer": True, "more": ["Require: record-aware"]}),
    ],
)
def test_what_is_no_recording_is_refused(rec, sip, status, how):
    server = rec.server()
    body = rec.sdp(*rec.TWO) if how.get("offer") else how.get("body", b"")
    more = [*how.get("more", ()), *(["Content-Type: application/sdp"] if how.get("offer") else [])]
    more += [] if "Require" in how else ["Require: siprec"]
    server.agent.receive(sip.request(body=body, more=more), server.wire)
    assert [a.status for a in server.wire.take()] == [status]
    assert server.agent.num_sessions == 0


def test_full_says_503_and_when_to_come_back(rec):
    server = rec.server()
    server.control.is_full = True
    offer = {"offer": rec.sdp(*rec.TWO), "metadata": rec.document(rec.ALICE, rec.BOB)}
    (refused,) = server.send(**offer)
    assert (refused.status, refused.headers.get("Retry-After")) == (503, "5")
    (probe,) = server.send("OPTIONS", call="probe")
    assert probe.status == 503
    server.control.is_full, server.control.room = False, 0
    assert server.send(**offer, call="rs2")[0].status == 503
    server.control.room = 1
    assert server.send(**offer, call="rs3")[0].status == 200


def test_two_recordings_of_one_call_are_two_calls(rec):
    server = rec.server(call_ids="plain")
    document = rec.document(rec.ALICE, rec.BOB)
    run(
        server,
        lambda: server.send(offer=rec.sdp(*rec.TWO), metadata=document),
        lambda: server.send(offer=rec.sdp(*rec.TWO, address="192.0.2.30"), metadata=document, call="rs2"),
        lambda: server.send("BYE"),
        lambda: server.send(offer=rec.sdp(*rec.TWO), metadata=document, call="rs3"),
    )
    assert server.control.log == [
        ("begin", "call7@ims"),
        ("begin", "call7@ims~2"),
        ("end", "call7@ims"),
        ("begin", "call7@ims"),
    ]


def test_streams_that_cannot_be_told_apart_are_488(rec):
    server = rec.server()
    document = rec.document(rec.ALICE, rec.BOB)
    same = rec.sdp(rec.Line(30000, "1"), rec.Line(30000, "2"))
    assert server.send(offer=same, metadata=document)[0].status == 488
    assert server.send(offer=rec.sdp(*rec.TWO), metadata=document, call="rs2")[0].status == 200
    assert server.send(offer=rec.sdp(*rec.TWO), metadata=document, call="rs3")[0].status == 488
    assert server.agent.num_sessions == 1


def test_latched_streams_lease_a_port_each_and_give_it_back(rec, clock):
    server = rec.server(latch=True, exclusive=(41000, 41002), quarantine_s=10)
    document, offer = rec.document(rec.ALICE, rec.BOB), rec.sdp(*rec.TWO)
    (ok,), _, (full,) = run(
        server,
        lambda: server.send(offer=offer, metadata=document),
        lambda: server.send(offer=offer),
        lambda: server.send(offer=offer, metadata=document, call="rs2"),
    )
    assert [m.port for m in Description.parse(ok.body).media] == [41000, 41001]
    assert (server.spec.far.local_port, server.spec.far.source) == (41000, None)
    assert (full.status, server.ports.num_leased) == (503, 2)
    run(server, lambda: server.send(offer=rec.sdp(rec.Line(30000, "1"), rec.Line(0, "2"))))
    assert server.ports.num_leased == 1
    run(server, lambda: server.send("BYE"))
    assert server.ports.num_leased == 0
    clock.advance(11)
    (again,) = run(server, lambda: server.send(offer=offer, metadata=document, call="rs3"))
    assert again[0].status == 200


def test_a_recording_nobody_acknowledges_or_refreshes_ends(rec, clock):
    server = rec.server()
    offer = {"offer": rec.sdp(*rec.TWO), "metadata": rec.document(rec.ALICE, rec.BOB)}
    run(server, lambda: server.send(**offer, ack=False), lambda: clock.advance(33))
    assert len(ended(server)) == 1
    timer = ["Supported: timer", "Session-Expires: 90"]
    run(server, lambda: server.send(**offer, call="rs2", more=timer), lambda: clock.advance(61))
    assert len(ended(server)) == 2
    clock.advance(60)
    assert server.agent.num_sessions == server.agent.num_transactions == clock.num_due == 0


def test_a_call_the_service_ended_is_hung_up_but_not_on_hold(rec):
    server = rec.server(call_ids="plain")
    document = rec.document(rec.ALICE, rec.BOB)
    held = [rec.Line(30000, "1", direction="inactive"), rec.Line(30002, "2", direction="inactive")]

    def forget():
        server.control.specs.clear()
        server.gateway.sweep()

    server.send(offer=rec.sdp(*rec.TWO), metadata=document)
    server.send(offer=rec.sdp(*held))
    run(server, forget)
    assert server.agent.num_sessions == 1
    server.send(offer=rec.sdp(*rec.TWO))  # resumed: a call again, of its own id, so that its alerts are its own
    assert server.control.log == [("begin", "call7@ims"), ("begin", "call7@ims~2")]
    run(server, forget)
    assert [m.method for m in server.wire.take()] == ["BYE"]
    assert server.agent.num_sessions == 0


def test_resumed_before_anybody_noticed_that_the_call_was_over(rec):
    server = rec.server(call_ids="plain")
    server.send(offer=rec.sdp(*rec.TWO), metadata=rec.document(rec.ALICE, rec.BOB))
    server.control.specs.clear()
    (ok,) = server.send(offer=rec.sdp(*rec.TWO))
    assert ok.status == 200
    assert server.control.log == [("begin", "call7@ims"), ("begin", "call7@ims~2")]


def test_a_refused_address_is_not_remembered(rec):
    server = rec.server()
    server.send(offer=rec.sdp(*rec.TWO), metadata=rec.document(rec.ALICE, rec.BOB))
    before = server.spec
    elsewhere = [rec.Line(39000, "1", "9"), rec.Line(39002, "2", "9")]
    assert server.send(offer=rec.sdp(*elsewhere))[0].status == 488
    held = [rec.Line(9, "1", direction="inactive"), rec.Line(9, "2", direction="inactive")]
    assert server.send(offer=rec.sdp(*held, address="0.0.0.0"))[0].status == 200
    assert server.spec == before


def test_ids_of_any_bytes_are_taken(rec):
    server = rec.server()
    (ok,) = server.send(offer=rec.sdp(*rec.TWO), call="caf\udce9")
    assert ok.status == 200
    (ok,) = server.send(offer=rec.sdp(*rec.TWO, address="192.0.2.77"), more=["X-audc-call-id: \udcff"], call="rs9")
    assert ok.status == 200


def test_a_recording_unheard_for_long_is_let_go(rec, clock):
    server = rec.server(session_interval_s=600)
    held = [rec.Line(30000, "1", direction="inactive"), rec.Line(30002, "2", direction="inactive")]
    server.send(offer=rec.sdp(*held, address="0.0.0.0"), metadata=rec.document(rec.ALICE, rec.BOB))
    assert server.control.log == []
    for seconds, num_left in ((0, 1), (590, 1), (20, 0)):
        run(server, lambda seconds=seconds: clock.advance(seconds), server.gateway.sweep)
        assert server.agent.num_sessions == num_left


def test_digest_is_asked_of_strangers_and_not_of_a_verified_peer(rec, sip):
    server = rec.server(digest={"users": {"sbc": "a long password"}})
    offer = {"offer": rec.sdp(*rec.TWO), "metadata": rec.document(rec.ALICE, rec.BOB)}
    (challenge,) = server.send(**offer)
    assert challenge.status == 401
    assert len(challenge.headers.all("WWW-Authenticate")) == 2
    assert server.send("OPTIONS", call="ping")[0].status == 200
    assert server.send(**offer, call="rs2", wire=sip.Wire("TLS", is_verified=True))[0].status == 200


def test_a_flood_of_half_open_sessions_is_bounded(rec, clock):
    """Thousands of INVITEs from strangers who acknowledge nothing."""
    server = rec.server(rec.Control())
    server.control.room = 10**6
    server.wire.transport = "TCP"  # refusals are not sent again: as many as possible at once
    statuses = []

    def flood():
        for number in range(cases(3000, 10_000)):
            lines = (rec.Line(1024 + 2 * (number % 30_000), "1"), rec.Line(1025 + 2 * (number % 30_000), "2"))
            (answer,) = server.send(offer=rec.sdp(*lines), call=f"f{number}", ack=False)
            statuses.append(answer.status)

    run(server, flood)
    assert statuses.count(200) == server.agent.num_sessions == 512
    assert set(statuses) == {200, 503}
    run(server, lambda: clock.advance(120))
    assert server.agent.num_sessions == server.agent.num_transactions == len(server.control.specs) == clock.num_due == 0

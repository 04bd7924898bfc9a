"""The warning as INFO in the recording session; the SBC is a double written from RFC 6086."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest

from inference.alerts.ear import Announcement, Reach
from inference.errors import AlertError
from inference.gateway.control import WithEar
from inference.gateway.sip.message import Headers, Response

LINE = "This caller is asking for gift cards."
DANGER = Announcement("en-danger-gift_card", "danger", "en", LINE, np.ones(800, np.int16), "gift_card")
BEEP = Announcement("suspect", "suspect", "en", "", np.ones(800, np.int16))


@pytest.fixture
def server(rec):
    """A recording server whose warnings return as INFO."""
    return rec.server(info={"timeout_s": 5})


def record(rec, server, *people, call="rs1", ports=(30000, 30002), **more):
    """A recorded call; the reach that its warnings come with."""
    before = set(server.control.specs)
    offer = rec.sdp(*(rec.Line(port, label) for port, label in zip(ports, "12", strict=True)))
    (ok,) = server.send(offer=offer, metadata=rec.document(*(people or (rec.ALICE, rec.BOB))), call=call, **more)
    assert ok.status == 200
    ((_, spec),) = [item for item in server.control.specs.items() if item[0] not in before]
    return spec.reach


def reply(server, info, status):
    """The SBC's answer to a request of ours."""
    copied = [(name, info.headers.get(name)) for name in ("Via", "From", "To", "Call-ID", "CSeq")]
    server.agent.receive(bytes(Response(status, Headers(copied))), server.wire)


def asked(server, work, status=200):
    """What the SBC is asked by ``work``, and answers with ``status``."""

    async def go():
        task = asyncio.create_task(work)
        await server.settle()
        (info,) = server.wire.take()
        reply(server, info, status)
        await task
        return info

    return asyncio.run(go())


def test_play_and_stop_are_infos_in_the_session(rec, server, clock):
    reach, ear = record(rec, server), server.gateway.ear
    assert isinstance(server.gateway, WithEar)
    assert reach.via == ear.name == "siprec"
    infos = [asked(server, work) for work in (ear.play(reach, DANGER), ear.play(reach, BEEP), ear.stop(reach))]
    assert [json.loads(info.body) for info in infos] == [
        {
            "warning": "play",
            "announcement": "en-danger-gift_card",
            "level": "danger",
            "family": "gift_card",
            "language": "en",
            "text": LINE,
            "label": "2",
        },
        {
            "warning": "play",
            "announcement": "suspect",
            "level": "suspect",
            "family": None,
            "language": "en",
            "text": "",
            "label": "2",
        },
        {"warning": "stop", "label": "2"},
    ]
    for number, info in enumerate(infos, start=1):
        assert (info.method, info.uri) == ("INFO", "sip:src@192.0.2.10:5060")
        assert info.headers.get("CSeq") == f"{number} INFO"
        assert info.headers.get("Call-ID") == "rs1"
        assert info.headers.get("To") == "<sip:src@sbc.example>;tag=far"
        assert info.headers.get("Content-Type") == "application/json"
        assert info.headers.get("Info-Package") is None
        assert not any(number in bytes(info) for number in (b"5550199002", b"5550100001"))
    clock.advance(40)
    assert server.agent.num_transactions == 0
    assert server.agent.num_sessions == 1


@pytest.mark.parametrize("status", [302, 401, 405, 415, 469, 481, 500, 603])
def test_what_is_not_2xx_is_not_taken_and_the_recording_goes_on(rec, server, status):
    reach = record(rec, server)
    with pytest.raises(AlertError, match=f"^siprec answered {status}$"):
        asked(server, server.gateway.ear.play(reach, DANGER), status)
    assert (server.agent.num_sessions, len(server.control.specs)) == (1, 1)


@pytest.mark.parametrize("status", [None, 100])
def test_no_answer_within_its_time_and_no_late_repetition(rec, clock, status):
    server = rec.server(info={"timeout_s": 0.05})
    reach = record(rec, server)

    async def go():
        task = asyncio.create_task(server.gateway.ear.play(reach, DANGER))
        await server.settle()
        clock.advance(0.6)
        first, again = server.wire.take()
        assert bytes(first) == bytes(again)
        if status is not None:
            reply(server, first, status)
        with pytest.raises(AlertError, match=r"^siprec does not answer$"):
            await task

    asyncio.run(go())
    clock.advance(60)
    assert server.wire.take() == []
    assert (server.agent.num_transactions, server.agent.num_sessions) == (0, 1)


def test_who_gives_up_waiting_stops_the_repetitions(rec, server, clock):
    """The warner's own bound may be the shorter one."""
    reach = record(rec, server)

    async def go():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await server.gateway.ear.play(reach, DANGER)

    asyncio.run(go())
    assert len(server.wire.take()) == 1
    clock.advance(60)
    assert server.wire.take() == []


def test_a_call_that_is_gone_is_said_and_nothing_is_sent(rec, server):
    reach = record(rec, server)

    async def go(reach):
        server.wire.take()
        for work in (server.gateway.ear.play(reach, DANGER), server.gateway.ear.stop(reach)):
            with pytest.raises(AlertError, match="not recorded here any more"):
                await work
        assert server.wire.take() == []

    async def hang_up():
        server.send("BYE")
        await server.settle()
        await go(reach)

    asyncio.run(go(Reach(via="siprec")))
    asyncio.run(go(Reach(via="siprec", call="another")))
    asyncio.run(hang_up())


def test_a_call_that_ends_while_the_sbc_is_asked(rec, server):
    reach = record(rec, server)

    async def go():
        task = asyncio.create_task(server.gateway.ear.play(reach, DANGER))
        await server.settle()
        (info,) = server.wire.take()
        server.send("BYE")
        reply(server, info, 481)
        with pytest.raises(AlertError, match="answered 481"):
            await task

    asyncio.run(go())


def test_both_parties_recorded_each_is_asked_for_in_its_own_session(rec, server):
    """One call, two subscribers, two recordings: each warning goes to its own."""
    first = record(rec, server)
    second = record(rec, server, rec.BOB, rec.ALICE, call="rs2", ports=(31000, 31002))
    assert first.call == second.call
    for reach, call, label in ((first, "rs1", "2"), (second, "rs2", "1")):
        info = asked(server, server.gateway.ear.play(reach, DANGER))
        assert (info.headers.get("Call-ID"), json.loads(info.body)["label"]) == (call, label)
    unclear = first.model_copy(update={"ear": None})
    with pytest.raises(AlertError, match="not recorded"):
        asyncio.run(server.gateway.ear.play(unclear, DANGER))


def test_metadata_that_changed_meanwhile_lose_no_stop(rec, server):
    reach = record(rec, server)
    alias = ("p1", "sip:+15550100077@sbc", "1")
    server.send("UPDATE", offer=rec.sdp(*rec.TWO), metadata=rec.document(alias, rec.BOB))
    assert server.spec.reach != reach
    assert json.loads(asked(server, server.gateway.ear.stop(reach)).body)["warning"] == "stop"


@pytest.mark.parametrize(
    ("first", "later", "is_packaged"),
    [
        (["Recv-Info: other, Scamtap-Warning;v=1"], [], True),
        (["Recv-Info: other"], [], False),
        (["Recv-Info:"], [], False),
        (["Recv-Info: a,,b"], [], False),
        ([], ["Recv-Info: scamtap-warning"], True),
        (["Recv-Info: scamtap-warning"], ["Recv-Info:"], False),
    ],
)
def test_a_package_for_peers_that_list_ours_alone(rec, server, first, later, is_packaged):
    reach = record(rec, server, more=first)
    server.send("UPDATE", more=later)
    info = asked(server, server.gateway.ear.play(reach, DANGER))
    fields = [info.headers.get(name) for name in ("Info-Package", "Content-Disposition")]
    assert fields == (["scamtap-warning", "Info-Package"] if is_packaged else [None, None])


def test_nobody_is_warned_where_the_subscribers_stream_is_not_named(rec, server):
    server.send(offer=rec.sdp(*rec.TWO).replace(b"a=label:2\r\n", b""))
    server.wire.take()
    with pytest.raises(AlertError, match="which stream"):
        asyncio.run(server.gateway.ear.play(server.spec.reach, DANGER))
    assert server.wire.take() == []


def test_long_lines_and_other_alphabets(rec, server):
    reach = record(rec, server)
    zh = replace(DANGER, language="zh", text="请不要购买礼品卡。" * 10)
    assert json.loads(asked(server, server.gateway.ear.play(reach, zh)).body)["text"] == zh.text
    with pytest.raises(AlertError, match="shorten the line"):
        asyncio.run(server.gateway.ear.play(reach, replace(DANGER, text="a" * 700)))


def test_its_name_is_the_configurations(rec):
    named = rec.server(info={"name": "sbc"})
    assert record(rec, named).via == named.gateway.ear.name == "sbc"
    elsewhere = rec.server(ear="asterisk")
    assert record(rec, elsewhere).via == "asterisk"
    assert not isinstance(elsewhere.gateway, WithEar)

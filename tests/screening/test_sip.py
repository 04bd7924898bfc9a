"""The redirect server at its door: SIP messages in, SIP messages out; its clock virtual, its peers made up."""

import asyncio
import importlib.util
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from inference.gateway.sip.agent import Agent
from inference.screening.attempt import Decision, Label
from inference.screening.backend import MemoryBackend
from inference.screening.lists import ListEntry, NumberLists
from inference.screening.remembered import WindowStore
from inference.screening.rules import RulesConfig
from inference.screening.screener import Screener
from inference.screening.sip.config import SipConfig
from inference.screening.sip.reply import quoted, shortened
from inference.screening.sip.server import RedirectServer
from tests.thorough import cases

_path = Path(__file__).parents[1] / "gateway" / "sip" / "wire.py"
_spec = importlib.util.spec_from_file_location("scamtap_tests_sip_wire", _path)
sip = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sip)

CALLER, CALLEE = "+447700900123", "+441632960002"
LABEL = Label("Reported as parcel fraud by 214 subscribers; operator security centre", "parcel", "subscribers", "en")


class Says:
    """Decides what a test says."""

    def __init__(self, decision=None, *, error=None, never=False, waits=False):
        self.decision, self.error, self.never = decision, error, never
        self.waits = never or waits
        self.attempts = []

    async def decide(self, attempt):
        self.attempts.append(attempt)
        if self.never:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return self.decision


def decision(action="allow", reasons=("DEFAULT",), **more):
    return Decision("c1@sbc", action, reasons, None, "1.abc", "7", **more)


async def settle(server):
    for _ in range(20):
        await asyncio.sleep(0)
    if server._deciding:
        await asyncio.wait(server._deciding, timeout=60)
        await asyncio.sleep(0)


def ask(screener, *messages, transport="UDP", peer=sip.PEER, config=None):
    """What the server answers to those bytes, and the server itself."""

    async def run():
        server = RedirectServer(config or SipConfig(), screener)
        server.agent = Agent(server, sip.Clock(), server.agent_config())
        wire = sip.Wire(transport, peer)
        answers = []
        for message in messages:
            server.agent.receive(message, wire)
            await settle(server)
            answers += wire.take()
        return answers, server

    return asyncio.run(run())


def invite(*more, callee=CALLEE, caller=CALLER, **fields):
    fields.setdefault("From", f'"Anna" <sip:{caller}@ims.example>;tag=far')
    return sip.request("INVITE", uri=f"sip:{callee}@ims.example;user=phone", more=more, **fields)


@pytest.mark.parametrize("waits", [False, True])
def test_allowed_goes_back_to_where_it_was_going(waits):
    screener = Says(decision(), waits=waits)
    ((answer,), server) = ask(screener, invite())
    assert (answer.status, answer.reason) == (302, "Moved Temporarily")
    assert answer.headers.get("Contact") == f"<sip:{CALLEE}@ims.example;user=phone>"
    assert answer.headers.get("X-ScamTap-Decision") == "allow"
    assert answer.headers.get("X-ScamTap-Reasons") == "DEFAULT"
    assert answer.headers.get("X-ScamTap-Version") == "rules=1.abc;lists=7"
    assert answer.headers.get("X-ScamTap-Degraded") is None
    (attempt,) = screener.attempts
    assert (attempt.call_id, attempt.caller, attempt.callee) == ("c1@sbc", CALLER, CALLEE)
    assert server.agent.num_sessions == 0


def test_a_prompt_carries_what_the_callee_is_shown():
    ((answer,), _) = ask(Says(decision("prompt", ("RISK_COMPLAINTS",), label=LABEL)), invite())
    assert (answer.status, answer.headers.get("X-ScamTap-Decision")) == (302, "prompt")
    assert answer.headers.get("X-ScamTap-Label") == f'"{LABEL.text}"'
    assert answer.headers.get("X-ScamTap-Category") == "parcel;source=subscribers;language=en"
    (info,) = answer.headers.items("Call-Info")
    assert info.startswith('<data:>;purpose=jcard;call-reason="Reported as parcel fraud by 214')
    assert len(info.partition('call-reason="')[2]) <= 64 + 1


@pytest.mark.parametrize("code", [603, 607])
def test_a_rejection_without_redress(code):
    lists = ("deny:regulator@ab12cd34ef56", "deny:entries@7")
    ((answer,), _) = ask(Says(decision("reject", ("DENY_LISTED",), sip_code=code, lists=lists)), invite())
    assert answer.headers.items("X-ScamTap-Lists") == list(lists)
    assert (answer.status, answer.reason) == (code, {603: "Decline", 607: "Unwanted"}[code])
    assert answer.headers.get("Contact") is None


REDRESS = SipConfig(redress_uri="https://operator.example/redress.jws", announcement_uri="sip:blocked@media.example")


def test_608_names_where_to_appeal():
    rejected = Says(decision("reject", ("SPOOFED_OWN_RANGE",), sip_code=608))
    ((answer,), _) = ask(rejected, invite("Feature-Caps: *;+sip.608"), config=REDRESS)
    assert (answer.status, answer.reason) == (608, "Rejected")
    assert answer.headers.items("Call-Info") == ["<https://operator.example/redress.jws>;purpose=jwscard"]


def test_608_is_announced_where_the_caller_would_not_be_told():
    rejected = Says(decision("reject", ("SPOOFED_OWN_RANGE",), sip_code=608))
    ((answer,), _) = ask(rejected, invite(), config=REDRESS)
    assert (answer.status, answer.headers.get("Contact")) == (302, "<sip:blocked@media.example>")
    assert answer.headers.get("X-ScamTap-Decision") == "reject"


def test_a_challenge_goes_to_the_operators_service():
    challenged = Says(decision("challenge", ("CALL_BOMBING",)))
    ((answer,), _) = ask(challenged, invite(), config=SipConfig(challenge_uri="sip:challenge@media.example"))
    assert (answer.status, answer.headers.get("Contact")) == (302, "<sip:challenge@media.example>")
    assert answer.headers.get("X-ScamTap-Target") == f"<sip:{CALLEE}@ims.example;user=phone>"
    ((answer,), _) = ask(challenged, invite())
    assert answer.headers.get("Contact") == f"<sip:{CALLEE}@ims.example;user=phone>"
    assert answer.headers.get("X-ScamTap-Decision") == "challenge"


@pytest.mark.parametrize("screener", [Says(error=RuntimeError("+447700900123")), Says(never=True), Says(None)])
def test_whatever_goes_wrong_the_call_goes_on(screener, capsys):
    config = SipConfig(answer_within_s=0.02)
    if screener.decision is None and screener.error is None and not screener.never:
        screener.error = KeyError("no decision")
    ((answer,), server) = ask(screener, invite(), config=config)
    assert (answer.status, answer.headers.get("X-ScamTap-Decision")) == (302, "allow")
    assert answer.headers.get("X-ScamTap-Degraded") == "yes"
    assert server.counts["not decided"] == 1
    assert CALLER not in capsys.readouterr().out


def test_the_caller_by_trusted_order():
    screener = Says(decision())
    pai = "P-Asserted-Identity: <sip:anonymous@anonymous.invalid>, <tel:+4416329600{};cpc=ordinary>"
    ask(screener, invite(pai.format("77"), caller="+447700900999"))
    ask(screener, invite('P-Asserted-Identity: "broken', caller="+447700900999"))
    only_from = SipConfig(caller_headers=("From",))
    ask(screener, invite(pai.format("77"), caller="+447700900999"), config=only_from)
    ask(screener, invite(From="<sip:gateway.example>;tag=far"))
    assert [a.caller for a in screener.attempts] == ["anonymous", "+447700900999", "+447700900999", None]


def test_the_trunk_by_header_or_by_proxy():
    screener = Says(decision())
    by_header = SipConfig(trunk_header="X-Trunk")
    by_proxy = SipConfig(trunks={"192.0.2.0/24": "national", "192.0.2.10": "international"})
    ask(screener, invite("X-Trunk: International"), config=by_header)
    ask(screener, invite("X-Trunk: moon"), config=by_header)
    ask(screener, invite("X-Trunk: own"))
    ask(screener, invite(), config=by_proxy)
    ask(screener, invite(), config=by_proxy, peer=("192.0.2.77", 5060))
    ask(screener, invite(), config=by_proxy, peer=("::ffff:198.51.100.1", 5060))
    trunks = [attempt.trunk for attempt in screener.attempts]
    assert trunks == ["international", None, None, "international", "national", None]


def test_a_call_back_after_an_emergency_call():
    screener = Says(decision())
    trusting = SipConfig(trust_psap_callback=True, trunk_header="X-Trunk")
    ask(screener, invite("Priority: psap-callback"), config=trusting)
    ask(screener, invite("Priority: psap-callback", "X-Trunk: international"), config=trusting)
    ask(screener, invite("Priority: psap-callback"))
    assert [attempt.is_callback_window for attempt in screener.attempts] == [True, False, False]


def test_identity_is_handed_on():
    screener = Says(decision())
    ask(screener, invite("Identity: a.b.c;ppt=div", "Identity: d.e.f;ppt=shaken"))
    ask(screener, invite("y: " + "x" * 9000))
    ask(screener, invite())
    assert [attempt.identity for attempt in screener.attempts] == ["d.e.f;ppt=shaken", "-", None]


def test_sent_again_until_acknowledged_and_asked_once():
    screener = Says(decision())
    message = invite()
    (answers, _) = ask(screener, message, message)
    assert [answer.status for answer in answers] == [302, 302]
    assert len(screener.attempts) == 1
    tag = answers[0].headers.get("To").partition("tag=")[2]
    ack = sip.request("ACK", to_tag=tag, From='"Anna" <sip:+447700900123@ims.example>;tag=far')
    (answers, _) = ask(screener, message, ack)
    assert [answer.status for answer in answers] == [302]


def test_what_says_that_it_never_waits_and_does_lets_the_call_through():
    screener = Says(never=True)
    screener.waits = False
    ((answer,), server) = ask(screener, invite())
    assert (answer.status, answer.headers.get("X-ScamTap-Reasons")) == (302, "NOT_DECIDED")
    assert server.counts == {"not decided": 1}


def test_taken_back_before_it_is_decided():
    failures = []

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        server = RedirectServer(SipConfig(), Says(never=True))
        server.agent = Agent(server, sip.Clock(), server.agent_config())
        wire = sip.Wire()
        server.agent.receive(invite(), wire)
        await asyncio.sleep(0)
        server.agent.receive(sip.request("CANCEL", uri=f"sip:{CALLEE}@ims.example;user=phone"), wire)
        await settle(server)
        return [(a.status, a.headers.get("CSeq")) for a in wire.take()], server._deciding

    answers, deciding = asyncio.run(run())
    assert answers == [(200, "1 CANCEL"), (487, "1 INVITE")]
    assert not deciding
    assert failures == []


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (sip.request("OPTIONS"), 200),
        (sip.request("REGISTER"), 405),
        (sip.request("SUBSCRIBE"), 405),
        (sip.request("BYE", to_tag="x"), 481),
        (invite(CSeq=None), 400),
        (invite(Via="SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKa1", To="<sip:x@y>;tag=old"), 481),
        (invite("Require: 100rel"), 302),
        (invite("Require: teleport"), 420),
        (invite("X-Giant: " + "x" * 20_000), 302),
    ],
)
def test_other_requests(message, status):
    ((answer,), _) = ask(Says(decision()), message)
    assert answer.status == status


@pytest.mark.parametrize(
    "message", [b"\x00" * 64, b"INVITE", invite("X: " + "x" * 40_000), invite(*["X: y"] * 300), b"\xff" * 65_000]
)
def test_what_is_beyond_all_bounds_is_dropped(message):
    (answers, server) = ask(Says(decision()), message)
    assert answers == []
    assert server.agent.num_transactions == 0


def test_beyond_loopback_the_proxies_are_named():
    with pytest.raises(ValidationError, match="allow_from is required"):
        SipConfig(host="192.0.2.1")
    assert SipConfig(host="192.0.2.1", allow_from=["192.0.2.10"]).allow_from == ("192.0.2.10",)


@pytest.mark.parametrize(
    "bad",
    [
        {"allow_from": ["0.0.0.0/0"]}, {"allow_from": ["sbc"]}, {"trunks": {"x": "own"}}, {"host": "sbc.example"},
        {"challenge_uri": "sip:a@b>\r\nX: y"}, {"redress_uri": "http://x"}, {"trunk_header": "X Y"}, {"nothing": 1},
        {"trunks": {"::/0": "own"}},
    ],
)  # fmt: skip
def test_settings_that_are_refused(bad):
    with pytest.raises(ValidationError):
        SipConfig(**bad)


async def question(address, data, *, tcp=False):
    """One datagram or one stream to a live server; its first answer, or None."""
    if tcp:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(4096), 60)
        finally:
            writer.close()
    loop = asyncio.get_running_loop()
    got = loop.create_future()
    protocol = type("P", (asyncio.DatagramProtocol,), {"datagram_received": lambda _, d, a: got.set_result(d)})
    transport, _ = await loop.create_datagram_endpoint(protocol, remote_addr=address)
    transport.sendto(data)
    try:
        return await asyncio.wait_for(got, 0.5)
    except TimeoutError:
        return None
    finally:
        transport.close()


@pytest.mark.parametrize("tcp", [False, True])
def test_over_sockets(tcp):
    async def run(allow_from):
        server = RedirectServer(SipConfig(port=0, allow_from=allow_from), Says(decision()))
        await server.start()
        via = f"SIP/2.0/{'TCP' if tcp else 'UDP'} 127.0.0.1:9;branch=z9hG4bKq;rport"
        answer = await question(server.address, invite(Via=via), tcp=tcp)
        turned_away = server.num_turned_away
        await server.aclose()
        return answer, turned_away

    answer, turned_away = asyncio.run(run(None))
    assert answer.startswith(b"SIP/2.0 302 Moved Temporarily\r\n")
    assert turned_away == 0
    answer, turned_away = asyncio.run(run(["192.0.2.10"]))
    assert not answer
    assert turned_away == 1


HOSTILE = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["911", "999", "+44999", "112;x=y", "anonymous", "%00", "%0d%0aX: y", "+" + "1" * 300, "٩٩٩", '"']),
    st.from_regex(r"\+?[0-9]{2,15}", fullmatch=True),
)
LINES = st.lists(
    st.builds(
        lambda name, value: f"{name}: {value}",
        st.sampled_from(
            ["P-Asserted-Identity", "Identity", "Priority", "X-Trunk", "Feature-Caps", "Call-Info", "Require", "Via"]
        ),
        st.one_of(st.text(max_size=60), st.sampled_from(["psap-callback", "<tel:+999>", "a.b.c;ppt=shaken", "own"])),
    ),
    max_size=5,
)


def strict():
    """A screener that rejects all it may reject."""
    everybody = [ListEntry(kind="deny", number=str(d), is_prefix=True, who="test", why="test") for d in range(10)]
    config = RulesConfig(region="GB", shielded="reject", unallocated="reject", own_ranges=("44",))
    return Screener(config, NumberLists(everybody, []), WindowStore(MemoryBackend()))


@settings(max_examples=cases(75, 150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(caller=HOSTILE, lines=LINES, emergency=st.sampled_from(["999", "112", "999;phone-context=+44"]))
def test_an_emergency_call_is_never_refused(caller, lines, emergency):
    """Whoever calls, whatever else the INVITE says."""
    config = SipConfig(trunk_header="X-Trunk", trust_psap_callback=True, redress_uri="https://o.example/r")
    message = invite(*(line for line in lines), callee=emergency, From=f"<sip:{caller}@x>;tag=far")
    (answers, server) = ask(strict(), message.replace(b"\n\n", b"\n"), config=config)
    assert all(answer.status < 600 for answer in answers)
    assert server.counts["not decided"] == 0


@settings(max_examples=cases(120, 300), deadline=None)
@given(
    callee=HOSTILE,
    caller=HOSTILE,
    lines=LINES,
    call=st.text(max_size=600),
    cut=st.integers(0, 2000),
    flip=st.binary(max_size=8),
)
def test_hostile_invites_never_raise(callee, caller, lines, call, cut, flip):
    """The whole door: bytes in, and at most one answer out that is a whole SIP message."""
    message = invite(*lines, callee=callee, From=f"<sip:{caller}@x>;tag=far", Call_ID=call)
    if flip:
        at = cut % len(message)
        message = message[:at] + flip + message[at + len(flip) :]
    (answers, server) = ask(strict(), message, config=SipConfig(trunk_header="X-Trunk"))
    assert len(answers) <= 1
    assert server.counts["not decided"] == 0
    for answer in answers:
        assert 200 <= answer.status < 700
        assert len(answer.headers.all("X-ScamTap-Decision")) <= 1


@given(st.text())
def test_a_label_stays_in_its_line(text):
    made = quoted(text)
    assert "\r" not in made
    assert "\n" not in made
    assert sip.parse_message(f"SIP/2.0 302 x\r\nX-L: {made}\r\n\r\n".encode()).headers.get("X-L") == made
    assert len(shortened(text)) <= 64


def test_settings_compose():
    from inference.screening.config import ScreeningConfig

    assert ScreeningConfig(sip={"port": 5071, "challenge_uri": "sip:c@h"}).sip.port == 5071
    assert ScreeningConfig().sip is None

"""The MESSAGE client against a proxy's double written from RFC 3261 and RFC 3428, over real UDP on this machine."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from inference.alerts.ear import Announcement, Reach
from inference.alerts.ears import sip
from inference.alerts.ears.sip import SipMessageConfig, SipMessageEar, parse_answer
from inference.errors import AlertError

REACH = Reach(subscriber="tel:+44 20 7946 0000")


class Proxy(asyncio.DatagramProtocol):
    """Answers every request with ``statuses`` in turn; None is silence."""

    def __init__(self, *statuses) -> None:
        self.statuses = list(statuses)
        self.requests: list[bytes] = []
        self.extra = b""

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data, addr) -> None:
        self.requests.append(data)
        status = self.statuses.pop(0) if self.statuses else None
        if self.extra:
            self.transport.sendto(self.extra, addr)
        for each in status if isinstance(status, tuple) else (status,):
            if each is not None:
                self.transport.sendto(answer(data, each), addr)


def answer(request: bytes, status: int) -> bytes:
    lines = request.decode().split("\r\n\r\n")[0].split("\r\n")[1:]
    kept = [line for line in lines if line.split(":")[0] in ("Via", "From", "To", "Call-ID", "CSeq")]
    return "\r\n".join([f"SIP/2.0 {status} Whatever", *kept, "Content-Length: 0", "", ""]).encode()


@pytest.fixture
def send(monkeypatch):
    """``send(proxy, reach, announcement)``: send one MESSAGE; gives the proxy's double."""
    monkeypatch.setattr(sip, "T1_S", 0.02)

    def run(proxy, reach, announcement, timeout_s=0.5):
        async def whole():
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(lambda: proxy, local_addr=("127.0.0.1", 0))
            port = transport.get_extra_info("sockname")[1]
            ear = SipMessageEar(
                SipMessageConfig(host="127.0.0.1", port=port, domain="ims.example"), timeout_s=timeout_s
            )
            try:
                await ear.play(reach, announcement)
                await ear.stop(reach)
            finally:
                await ear.aclose()
                transport.close()
                await asyncio.sleep(0)

        asyncio.run(whole())
        return proxy

    return run


def test_the_line_goes_to_the_subscribers_telephone(send):
    line = "请小心，这可能是诈骗。"
    announcement = Announcement("zh-danger-general", "danger", "zh", line, None)
    (request,) = send(Proxy(200), REACH, announcement).requests
    head, _, body = request.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = dict(part.split(": ", 1) for part in rest)
    assert first == "MESSAGE sip:+442079460000@ims.example SIP/2.0"
    assert body.decode() == line
    assert headers["Content-Length"] == str(len(body))
    assert headers["Content-Type"] == "text/plain;charset=UTF-8"
    assert headers["To"] == "<sip:+442079460000@ims.example>"
    assert headers["From"].startswith("<sip:scamtap@ims.example>;tag=")
    assert headers["Via"].startswith("SIP/2.0/UDP 127.0.0.1:")
    assert ";branch=z9hG4bK" in headers["Via"]
    assert headers["CSeq"] == "1 MESSAGE"
    assert headers["Max-Forwards"] == "70"
    assert len(request) < 1300


def test_a_lost_message_is_sent_again_the_very_same(send, danger):
    requests = send(Proxy(None, None, 202), REACH, danger).requests
    assert len(requests) == 3
    assert len(set(requests)) == 1


def test_a_provisional_answer_is_no_answer_yet(send, danger):
    assert len(send(Proxy((100, 200)), REACH, danger).requests) == 1
    with pytest.raises(AlertError, match="does not answer"):
        send(Proxy(100), REACH, danger, timeout_s=0.1)


@pytest.mark.parametrize("status", [302, 401, 404, 480, 503, 603])
def test_a_refusal_is_one_line_without_the_number(send, danger, status):
    with pytest.raises(AlertError, match=f"^sip answered {status}$"):
        send(Proxy(status), REACH, danger)


@pytest.mark.parametrize(
    "noise",
    [
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKother\r\nCSeq: 1 MESSAGE\r\n\r\n",
        b"SIP/2.0 200 OK\r\n\r\n",
        b"\x00" * 2000,
        b"MESSAGE sip:x SIP/2.0\r\n\r\n",
        b"",
    ],
)
def test_answers_to_something_else_are_none(send, danger, noise):
    proxy = Proxy(None, 403)
    proxy.extra = noise
    with pytest.raises(AlertError, match="answered 403"):
        send(proxy, REACH, danger)


def test_nobody_there_is_one_line(send, danger, monkeypatch):
    monkeypatch.setattr(sip, "T1_S", 0.02)

    async def run():
        ear = SipMessageEar(SipMessageConfig(host="127.0.0.1", port=9, domain="ims.example"), timeout_s=0.1)
        with pytest.raises(AlertError, match="does not answer"):
            await ear.play(REACH, danger)

    asyncio.run(run())


@pytest.mark.parametrize(
    "subscriber", [None, "", "a b", "x\r\nEvil: y", "+44;phone", "<sip:x>", "a" * 100, "%0d%0a", "a@b?c", "ü", "\ud800"]
)
def test_an_odd_subscriber_never_leaves_the_house(send, danger, subscriber):
    proxy = Proxy(200)
    with contextlib.suppress(AlertError):
        send(proxy, Reach(subscriber=subscriber), danger)
    for request in proxy.requests:  # what is left of such a name is a plain user
        assert request.split(b"\r\n")[0] in (
            b"MESSAGE sip:+44@ims.example SIP/2.0",
            b"MESSAGE sip:a@ims.example SIP/2.0",
        )
        assert b"Evil" not in request


def test_a_beep_and_a_sermon_are_not_sent(send, beep):
    proxy = Proxy(200)
    with pytest.raises(AlertError, match="a beep cannot be sent"):
        send(proxy, REACH, beep)
    with pytest.raises(AlertError, match="shorten its text"):
        send(proxy, REACH, Announcement("a", "danger", "en", "a" * 1001, None))
    assert not proxy.requests


@given(data=st.binary(max_size=300) | st.text("SIP/2.0 \r\nVia:CSeq;branch=", max_size=200).map(str.encode))
def test_anything_is_an_answer_or_none(data):
    assert parse_answer(data, "z9hG4bKx") is None or 100 <= parse_answer(data, "z9hG4bKx") < 700
    good = b"SIP/2.0 200 OK\r\nv: SIP/2.0/UDP h;rport=1;branch=z9hG4bKx\r\nCSeq:  1   MESSAGE\r\n\r\n"
    assert parse_answer(good + data, "z9hG4bKx") == 200


@pytest.mark.parametrize("domain", ["", "a b", "ims.example;x", "-a", "<x>", "a@b", "x" * 300])
def test_config_refuses(domain):
    with pytest.raises(ValidationError):
        SipMessageConfig(host="h", domain=domain)

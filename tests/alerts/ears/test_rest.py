"""jambonz, Twilio and SMS clients against doubles written from the published interfaces, not against the products."""

import asyncio
import base64
import json
import urllib.parse

import httpx
import pytest
from pydantic import ValidationError

from inference.alerts.ear import Reach
from inference.alerts.ears.http import MAX_ANSWER_BYTES, Sounds
from inference.alerts.ears.jambonz import JambonzConfig, JambonzEar
from inference.alerts.ears.sms import SmsConfig, SmsEar
from inference.alerts.ears.twilio import TwilioConfig, TwilioEar
from inference.errors import AlertError

ACCOUNT, CALL = "fef61e75-cec3-496c-a7bc-8368e4d02a04", "9210add6-9573-4860-a003-648c7829faaa"
AC, CF, CA = "AC" + "0" * 32, "CF" + "1" * 32, "CA" + "2" * 32
URL = "https://sounds.example/v1/announcements/en-danger-card_otp.wav"
NUMBER = "+442079460000"


class Rest:
    """Notes requests and answers ``status``."""

    def __init__(self, status=200, body=b"{}", error=None) -> None:
        self.requests: list[httpx.Request] = []
        self.status, self.body, self.error = status, body, error

    async def parts(self):
        yield self.body

    def transport(self) -> httpx.MockTransport:
        def answer(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            if self.error is not None:
                raise self.error
            return httpx.Response(self.status, content=self.parts(), headers={"location": "https://elsewhere.example"})

        return httpx.MockTransport(answer)


def jambonz(rest, sounds, **config):
    values = {"url": "https://api.jambonz.example/v1/", "account_sid": ACCOUNT, "api_key": "key", **config}
    return JambonzEar(JambonzConfig(**values), sounds, transport=rest.transport())


def twilio(rest, sounds, **config):
    values = {"account_sid": AC, "secret": "token", **config}
    return TwilioEar(TwilioConfig(**values), sounds, transport=rest.transport())


def sms(rest, _sounds=None, **config):
    values = {"url": "https://sms.example/send", **config}
    return SmsEar(SmsConfig(**values), transport=rest.transport())


def play(ear, reach, announcement):
    async def run():
        try:
            await ear.play(reach, announcement)
        finally:
            await ear.aclose()

    asyncio.run(run())


JAMBONZ_REACH = Reach(via="jambonz", call=CALL)
TWILIO_REACH = Reach(via="twilio", call=CF, ear=CA)
SMS_REACH = Reach(subscriber=f"sip:{NUMBER}@ims.example")
EACH = [(jambonz, JAMBONZ_REACH), (twilio, TWILIO_REACH), (sms, SMS_REACH)]


def test_jambonz_whispers_to_the_subscribers_call(danger, sounds):
    rest = Rest(202)
    play(jambonz(rest, sounds), JAMBONZ_REACH, danger)
    (request,) = rest.requests
    assert (request.method, request.url.path) == ("PUT", f"/v1/Accounts/{ACCOUNT}/Calls/{CALL}")
    assert request.headers["authorization"] == "Bearer key"
    assert json.loads(request.content) == {"whisper": {"verb": "play", "url": URL}}


def test_jambonz_may_speak_itself_but_not_a_beep(danger, beep, sounds):
    rest = Rest(202)
    play(jambonz(rest, sounds, speak=True), JAMBONZ_REACH, danger)
    play(jambonz(rest, sounds, speak=True), JAMBONZ_REACH, beep)
    said, played = (json.loads(request.content)["whisper"] for request in rest.requests)
    assert said == {"verb": "say", "text": "Careful."}
    assert played["verb"] == "play"
    with pytest.raises(AlertError, match=r"set warnings\.sounds_url"):
        play(jambonz(rest, Sounds(None), speak=True), JAMBONZ_REACH, beep)


def test_twilio_announces_to_one_participant(danger, sounds):
    rest = Rest(200)
    play(twilio(rest, sounds), TWILIO_REACH, danger)
    (request,) = rest.requests
    path = f"/2010-04-01/Accounts/{AC}/Conferences/{CF}/Participants/{CA}.json"
    assert (request.method, request.url.host, request.url.path) == ("POST", "api.twilio.com", path)
    assert request.headers["authorization"] == "Basic " + base64.b64encode(f"{AC}:token".encode()).decode()
    assert urllib.parse.parse_qs(request.content.decode()) == {"AnnounceUrl": [URL], "AnnounceMethod": ["GET"]}


def test_twilio_takes_an_api_key_and_wants_somewhere_to_fetch(danger):
    rest = Rest(200)
    key = "SK" + "3" * 32
    play(twilio(rest, Sounds("https://s.example"), api_key=key), TWILIO_REACH, danger)
    assert base64.b64decode(rest.requests[0].headers["authorization"].split()[1]).decode() == f"{key}:token"
    with pytest.raises(AlertError, match=r"set warnings\.sounds_url"):
        play(twilio(rest, Sounds(None)), TWILIO_REACH, danger)


@pytest.mark.parametrize("form", [False, True])
def test_sms_fills_the_operators_template_once(danger, form):
    rest = Rest(200)
    body = {"to": "{subscriber}", "msg": "{level}/{language}: {text} {", "from": "ScamTap"}
    ear = sms(rest, form=form, body=body, headers={"X-Api-Key": "secret"}, user="u", password="p")
    play(ear, SMS_REACH, danger)
    (request,) = rest.requests
    sent = (
        dict(urllib.parse.parse_qsl(request.content.decode())) if form else json.loads(request.content)
    )  # what the gateway reads
    assert sent == {"to": NUMBER, "msg": "danger/en: Careful. {", "from": "ScamTap"}
    assert request.headers["x-api-key"] == "secret"
    assert (request.method, str(request.url)) == ("POST", "https://sms.example/send")


def test_sms_sends_words_to_numbers_alone(danger, beep):
    rest = Rest(200)
    with pytest.raises(AlertError, match="a beep cannot be sent"):
        play(sms(rest), SMS_REACH, beep)
    for subscriber in (None, "alice", "", "+1", "+44 {text}"):
        with pytest.raises(AlertError, match="without its subscriber's number"):
            play(sms(rest), Reach(subscriber=subscriber), danger)
    assert not rest.requests


@pytest.mark.parametrize(("make", "reach"), EACH)
@pytest.mark.parametrize("status", [301, 302, 400, 401, 404, 429, 500])
def test_a_refusal_is_one_line_with_nothing_of_the_call(make, reach, status, danger, sounds):
    rest = Rest(status, body=NUMBER.encode())
    with pytest.raises(AlertError, match=f"answered {status}$") as refused:
        play(make(rest, sounds), reach, danger)
    assert len(rest.requests) == 1  # a redirect is not followed: it would carry the credentials along
    assert not [secret for secret in (NUMBER, CALL, CA, CF) if secret in str(refused.value)]


@pytest.mark.parametrize(("make", "reach"), EACH)
@pytest.mark.parametrize("error", [httpx.ConnectError("no " + NUMBER), httpx.ReadTimeout("late"), httpx.ProtocolError])
def test_no_answer_is_one_line(make, reach, error, danger, sounds):
    fault = error if isinstance(error, Exception) else httpx.RemoteProtocolError("odd")
    with pytest.raises(AlertError, match="not reached") as refused:
        play(make(Rest(error=fault), sounds), reach, danger)
    assert NUMBER not in str(refused.value)


@pytest.mark.parametrize(("make", "reach"), EACH)
def test_an_answer_without_end_is_cut(make, reach, danger, sounds):
    with pytest.raises(AlertError, match="more than"):
        play(make(Rest(body=b"x" * (MAX_ANSWER_BYTES + 1)), sounds), reach, danger)


@pytest.mark.parametrize(
    ("make", "reach"),
    [
        (jambonz, Reach()), (jambonz, Reach(call="../Accounts")), (jambonz, Reach(call=CALL + "/x")),
        (twilio, Reach(call=CF)), (twilio, Reach(ear=CA)), (twilio, Reach(call=CA, ear=CF)),
        (twilio, Reach(call=CF, ear=CA + "\n")), (twilio, Reach(call=CF, ear="../" + CA)),
    ],
)  # fmt: skip
def test_an_odd_reference_never_leaves_the_house(make, reach, danger, sounds):
    rest = Rest()
    with pytest.raises(AlertError, match="came without"):
        play(make(rest, sounds), reach, danger)
    assert not rest.requests


@pytest.mark.parametrize(("make", "reach"), EACH[:2])
def test_what_cannot_be_stopped_says_so(make, reach, sounds):
    async def run():
        ear = make(Rest(), sounds)
        with pytest.raises(AlertError, match="has no way to stop"):
            await ear.stop(reach)
        await ear.aclose()

    asyncio.run(run())


def test_a_server_that_hangs_up_mid_answer_is_one_line(danger):
    async def hang_up(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    async def run():
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        ear = SmsEar(SmsConfig(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"))
        async with server:
            with pytest.raises(AlertError, match=r"not reached \(RemoteProtocolError\)"):
                await ear.play(SMS_REACH, danger)
        await ear.aclose()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (JambonzConfig, {"url": "https://x", "account_sid": "1", "api_key": "k"}),
        (JambonzConfig, {"url": "x", "account_sid": ACCOUNT, "api_key": "k"}),
        (TwilioConfig, {"account_sid": AC + "0", "secret": "s"}),
        (TwilioConfig, {"account_sid": AC, "secret": "s", "api_key": AC}),
        (SmsConfig, {"url": "https://x", "body": {"to": "{subscriber}"}}),
        (SmsConfig, {"url": "https://x", "body": {"to": "{subscriber}", "text": "{text}{caller}"}}),
        (SmsConfig, {"url": "https://x", "headers": {"a\nb": "c"}}),
        (SmsConfig, {"url": "https://x", "headers": {"a": "b\r\nc: d"}}),
        (SmsConfig, {"url": "https://x", "user": "u"}),
    ],
)
def test_config_refuses(config, values):
    with pytest.raises(ValidationError):
        config(**values)

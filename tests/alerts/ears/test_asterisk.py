"""The ARI client against a double written from Asterisk's published interface, not against Asterisk."""

import asyncio
import base64
import contextlib

import pytest
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from inference.alerts.ear import Reach
from inference.alerts.ears.asterisk import AsteriskConfig, AsteriskEar
from inference.alerts.ears.http import Sounds
from inference.errors import AlertError

CHANNEL = "1700000000.12"
REACH = Reach(via="asterisk", call="other", ear=CHANNEL)


class Ari:
    """Channels, snoop channels and applications, as far as a whisper needs them."""

    def __init__(self) -> None:
        self.channels = {CHANNEL}
        self.apps: list[str] = []
        self.snoops: dict[str, dict[str, str]] = {}
        self.played: list[tuple[str, str]] = []
        self.log: list[str] = []
        self.num_conflicts = 2  # before a snoop channel has arrived in its application
        self.delay_s = 0.0
        self.app = Starlette(
            routes=[
                WebSocketRoute("/ari/events", self.events),
                Route("/ari/channels/{channel}/snoop/{snoop}", self.snoop, methods=["POST"]),
                Route("/ari/channels/{channel}/play", self.play, methods=["POST"]),
                Route("/ari/channels/{channel}", self.hang_up, methods=["DELETE"]),
            ]
        )

    def _is_authorised(self, headers) -> bool:
        return headers.get("authorization") == "Basic " + base64.b64encode(b"us:pw").decode()

    async def events(self, socket) -> None:
        if not self._is_authorised(socket.headers):
            await socket.close()
            return
        await socket.accept()
        app = socket.query_params["app"]
        self.apps.append(app)
        try:
            await socket.send_json({"type": "StasisStart", "application": app})
            while True:
                await socket.receive_text()
        except WebSocketDisconnect:
            pass
        finally:
            self.apps.remove(app)

    async def snoop(self, request: Request) -> Response:
        await asyncio.sleep(self.delay_s)
        self.log.append("snoop")
        channel, snoop, asked = request.path_params["channel"], request.path_params["snoop"], request.query_params
        if not self._is_authorised(request.headers):
            return JSONResponse({"message": "Authentication required"}, 401)
        if channel not in self.channels:
            return JSONResponse({"message": "Channel not found"}, 404)
        if asked.get("whisper") not in ("in", "out", "both") or "app" not in asked:
            return JSONResponse({"message": "Invalid parameters"}, 400)
        if asked["app"] in self.apps:  # else the channel finds no application and is gone at once
            self.snoops[snoop] = {"of": channel, **asked}
            self._left = self.num_conflicts
        return JSONResponse({"id": snoop, "name": f"Snoop/{channel}"})

    async def play(self, request: Request) -> Response:
        snoop = request.path_params["channel"]
        if snoop not in self.snoops:
            return JSONResponse({"message": "Channel not found"}, 404)
        if self._left > 0:
            self._left -= 1
            return JSONResponse({"message": "Channel not in Stasis application"}, 409)
        self.log.append("play")
        self.played.append((self.snoops[snoop]["of"], request.query_params["media"]))
        return JSONResponse({"id": "p", "state": "queued"}, 201)

    async def hang_up(self, request: Request) -> Response:
        self.log.append("hang up")
        if self.snoops.pop(request.path_params["channel"], None) is None:
            return JSONResponse({"message": "Channel not found"}, 404)
        return Response(status_code=204)


@pytest.fixture
def with_ari(served):
    """``with_ari(scenario, **config)``: run ``scenario(double, ear)``; gives the double."""

    def run(scenario, *, sounds=None, timeout_s=2.0, **config):
        async def whole():
            ari = Ari()
            async with served(ari.app) as (host, port):
                url = f"http://{host}:{port}/ari"
                values = {"url": url, "user": "us", "password": "pw", "media": "sound:scamtap/{name}", **config}
                ear = AsteriskEar(AsteriskConfig(**values), sounds or Sounds(None), timeout_s=timeout_s)
                try:
                    await scenario(ari, ear)
                finally:
                    await ear.aclose()
            return ari

        return asyncio.run(whole())

    return run


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def test_a_snoop_channel_whispers_to_the_subscriber_alone_and_hangs_up_after_the_sound(with_ari, danger):
    async def run(ari, ear):
        await ear.play(REACH, danger)
        ((snoop, made),) = ari.snoops.items()
        assert snoop.startswith("scamtap-")
        assert (made["of"], made["spy"], made["whisper"]) == (CHANNEL, "none", "out")
        assert made["app"].startswith("scamtap-")
        assert ari.played == [(CHANNEL, "sound:scamtap/en-danger-card_otp")]
        await until(lambda: not ari.snoops)  # 0.1 s of sound and a second

    assert with_ari(run).log == ["snoop", "play", "hang up"]


def test_the_sound_may_be_fetched_from_us(with_ari, danger, sounds):
    async def run(ari, ear):
        await ear.play(REACH, danger)
        assert ari.played[0][1] == "sound:https://sounds.example/v1/announcements/en-danger-card_otp.wav"

    with_ari(run, sounds=sounds, media="sound:{url}")


def test_stopping_hangs_the_whisper_up_at_once_and_nothing_where_nothing_is(with_ari, danger):
    async def run(ari, ear):
        await ear.stop(REACH)
        assert ari.log == []
        await ear.play(REACH, danger)
        await ear.stop(REACH)
        assert not ari.snoops
        await ear.stop(REACH)

    assert with_ari(run).log == ["snoop", "play", "hang up"]


def test_a_call_that_is_gone_is_one_line_without_its_id(with_ari, danger):
    async def run(ari, ear):
        ari.channels.clear()
        with pytest.raises(AlertError, match=r"^asterisk answered 404$"):
            await ear.play(REACH, danger)

    with_ari(run)


def test_a_call_hung_up_between_snoop_and_play_leaves_no_snoop_channel(with_ari, danger):
    async def run(ari, ear):
        ari.num_conflicts = 10_000
        playing = asyncio.create_task(ear.play(REACH, danger))
        await until(lambda: ari.snoops)
        ari.snoops.clear()
        with pytest.raises(AlertError, match="answered 404"):
            await playing

    with_ari(run)


def test_a_channel_that_never_enters_the_application_is_given_up_and_hung_up(with_ari, danger):
    async def run(ari, ear):
        ari.num_conflicts = 10_000
        with pytest.raises(AlertError, match="does not enter the application"):
            await ear.play(REACH, danger)
        await until(lambda: not ari.snoops)

    with_ari(run)


def test_a_play_that_is_given_up_leaves_no_snoop_channel(with_ari, danger):
    async def run(ari, ear):
        ari.num_conflicts = 10_000
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await ear.play(REACH, danger)
        await until(lambda: "hang up" in ari.log)
        assert not ari.snoops

    with_ari(run)


def test_the_application_is_held_again_after_asterisk_restarted(with_ari, danger):
    async def run(ari, ear):
        await ear.play(REACH, danger)
        await ear.stop(REACH)
        await ear._events.close()  # as a restart does
        await until(lambda: not ari.apps)
        await ear.play(REACH, danger)
        assert len(ari.apps) == 1

    assert len(with_ari(run).played) == 2


def test_an_application_of_the_operators_is_left_to_them(with_ari, danger):
    async def run(ari, ear):
        with pytest.raises(AlertError, match="answered 404"):  # nobody holds it
            await ear.play(REACH, danger)
        ari.apps.append("theirs")
        await ear.play(REACH, danger)
        assert ari.apps == ["theirs"]

    with_ari(run, app="theirs", app_is_ours=False)


def test_a_wrong_password_and_a_slow_gateway_are_one_line(with_ari, danger):
    async def wrong(_ari, ear):
        with pytest.raises(AlertError, match="event socket not opened"):
            await ear.play(REACH, danger)

    with_ari(wrong, password="nope")

    async def slow(ari, ear):
        ari.delay_s = 0.5
        with pytest.raises(AlertError, match=r"not reached .*Timeout"):
            await ear.play(REACH, danger)

    with_ari(slow, timeout_s=0.1)


def test_nobody_there_is_one_line(danger):
    async def run():
        ear = AsteriskEar(
            AsteriskConfig(url="http://127.0.0.1:9/ari", user="u", password="p", media="sound:{name}"), Sounds(None)
        )
        with pytest.raises(AlertError, match="event socket not opened"):
            await ear.play(REACH, danger)
        await ear.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("channel", ["", "../applications", "a/b", "a?b=c", "a b", "a" * 200, "\r\nDELETE", "ü"])
def test_an_odd_channel_never_leaves_the_house(with_ari, danger, channel):
    async def run(ari, ear):
        for work in (ear.play(Reach(call=channel), danger), ear.stop(Reach(call=channel))):
            with pytest.raises(AlertError, match="without the id of its subscriber's channel"):
                await work

    assert with_ari(run).log == []


@pytest.mark.parametrize(
    "values",
    [
        {"url": "ftp://x"}, {"url": "http://u:p@x"}, {"url": "http://x?api_key=k"}, {"media": "sound:beep"},
        {"media": "tone:{name}"}, {"app": "a b"}, {"user": ""}, {"x": 1},
    ],
)  # fmt: skip
def test_config_refuses(values):
    with pytest.raises(ValidationError):
        AsteriskConfig(**{"url": "http://x", "user": "u", "password": "p"} | values)


def test_secrets_are_not_shown():
    assert "hunter2" not in repr(AsteriskConfig(url="http://x", user="u", password="hunter2"))

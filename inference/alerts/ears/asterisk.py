"""Asterisk, by ARI: a snoop channel that whispers to the subscriber's channel, and a playback on it.

Written from docs.asterisk.org, "Channels REST API" (snoopChannelWithId, play, hangup) and "Events
REST API" (the event socket). ``whisper=out`` mixes into what goes out to the telephone, so the other party and an
``in``/``out`` spy on that party's channel do not get it.

A snoop channel lives in a Stasis application, and an application exists as long as somebody holds its event socket:
we do, from the first warning on, unless ``app_is_ours`` is off because a program of the operator's holds it.
"""

import asyncio
import base64
import contextlib
import re
import secrets
from typing import Self
from urllib.parse import quote, urlencode

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from inference.alerts.ear import Announcement, Reach
from inference.alerts.ears.http import HttpClient, HttpUrl, Sounds
from inference.audio import SAMPLE_RATE_HZ
from inference.errors import AlertError

NOT_THERE, NOT_IN_STASIS = 404, 409
ENTER_S = 0.02
"""Between asking for the snoop channel and its arrival in the application."""

MAX_ENTER_TRIES = 50
TAIL_S = 1.0
"""How long a snoop channel outlives the sound: Asterisk fetched it first."""

MAX_EVENT_BYTES = 1 << 20
_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,149}")


class AsteriskConfig(BaseModel):
    """One Asterisk.

    Attributes:
        name: of this way in ``reach.via`` of its calls.
        url: of ARI, e.g. ``http://192.0.2.10:8088/ari``.
        user, password: of ``ari.conf``.
        app: Stasis application; ours gets a suffix, so that workers do not push each other out.
        app_is_ours: hold its event socket; off where a program of the operator's does.
        media: what is played; ``{name}`` is the announcement's, ``{url}`` its address under ``warnings.sounds_url``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="asterisk", min_length=1, max_length=64)
    url: HttpUrl
    user: str = Field(min_length=1, max_length=128)
    password: SecretStr
    app: str = Field(default="scamtap", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    app_is_ours: bool = True
    media: str = Field(default="sound:{url}", pattern=r"^sound:\S{1,256}$")

    @model_validator(mode="after")
    def _names_the_sound(self) -> Self:
        if "{name}" not in self.media and "{url}" not in self.media:
            raise ValueError("media wants {name} or {url}: else every warning sounds alike")
        return self


class AsteriskEar:
    """Plays through one Asterisk.

    Args:
        config: where it is.
        sounds: where it fetches sounds.
        timeout_s: bound on one request.
        transport: for tests.
    """

    def __init__(
        self,
        config: AsteriskConfig,
        sounds: Sounds,
        *,
        timeout_s: float = 2.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = config.name
        self._config = config
        self._sounds = sounds
        self._timeout_s = timeout_s
        auth = (config.user, config.password)
        self._http = HttpClient(self.name, config.url, auth=auth, timeout_s=timeout_s, transport=transport)
        self._app = f"{config.app}-{secrets.token_hex(4)}" if config.app_is_ours else config.app
        self._connecting = asyncio.Lock()
        self._events: ClientConnection | None = None
        self._draining: asyncio.Task[None] | None = None
        self._snoops: dict[str, str] = {}  # by the channel that they whisper to
        self._ending: dict[str, asyncio.Task[None]] = {}  # by snoop channel

    def _channel(self, reach: Reach) -> str:
        secret = reach.ear or reach.call
        channel = secret.get_secret_value() if secret is not None else ""
        if not _CHANNEL.fullmatch(channel):
            raise AlertError(f"{self.name}: the call came without the id of its subscriber's channel")
        return channel

    async def play(self, reach: Reach, announcement: Announcement) -> None:
        """See :class:`inference.alerts.ear.Ear`."""
        channel = self._channel(reach)
        if self._config.app_is_ours:
            await self._hold_app()
        snoop = f"scamtap-{secrets.token_hex(8)}"
        until_s = 0.0
        try:
            query = urlencode({"spy": "none", "whisper": "out", "app": self._app})
            await self._http.request("POST", f"/channels/{quote(channel, safe='')}/snoop/{snoop}?{query}")
            await self._play_on(snoop, self._sounds.media(self._config.media, announcement))
            until_s = announcement.samples.size / SAMPLE_RATE_HZ + TAIL_S
            self._snoops[channel] = snoop
        finally:  # a warning that timed out may have left a snoop channel too
            self._ending[snoop] = asyncio.create_task(self._hang_up_after(until_s, channel, snoop))

    async def _play_on(self, snoop: str, media: str) -> None:
        path = f"/channels/{snoop}/play?{urlencode({'media': media})}"
        for _ in range(MAX_ENTER_TRIES):
            if await self._http.request("POST", path, allowed=(NOT_IN_STASIS,)) != NOT_IN_STASIS:
                return
            await asyncio.sleep(ENTER_S)
        raise AlertError(f"{self.name}: the snoop channel does not enter the application; is warnings' app held?")

    async def _hang_up_after(self, wait_s: float, channel: str, snoop: str) -> None:
        await asyncio.sleep(wait_s)
        try:
            await self._hang_up(channel, snoop)
        except AlertError:
            return  # the channel that it whispers to ends it at the latest
        finally:
            self._ending.pop(snoop, None)

    async def _hang_up(self, channel: str, snoop: str) -> None:
        if self._snoops.get(channel) == snoop:
            del self._snoops[channel]
        await self._http.request("DELETE", f"/channels/{snoop}", allowed=(NOT_THERE,))

    async def stop(self, reach: Reach) -> None:
        """See :class:`inference.alerts.ear.Ear`."""
        channel = self._channel(reach)
        snoop = self._snoops.get(channel)
        if snoop is not None:
            if (ending := self._ending.pop(snoop, None)) is not None:
                ending.cancel()
            await self._hang_up(channel, snoop)

    async def _hold_app(self) -> None:
        """Connect the application's event socket where it is not.

        Raises:
            AlertError: Asterisk refuses or is not there.
        """
        async with self._connecting:
            if self._draining is not None and not self._draining.done():
                return
            url = self._config.url.replace("http", "ws", 1) + "/events?" + urlencode({"app": self._app})
            login = f"{self._config.user}:{self._config.password.get_secret_value()}".encode()
            try:
                self._events = await connect(
                    url,
                    additional_headers={"Authorization": "Basic " + base64.b64encode(login).decode()},
                    max_size=MAX_EVENT_BYTES,
                    open_timeout=self._timeout_s,
                    close_timeout=self._timeout_s,
                    proxy=None,
                )
            except (OSError, WebSocketException) as error:
                raise AlertError(f"{self.name}: event socket not opened ({type(error).__name__})") from error
            self._draining = asyncio.create_task(self._drain(self._events))

    async def _drain(self, events: ClientConnection) -> None:
        with contextlib.suppress(WebSocketException):
            async for _ in events:  # read, so that Asterisk does not cut us off; nothing in it is needed
                pass

    async def aclose(self) -> None:
        """Hang up what still whispers and leave the application."""
        for channel, snoop in list(self._snoops.items()):
            with contextlib.suppress(AlertError):
                await self._hang_up(channel, snoop)
        for ending in list(self._ending.values()):
            ending.cancel()
        await asyncio.gather(*self._ending.values(), return_exceptions=True)
        if self._events is not None:
            await self._events.close()
        if self._draining is not None:
            await self._draining
        await self._http.aclose()

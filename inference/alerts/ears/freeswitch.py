"""FreeSWITCH, by its event socket: ``uuid_displace <uuid> start <file> <limit> mux`` on the subscriber's channel.

Written from developer.signalwire.com/freeswitch, "Event Socket" (inbound: auth, api) and "mod_commands"
(uuid_displace). Displacing replaces what is written to the channel, so its own party hears it; ``mux`` mixes it with
the call instead. A connection per command: warnings are rare, and there is no state to lose.
"""

import asyncio
import contextlib
import math
import re
import uuid
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from inference.alerts.ear import Announcement, Reach
from inference.alerts.ears.http import Sounds
from inference.audio import SAMPLE_RATE_HZ
from inference.errors import AlertError

MAX_HEADERS = 64
MAX_LINE_BYTES = 4096
MAX_BODY_BYTES = 65_536
MAX_PLAYING = 4096
"""Channels whose sound is remembered so that it can be stopped; the oldest is forgotten first."""

_NO_SPACE = r"^[^\s\x00-\x1f\x7f]{1,512}$"


class FreeswitchConfig(BaseModel):
    """One FreeSWITCH.

    Attributes:
        name: of this way in ``reach.via`` of its calls.
        host, port, password: of ``event_socket.conf.xml``.
        file: what is played; ``{name}`` is the announcement's, ``{url}`` its address under ``warnings.sounds_url``
            (through mod_http_cache), or a path on its disk, e.g. ``/var/lib/scamtap/{name}.wav``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="freeswitch", min_length=1, max_length=64)
    host: str = Field(min_length=1, max_length=255)
    port: int = Field(default=8021, ge=1, le=65535)
    password: SecretStr
    file: str = Field(default="http_cache://{url}", pattern=_NO_SPACE)

    @field_validator("password")
    @classmethod
    def _is_one_line(cls, password: SecretStr) -> SecretStr:
        if not re.fullmatch(r"[^\r\n\x00]{1,256}", password.get_secret_value()):
            raise ValueError("must be one line")
        return password

    @model_validator(mode="after")
    def _names_the_sound(self) -> Self:
        if "{name}" not in self.file and "{url}" not in self.file:
            raise ValueError("file wants {name} or {url}: else every warning sounds alike")
        return self


class FreeswitchEar:
    """Plays through one FreeSWITCH.

    Args:
        config: where it is.
        sounds: where it fetches sounds.
        timeout_s: bound on one command, connecting included.
    """

    def __init__(self, config: FreeswitchConfig, sounds: Sounds, *, timeout_s: float = 2.0) -> None:
        self.name = config.name
        self._config = config
        self._sounds = sounds
        self._timeout_s = timeout_s
        self._playing: dict[str, str] = {}  # channel -> file

    def _channel(self, reach: Reach) -> str:
        """The subscriber's channel; parsed and printed again, so that nothing else can stand in a command."""
        secret = reach.ear or reach.call
        try:
            return str(uuid.UUID(secret.get_secret_value() if secret is not None else ""))
        except ValueError:
            raise AlertError(f"{self.name}: the call came without the uuid of its subscriber's channel") from None

    async def play(self, reach: Reach, announcement: Announcement) -> None:
        """See :class:`inference.alerts.ear.Ear`."""
        channel, file = self._channel(reach), self._sounds.media(self._config.file, announcement)
        limit_s = math.ceil(announcement.samples.size / SAMPLE_RATE_HZ) + 1
        self._playing.pop(channel, None)
        self._playing[channel] = file  # before the answer: it may be lost, and the sound be there
        if len(self._playing) > MAX_PLAYING:
            del self._playing[next(iter(self._playing))]
        await self._api(f"uuid_displace {channel} start {file} {limit_s} mux")

    async def stop(self, reach: Reach) -> None:
        """See :class:`inference.alerts.ear.Ear`."""
        channel = self._channel(reach)
        file = self._playing.pop(channel, None)
        if file is not None:
            await self._api(f"uuid_displace {channel} stop {file}")

    async def aclose(self) -> None:
        """Nothing is held between commands."""

    async def _api(self, command: str) -> None:
        """Run one command.

        Raises:
            AlertError: not reached, refused, or an answer that is none.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await asyncio.open_connection(
                    self._config.host, self._config.port, limit=MAX_LINE_BYTES
                )
                try:
                    await self._talk(reader, writer, command)
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise AlertError(f"{self.name} not reached ({type(error).__name__})") from error

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: str) -> None:
        kind, _, _ = await read_message(reader)
        if kind != "auth/request":
            raise AlertError(f"{self.name}: no event socket, or its access list refuses us")
        writer.write(f"auth {self._config.password.get_secret_value()}\n\n".encode())
        _, reply, _ = await read_message(reader, "command/reply")
        if not reply.startswith("+OK"):
            raise AlertError(f"{self.name} refuses the password")
        writer.write(f"api {command}\n\n".encode())
        _, _, body = await read_message(reader, "api/response")
        if not body.startswith("+OK"):
            raise AlertError(f"{self.name} refuses to play: the channel is gone, or it has no such file")


async def read_message(reader: asyncio.StreamReader, wanted: str | None = None) -> tuple[str, str, str]:
    """One message: content type, ``Reply-Text`` and body; others than ``wanted`` are skipped.

    Raises:
        ValueError: not of the protocol, or too long.
        EOFError: the peer hung up.
    """
    for _ in range(MAX_HEADERS):
        headers: dict[str, str] = {}
        num_lines = 0
        while (line := await reader.readuntil(b"\n")) not in (b"\n", b"\r\n"):
            num_lines += 1
            name, colon, value = line.decode("utf-8", "replace").partition(":")
            if not colon or num_lines > MAX_HEADERS:
                raise ValueError("not an event socket message")
            headers[name.strip().lower()] = value.strip()
        length = headers.get("content-length", "0")
        if len(length) > 9 or not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY_BYTES:
            raise ValueError("content-length is out of bounds")
        body = (await reader.readexactly(int(length))).decode("utf-8", "replace")
        kind = headers.get("content-type", "")
        if wanted in (None, kind):
            return kind, headers.get("reply-text", ""), body
    raise ValueError("the answer does not come")

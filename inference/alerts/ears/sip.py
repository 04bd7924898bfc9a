"""A SIP MESSAGE (RFC 3428) to the subscriber's telephone, through the operator's proxy over UDP.

A small non-INVITE client transaction (RFC 3261 section 17.1.2) and no more: no registration, no digest (the proxy
trusts our address), no route set. INFO (RFC 6086) needs the dialog that it belongs to, so it is the SIPREC gateway's to
send.
"""

import asyncio
import ipaddress
import re
import secrets
import socket
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from inference.alerts.ear import Announcement, Reach
from inference.alerts.optout import normalise_number
from inference.errors import AlertError

T1_S, T2_S = 0.5, 4.0
"""Round-trip estimate and longest pause between repetitions (RFC 3261 section 17.1.1.1)."""

MAX_BODY_BYTES = 1000
"""A MESSAGE over UDP stays below 1300 bytes in all (RFC 3428 section 8)."""

MAX_DATAGRAMS = 64
"""Answers looked at per message; most of a flood is never read."""

_HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]"
_USER = re.compile(r"\+?[A-Za-z0-9_.!~*'()&=$,-]{1,64}")  # no '%': nothing to unescape, nothing to smuggle


class SipMessageConfig(BaseModel):
    """One SIP proxy.

    Attributes:
        name: of this way in ``reach.via`` of its calls, or among ``warnings.fallbacks``.
        host, port: of the proxy.
        domain: of subscribers' addresses, ``sip:<subscriber>@<domain>``.
        sender: user part of our own address in that domain.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="sip", min_length=1, max_length=64)
    host: str = Field(min_length=1, max_length=255)
    port: int = Field(default=5060, ge=1, le=65535)
    domain: str
    sender: str = Field(default="scamtap", pattern=r"^[A-Za-z0-9_.-]{1,64}$")

    @model_validator(mode="after")
    def _domain_is_one(self) -> Self:
        if not re.fullmatch(_HOST, self.domain):
            raise ValueError("domain wants a host name or address, e.g. ims.example")
        return self


class _Answers(asyncio.DatagramProtocol):
    """Status codes of the answers to one request, in the order of their arrival."""

    def __init__(self, branch: str) -> None:
        self._branch = branch
        self._num_left = MAX_DATAGRAMS
        self.statuses: asyncio.Queue[int] = asyncio.Queue(MAX_DATAGRAMS)

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002
        self._num_left -= 1
        status = parse_answer(data, self._branch)
        if status is not None and self._num_left >= 0:
            self.statuses.put_nowait(status)

    def error_received(self, exc: Exception) -> None:
        """An ICMP error: the proxy is not there now; it may be at the next repetition."""


def parse_answer(data: bytes, branch: str) -> int | None:
    """Status code of a response to the MESSAGE of ``branch``; None for anything else (RFC 3261 section 17.1.3)."""
    head = data[:65_535].split(b"\r\n\r\n", 1)[0].decode("utf-8", "replace").split("\r\n")
    first = re.fullmatch(r"SIP/2\.0 ([1-6][0-9]{2})( .*)?", head[0])
    if first is None:
        return None
    via = cseq = ""
    for line in head[1:]:
        name, _, value = line.partition(":")
        match name.strip().lower():
            case "via" | "v":
                via = via or value.split(",")[0]  # the topmost
            case "cseq":
                cseq = value
    parameters = [part.strip() for part in via.split(";")[1:]]
    is_ours = f"branch={branch}" in parameters and cseq.split() == ["1", "MESSAGE"]
    return int(first[1]) if is_ours else None


class SipMessageEar:
    """Sends the line as a SIP MESSAGE; a beep alone has none.

    Args:
        config: the proxy.
        timeout_s: bound on one message; RFC 3261's 32 s are for those who can wait.
    """

    def __init__(self, config: SipMessageConfig, *, timeout_s: float = 2.0) -> None:
        self.name = config.name
        self._config = config
        self._timeout_s = timeout_s

    def _target(self, reach: Reach) -> str:
        user = normalise_number(reach.subscriber.get_secret_value()) if reach.subscriber is not None else ""
        if not _USER.fullmatch(user):
            raise AlertError(f"{self.name}: the call came without its subscriber's number")
        return f"sip:{user}@{self._config.domain}"

    async def play(self, reach: Reach, announcement: Announcement) -> None:
        """See :class:`inference.alerts.ear.Ear`."""
        target, body = self._target(reach), announcement.text.encode()
        if not body:
            raise AlertError(f"{self.name}: a beep cannot be sent as a message")
        if len(body) > MAX_BODY_BYTES:
            raise AlertError(f"{self.name}: the line is longer than {MAX_BODY_BYTES} bytes: shorten its text")
        branch = "z9hG4bK" + secrets.token_hex(12)
        try:
            transport, answers = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Answers(branch), remote_addr=(self._config.host, self._config.port)
            )
        except OSError as error:
            raise AlertError(f"{self.name} not reached ({type(error).__name__})") from error
        try:
            sock: socket.socket = transport.get_extra_info("socket")
            host, port = sock.getsockname()[:2]
            request = self._request(target, announcement.language, body, branch, (host, port))
            status = await self._final(transport, answers, request)
        finally:
            transport.close()
        if not 200 <= status < 300:
            raise AlertError(f"{self.name} answered {status}")

    def _request(self, target: str, language: str, body: bytes, branch: str, local: tuple[str, int]) -> bytes:
        host = f"[{local[0]}]" if ipaddress.ip_address(local[0].partition("%")[0]).version == 6 else local[0]
        lines = [
            f"MESSAGE {target} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{local[1]};branch={branch};rport",
            "Max-Forwards: 70",
            f"From: <sip:{self._config.sender}@{self._config.domain}>;tag={secrets.token_hex(8)}",
            f"To: <{target}>",
            f"Call-ID: {secrets.token_hex(16)}",
            "CSeq: 1 MESSAGE",
            "Content-Type: text/plain;charset=UTF-8",
            f"Content-Language: {language}",
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def _final(self, transport: asyncio.DatagramTransport, answers: _Answers, request: bytes) -> int:
        """Send until a final answer comes: Timer E between repetitions, ``timeout_s`` in place of Timer F."""
        pause_s = T1_S
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    transport.sendto(request)
                    try:
                        async with asyncio.timeout(pause_s):
                            while (status := await answers.statuses.get()) < 200:
                                pause_s = T2_S / 2  # proceeding: doubled below, to T2
                            return status
                    except TimeoutError:
                        pause_s = min(2 * pause_s, T2_S)
        except TimeoutError:
            raise AlertError(f"{self.name} does not answer") from None

    async def stop(self, reach: Reach) -> None:
        """A message is sent and done."""

    async def aclose(self) -> None:
        """Nothing is held between messages."""

"""The one hot route, ``POST /v1/screening/calls``, answered before the web framework: at a fifth of its cost.

Only what is plain is answered here: a body of known size, the right host and token, a call attempt that is valid. All
else goes on to the app behind, which has the same route, refuses what is to be refused, and describes both in OpenAPI.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from pydantic import ValidationError

from inference.screening.api import Decides, decide_openly
from inference.screening.attempt import CallAttempt
from inference.service.api import MAX_SCREENING_BODY_BYTES, ApiConfig, allowed_hosts

PATH = "/v1/screening/calls"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]


class AttemptDoor:
    """An ASGI app in front of another.

    Args:
        app: takes what is not answered here.
        screener: decides.
        config: address and token of the API.
    """

    def __init__(self, app: AsgiApp, screener: Decides, config: ApiConfig) -> None:
        self._app = app
        self._screener = screener
        self._hosts = frozenset(host.encode() for host in allowed_hosts(config))
        self._token = None if config.token is None else b"Bearer " + config.token.get_secret_value().encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST" or not self._is_plain(scope):
            await self._app(scope, receive, send)
            return
        body, taken = b"", list[Message]()
        while True:
            message = await receive()
            taken.append(message)
            body += message.get("body", b"")
            if message["type"] != "http.request" or not message.get("more_body", False):
                break
        attempt = _read(body)
        if attempt is None:
            await self._app(scope, _again(taken, receive), send)
            return
        decision = await decide_openly(self._screener, attempt)
        answer = msgspec.json.encode(decision.to_json())
        length = str(len(answer)).encode()
        headers = [(b"content-length", length), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _is_plain(self, scope: Message) -> bool:
        """Whether the head of a request leaves nothing to refuse."""
        host = length = kind = token = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value if host is None else b""
            elif name == b"content-length":
                length = value if length is None else b""
            elif name == b"content-type":
                kind = value
            elif name == b"authorization":
                token = value if token is None else b""
            elif name in (b"transfer-encoding", b"content-encoding"):
                return False
        if host is None or host.partition(b":")[0] not in self._hosts or kind != b"application/json":
            return False
        if length is None or len(length) > 8 or not length.isdigit() or int(length) > MAX_SCREENING_BODY_BYTES:
            return False
        return self._token is None or (token is not None and hmac.compare_digest(token, self._token))


def _read(body: bytes) -> CallAttempt | None:
    try:
        return CallAttempt.model_validate_json(body)
    except ValidationError:
        return None


def _again(taken: list[Message], receive: Receive) -> Receive:
    """Hands out what was taken already, then the rest."""
    waiting = iter(taken)

    async def replay() -> Message:
        message = next(waiting, None)
        return await receive() if message is None else message

    return replay

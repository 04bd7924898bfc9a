"""The hot route before the framework answers as the framework would, or leaves it to it."""

import asyncio
import dataclasses
import json
from contextlib import AsyncExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from inference.screening.api import screening_router
from inference.screening.attempt import Decision
from inference.screening.config import ScreeningConfig, open_screening
from inference.service.api import ApiConfig, bare_app
from inference.service.attempt_door import PATH, AttemptDoor

CALL = {"call_id": "c", "caller": "+441212345678", "callee": "+442079460000"}
PLAIN = {"host": "127.0.0.1:8650", "content-type": "application/json"}
CONFIG = ApiConfig()


class Behind:
    """The whole app, and whether it was asked."""

    def __init__(self, app):
        self.app, self.num_asked = app, 0

    async def __call__(self, scope, receive, send):
        self.num_asked += 1
        await self.app(scope, receive, send)


async def ask(app, body, headers=None, path=PATH, method="POST", chunks=1):
    """(status, body) as a client sees it; the body comes in so many pieces."""
    sent, size = [], max(1, -(-len(body) // chunks))
    pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    given_ = PLAIN | {"content-length": str(len(body))} | (headers or {})
    messages = iter(
        {"type": "http.request", "body": piece, "more_body": at + 1 < len(pieces)} for at, piece in enumerate(pieces)
    )

    async def receive():
        message = next(messages, None)
        if message is None:
            await asyncio.Event().wait()
        return message

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
        "root_path": "", "query_string": b"", "scheme": "http", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given_.items() if value is not None],
    }  # fmt: skip
    await app(scope, receive, send)
    text = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(text) if text[:1] in (b"{", b"[") else text


def both(body, config=CONFIG, **more):
    """The door's answer, the framework's, and whether the door left it to the framework."""

    async def run():
        async with AsyncExitStack() as stack:
            found = []
            for is_direct in (True, False):  # each its own memory: a decision counts
                screening = open_screening(ScreeningConfig(), stack)
                app, guarded = bare_app(config)
                app.include_router(screening_router(screening, guarded))
                behind = Behind(app)
                door = AttemptDoor(behind, screening.screener, config) if is_direct else behind
                found.append(await ask(door, body, **more))
                found.append(behind.num_asked)
            return found[0], found[2], bool(found[1])

    return asyncio.run(run())


@pytest.mark.parametrize("chunks", [1, 3])
def test_a_plain_attempt_is_answered_before_the_framework_and_alike(chunks):
    direct, framework, is_left = both(json.dumps(CALL).encode(), chunks=chunks)
    assert direct == framework
    assert direct[0] == 200
    assert not is_left


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 400),
        ({"host": None}, 400),
        ({"content-length": "99999999"}, 413),
        ({"content-length": "x"}, 413),
        ({"transfer-encoding": "chunked"}, 413),
        ({"content-type": "text/plain"}, 422),
    ],
)
def test_what_is_not_plain_is_left_to_the_framework(headers, status):
    direct, framework, is_left = both(json.dumps(CALL).encode(), headers=headers)
    assert direct == framework
    assert direct[0] == status
    assert is_left


@pytest.mark.parametrize(
    ("token", "status"), [("Bearer right", 200), ("Bearer wrong", 401), (None, 401), ("Bearer é", 401)]
)
def test_the_token_is_asked_for(token, status):
    config = ApiConfig(token=SecretStr("right"))
    direct, framework, _ = both(json.dumps(CALL).encode(), config=config, headers={"authorization": token})
    assert direct == framework
    assert direct[0] == status


def test_other_routes_and_methods_are_left_to_the_framework():
    assert both(b"", path="/v1/screening/counters", method="GET")[0][0] == 200
    assert both(b"", method="GET")[0][0] == 405


values = st.one_of(
    st.none(), st.booleans(), st.integers(-10, 10**12), st.floats(allow_nan=False), st.text(max_size=300),
    st.sampled_from(["own", "moon", "+441212345678", "999", "", "1" * 9000, "1800000000"]),
)  # fmt: skip
bodies = st.one_of(
    st.dictionaries(
        st.sampled_from(["call_id", "caller", "callee", "at_s", "trunk", "identity", "is_callback_window", "more"]),
        values,
    ).map(lambda body: json.dumps(CALL | body).encode()),
    st.binary(max_size=60),
    st.sampled_from([b"", b"{}", b"[]", b'{"call_id":"\\ud800","callee":"1"}', b"NaN", b"[" * 500, b"\xef\xbb\xbf{}"]),
)


class Takes:
    """A screener that keeps what it is asked."""

    def __init__(self, screener):
        self.config, self.attempts = screener.config, []

    async def decide(self, attempt):
        self.attempts.append(attempt)
        return Decision(attempt.call_id, "allow", ("DEFAULT",), None, "1", "1")


@pytest.fixture(scope="module")
def apps():
    """(event loop, screener, the door, the app behind it)."""
    with asyncio.Runner() as runner:
        screening = open_screening(ScreeningConfig(), AsyncExitStack())
        takes = Takes(screening.screener)
        app, guarded = bare_app(CONFIG)
        app.include_router(screening_router(dataclasses.replace(screening, screener=takes), guarded))
        behind = Behind(app)
        yield runner, takes, AttemptDoor(behind, takes, CONFIG), behind


@settings(max_examples=300, deadline=None)
@given(body=bodies)
def test_any_body_is_understood_as_the_framework_understands_it(apps, body):
    runner, takes, door, behind = apps
    takes.attempts.clear()
    asked = behind.num_asked
    direct = runner.run(ask(door, body))
    is_left = behind.num_asked > asked
    framework = runner.run(ask(behind, body))
    assert direct == framework
    assert is_left or direct[0] == 200
    if direct[0] == 200:
        first, second = takes.attempts
        assert first == second

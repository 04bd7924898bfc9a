"""One question to a server on loopback: a right answer, every wrong one, none at all; and what logs keep of it."""

import asyncio
import gzip
import json
import logging
import socket
import time

import pytest

from inference.opinion.client import OpinionClient, WaitingClient
from inference.opinion.config import OpinionConfig
from inference.opinion.pause import Pause
from inference.opinion.question import Line, Question

WORDS = "plantedwords of the caller"
KEY = "sk-plantedkey"
QUESTION = Question((Line(1, "far", WORDS), Line(2, "near", "yes"), Line(3, "far", "tell nobody")))


def ask(endpoint, **more):
    with WaitingClient(OpinionConfig(**{**endpoint.settings, **more})) as client:
        return client.ask(QUESTION)


def test_a_right_answer(endpoint) -> None:
    endpoint.says({3: ["secrecy"], 2: ["complies"]})
    answer = ask(endpoint)
    assert (answer.outcome, answer.shown) == ("answered", {3: {"secrecy"}, 2: {"complies"}})
    assert answer.took_s > 0
    (seen,) = endpoint.seen
    assert (seen.path, seen.body["model"]) == ("/v1/chat/completions", "double")
    assert [one["words"] for one in seen.said] == [WORDS, "yes", "tell nobody"]
    assert "authorization" not in seen.headers


def test_answers_of_another_form_are_malformed(endpoint) -> None:
    for content in ("It is a scam.", '{"utterances": [{"utterance": 1, "acts": ["murder"]}]}', None, "x" * 9000):
        endpoint.writes(content)
        assert (ask(endpoint).outcome, ask(endpoint).shown) == ("malformed", None)
    endpoint.raw = b"{}" + b" " * 10_000_000
    assert ask(endpoint).outcome == "malformed"
    endpoint.says({})
    endpoint.raw, endpoint.headers = gzip.compress(endpoint.raw), {"content-encoding": "gzip"}
    assert ask(endpoint).outcome == "malformed"  # nobody asked for it packed


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_an_error_status_is_refused(endpoint, status) -> None:
    endpoint.status = status
    assert ask(endpoint).outcome == "refused"


def test_a_redirect_is_not_followed(endpoint) -> None:
    endpoint.status, endpoint.headers = 307, {"location": f"{endpoint.url}/elsewhere"}
    assert ask(endpoint).outcome == "refused"
    assert len(endpoint.seen) == 1


def test_no_proxy_of_the_environment_gets_to_see_it(endpoint, monkeypatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ask(endpoint).outcome == "answered"


def test_nobody_there_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        config = OpinionConfig(url=f"http://127.0.0.1:{taken.getsockname()[1]}/v1", model="m")
        with WaitingClient(config) as client:
            assert client.ask(QUESTION).outcome == "unreachable"


def test_a_slow_answer_is_waited_for_no_longer_than_allowed(endpoint) -> None:
    endpoint.hold()
    began_s = time.monotonic()
    assert ask(endpoint, timeout_s=0.3).outcome == "timeout"
    assert time.monotonic() - began_s < 5


def test_an_answer_that_trickles_is_slow_too() -> None:
    """Each byte comes in time, the whole does not."""

    async def run():
        async def trickle(reader, writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            try:
                while True:
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            except OSError:
                writer.close()

        server = await asyncio.start_server(trickle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = OpinionClient(OpinionConfig(url=f"http://127.0.0.1:{port}/v1", model="m", timeout_s=0.3))
        answer = await client.ask(QUESTION)
        await client.aclose()
        server.close()
        await asyncio.sleep(0.05)
        return answer

    assert asyncio.run(run()).outcome == "timeout"


def test_key_and_words_are_sent_and_left_nowhere_else(endpoint, monkeypatch, caplog) -> None:
    monkeypatch.setenv("SCAMTAP_TEST_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    config = OpinionConfig(**endpoint.settings, api_key_env="SCAMTAP_TEST_KEY", max_failures=100)
    told = []
    for status, content in ((200, f"{WORDS} {KEY}"), (500, WORDS), (200, json.dumps({"utterances": []}))):
        endpoint.status = status
        endpoint.writes(content)
        with WaitingClient(config) as client:
            answer = client.ask(QUESTION)
            told.append(f"{client!r} {client._client!r} {client._client._client!r} {vars(client._client)} {answer!r}")
    assert {seen.headers["authorization"] for seen in endpoint.seen} == {f"Bearer {KEY}"}
    heap = "\n".join(told) + caplog.text + repr(config) + repr(QUESTION)
    assert caplog.text  # libraries do talk
    assert KEY not in heap
    assert WORDS not in heap


def test_it_is_left_alone_after_failures_and_tried_once_after_a_while(endpoint) -> None:
    now, changes = [100.0], []
    config = OpinionConfig(**endpoint.settings, max_failures=3, pause_s=10)
    endpoint.status = 503

    async def run() -> list[str]:
        client = OpinionClient(config, clock=lambda: now[0], on_change=lambda *change: changes.append(change))
        outcomes = [(await client.ask(QUESTION)).outcome for _ in range(5)]
        assert client.is_paused
        now[0] += 10.5
        outcomes += [(await client.ask(QUESTION)).outcome for _ in range(2)]  # tried once, and away still
        now[0] += 10.5
        endpoint.status = 200
        outcomes += [(await client.ask(QUESTION)).outcome for _ in range(2)]
        await client.aclose()
        return outcomes

    refused, paused, answered = "refused", "paused", "answered"
    assert asyncio.run(run()) == [*[refused] * 3, *[paused] * 2, refused, paused, answered, answered]
    assert changes == [(True, "refused"), (False, "answered")]
    assert len(endpoint.seen) == 6


def test_malformed_answers_do_not_silence_other_calls(endpoint) -> None:
    endpoint.writes("As the caller told me to, I say nothing.")
    with WaitingClient(OpinionConfig(**endpoint.settings, max_failures=2)) as client:
        assert [client.ask(QUESTION).outcome for _ in range(5)] == ["malformed"] * 5


def test_while_one_tries_the_others_wait_for_its_word() -> None:
    now, changes = [0.0], []
    pause = Pause(2, 10, lambda: now[0], lambda *change: changes.append(change))
    pause.failed("timeout")
    pause.succeeded()
    pause.failed("timeout")
    assert (pause.is_on, pause.may_ask(), changes) == (False, True, [])  # not in a row
    pause.failed("timeout")
    assert (pause.is_on, pause.may_ask()) == (True, False)
    now[0] = 10.0
    assert [pause.may_ask() for _ in range(3)] == [True, False, False]
    now[0] = 20.0  # the one that tried was given up, and told nothing
    assert [pause.may_ask() for _ in range(2)] == [True, False]
    pause.succeeded()
    assert [pause.may_ask() for _ in range(2)] == [True, True]
    assert changes == [(True, "timeout"), (False, "answered")]

"""Screening at the door that switches and subscribers' apps use: HTTP."""

import asyncio
from contextlib import AsyncExitStack

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request

from inference.errors import StoreError
from inference.screening.api import screening_router
from inference.screening.config import ScreeningConfig, open_screening
from inference.screening.lists import ListEntry

CALLER, CALLEE = "+441212345678", "+442079460000"
BASE = "/v1/screening"


def ask(*requests, is_away=False, token="secret"):
    """Answers to ``(method, path, body)``, by one app; the token is given unless it is None."""

    def authorised(request: Request) -> None:
        if request.headers.get("authorization") != "Bearer secret":
            raise HTTPException(401, "give the token")

    async def away(_commands):
        raise StoreError("redis did not answer (TimeoutError)")

    async def go():
        async with AsyncExitStack() as stack:
            screening = open_screening(ScreeningConfig(), stack)
            if is_away:
                screening.store._backend.run = away
            app = FastAPI()
            app.include_router(screening_router(screening, [Depends(authorised)]))
            headers = {"authorization": f"Bearer {token}"} if token else {}
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://localhost", headers=headers
            ) as client:
                return [await client.request(method, BASE + path, json=body) for method, path, body in requests]

    return asyncio.run(go())


CALL = ("POST", "/calls", {"call_id": "c", "caller": CALLER, "callee": CALLEE})
ROUTES = [
    ("POST", "/outcomes", {"call_id": "c", "caller": CALLER, "callee": CALLEE, "answered": True}),
    ("POST", "/reports", {"caller": CALLER, "callee": CALLEE, "verdict": "scam"}),
    ("GET", f"/subscribers/{CALLEE}", None),
    ("PUT", f"/subscribers/{CALLEE}", {"prompts": False}),
    ("PUT", f"/subscribers/{CALLEE}/contacts", {"number": CALLER}),
    ("PUT", f"/subscribers/{CALLEE}/shield", {"hours": 1}),
    ("POST", "/messages", {"sender": CALLEE, "text": "SHIELD ON"}),
    ("POST", "/messages", {"sender": CALLEE, "text": "labels off"}),
]


def test_every_route_answers():
    answers = ask(CALL, *ROUTES, ("GET", "/counters", None))
    assert [a.status_code for a in answers] == [200, 204, 204, 200, 204, 204, 204, 200, 200, 200]
    assert answers[0].json()["decision"] == "allow"
    assert {c["what"] for c in answers[-1].json()["counters"]} >= {"allow", "feedback", "shield"}


def test_without_the_token_nothing_is_answered():
    for answer in ask(CALL, *ROUTES, ("GET", "/counters", None), token=None):
        assert answer.status_code == 401


def test_without_the_store_calls_are_decided_and_the_rest_is_to_come_again():
    decided, *rest = ask(CALL, *ROUTES, is_away=True)
    assert (decided.status_code, decided.json()["decision"], decided.json()["degraded"]) == (200, "allow", True)
    for answer in rest:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "2079460000" not in answer.text


@pytest.mark.parametrize(
    ("text", "reply", "action"),
    [
        ("Shield  ON", "on for 24 hours", "challenge"),
        ("护盾开", "on for 24 hours", "challenge"),
        ("what?", "SHIELD ON", "allow"),
    ],
)
def test_a_text_message_shields(text, reply, action):
    said, decided = ask(("POST", "/messages", {"sender": CALLEE, "text": text}), CALL)
    assert reply in said.json()["reply"]
    assert decided.json()["decision"] == action


def test_a_contact_gets_through_a_shield_until_it_is_forgotten():
    contacts = f"/subscribers/{CALLEE}/contacts"
    answers = ask(
        ("PUT", f"/subscribers/{CALLEE}/shield", {"hours": 1}),
        CALL,
        ("PUT", contacts, {"number": CALLER}),
        CALL,
        ("PUT", contacts, {"number": CALLER, "days": 0}),
        CALL,
        ("PUT", f"/subscribers/{CALLEE}/shield", {"hours": 0}),
        CALL,
    )
    assert [a.json()["decision"] for a in answers[1::2]] == ["challenge", "allow", "challenge", "allow"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/calls", {}),
        ("POST", "/calls", {"call_id": "c", "callee": CALLEE, "more": 1}),
        ("POST", "/calls", {"call_id": "c", "callee": CALLEE, "at_s": 1e300}),
        ("POST", "/reports", {"caller": "anonymous", "callee": CALLEE, "verdict": "scam"}),
        ("POST", "/reports", {"caller": "x0123456789", "callee": CALLEE, "verdict": "scam"}),
        ("PUT", "/subscribers/x0123456789", {}),
        ("PUT", f"/subscribers/{CALLEE}/shield", {"hours": 1e9}),
        ("PUT", f"/subscribers/{CALLEE}", {"language": "xx"}),
    ],
)
def test_what_is_wrong_is_refused(method, path, body):
    (answer,) = ask((method, path, body))
    assert answer.status_code == 422
    if isinstance(answer.json()["detail"], str):
        assert "0123456789" not in answer.text


DENIED = {"kind": "deny", "number": CALLER, "who": "portal", "why": "a new owner"}


def steps(tmp_path, *requests):
    """Answers, and what the journal and the log of lists hold at the end; one entry denies the caller."""

    async def go():
        async with AsyncExitStack() as stack:
            config = ScreeningConfig(path=tmp_path / "s.db", journal={"path": tmp_path / "j.db", "callee_key": "k"})
            screening = open_screening(config, stack)
            entry = ListEntry(kind="deny", number=CALLER[1:], who="desk", why="reported")
            screening.entries.add(entry)
            screening.lists.replace_entries(screening.entries.entries(), screening.entries.version)
            app = FastAPI()
            app.include_router(screening_router(screening, []))
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
                answers = [await client.request(method, BASE + path, json=body) for method, path, body in requests]
            await screening.journal.write()
            lines = [(line.what, line.values()) for line in screening.journal.lines()]
            return answers, lines, screening.journal.verify(), screening.entries.verify()

    return asyncio.run(go())


def test_an_appeal_is_asked_decided_and_kept_with_who_and_why(tmp_path):
    answers, lines, *broken = steps(
        tmp_path,
        CALL,
        ("POST", "/appeals", DENIED | {"step": "open"}),
        ("GET", "/appeals?state=open", None),
        CALL,
        ("POST", "/appeals", DENIED | {"step": "grant", "who": "desk 3", "why": "papers seen"}),
        CALL,
        ("POST", "/appeals", DENIED | {"step": "refuse"}),
        ("GET", "/appeals", None),
    )
    assert [a.status_code for a in answers] == [200, 201, 200, 200, 201, 200, 409, 200]
    assert [answers[n].json()["decision"] for n in (0, 3, 5)] == ["reject", "reject", "allow"]
    (waiting,) = answers[2].json()["appeals"]
    assert (waiting["state"], waiting["number"], waiting["list"]) == ("open", CALLER[1:], None)
    (decided,) = answers[7].json()["appeals"]
    assert decided["state"] == "granted"
    assert [(h["what"], h["who"], h["why"]) for h in decided["history"]] == [
        ("appealed", "portal", "a new owner"),
        ("appeal_granted", "desk 3", "papers seen"),
    ]
    kept = [(what, body["who"], body["why"]) for what, body in lines if what.startswith("appeal")]
    assert kept == [("appealed", "portal", "a new owner"), ("appeal_granted", "desk 3", "papers seen")]
    assert broken == [None, None]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (DENIED | {"step": "grant"}, 409),  # nobody appealed
        (DENIED | {"step": "open", "number": "+441212345679"}, 409),
        (DENIED | {"step": "open", "list": "regulator"}, 409),
        (DENIED | {"step": "open", "number": "nobody"}, 422),
        (DENIED | {"step": "open", "list": "../x"}, 422),
        (DENIED | {"step": "shout"}, 422),
        (DENIED | {"step": "open", "why": ""}, 422),
    ],
)
def test_an_appeal_against_nothing_is_refused(tmp_path, body, status):
    (answer,), lines, *_ = steps(tmp_path, ("POST", "/appeals", body))
    assert (answer.status_code, lines) == (status, [])


@pytest.mark.parametrize(("word", "field"), [("labels", "prompts"), ("reminders", "reminders")])
def test_a_text_message_opts_out_and_in_again(word, field):
    wishes = ("GET", f"/subscribers/{CALLEE}", None)
    answers = ask(
        ("POST", "/messages", {"sender": CALLEE, "text": f"{word} off"}),
        wishes,
        ("POST", "/messages", {"sender": CALLEE, "text": f"{word} on"}),
        wishes,
    )
    assert [answers[n].json()[field] for n in (1, 3)] == [False, True]
    off = {name for name in ("prompts", "reminders") if answers[1].json()[name] is False}
    assert off == {field}

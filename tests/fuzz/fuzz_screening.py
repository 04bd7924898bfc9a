"""Coverage-guided fuzzing of what screening reads: ``python tests/fuzz/fuzz_screening.py -max_total_time=30``.

The first byte chooses the door: a number as signalled, an Identity header, a body of the hot HTTP route, a published
list, an INVITE. Whatever comes: no exception, a decision that is one of the four, no PASSporT that is valid without a
signature, and nothing left behind.
"""

import asyncio
import base64
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

import inference.service.api  # noqa: F401 -- before the instrumentation: numba cannot compile what was instrumented

with atheris.instrument_imports(include=["inference.screening", "inference.service.attempt_door"]):
    from inference.errors import ConfigError
    from inference.screening.attempt import ACTIONS
    from inference.screening.backend import MemoryBackend
    from inference.screening.bombing import BombingDetector
    from inference.screening.bulk import read_bulk
    from inference.screening.labels import Labels, LabelsConfig
    from inference.screening.lists import ListEntry, NumberLists
    from inference.screening.numbers import parse_dialled, parse_number
    from inference.screening.passport import PassportVerifier
    from inference.screening.remembered import WindowStore
    from inference.screening.rules import RulesConfig
    from inference.screening.score import LogisticRisk, load_risk
    from inference.screening.screener import Screener
    from inference.screening.sip.config import SipConfig
    from inference.screening.sip.server import RedirectServer
    from inference.service.api import ApiConfig
    from inference.service.attempt_door import PATH, AttemptDoor

import structlog
from sip_double import Clock, Wire

from inference.gateway.sip.agent import Agent
from inference.gateway.sip.message import parse_message

NOW_S = 1_800_000_000.0
CUT = b"\x00--\x00"
"""Between two messages of one input."""

REGIONS = ("GB", "CN", "US", "IT")


def made_screener() -> Screener:
    """Everything switched on, nothing kept elsewhere; a fresh one now and then, so that no input depends on all."""
    deny = ListEntry(kind="deny", number="4412", is_prefix=True, who="desk", why="fuzzed")
    return Screener(
        RulesConfig(region="GB", own_ranges=("441632",), withheld="challenge", unallocated="reject", shielded="reject"),
        NumberLists([deny]),
        WindowStore(MemoryBackend(clock=lambda: NOW_S, max_keys=10_000)),
        passports=PassportVerifier([], lambda _x5u: None, lambda: NOW_S),
        model=LogisticRisk(load_risk()),
        bursts=BombingDetector(),
        labels=Labels(LabelsConfig()),
        clock=lambda: NOW_S,
    )


def number(data: bytes) -> None:
    """As caller and as callee, in every plan."""
    text = data.decode("utf-8", "surrogateescape")
    for region in REGIONS:
        for found in (parse_number(text, region), parse_dialled(text, region)):
            key = found.key
            if key is not None and not (key.isascii() and key.isdigit() and len(key) <= 64):
                raise RuntimeError("a number with something else than digits")
            if found.kind in ("withheld", "malformed") and key is not None:
                raise RuntimeError("what is no number has a key")


def identity(data: bytes) -> None:
    """Nobody has signed it."""
    checked = SCREENERS[0]._passports.check(
        data.decode("utf-8", "surrogateescape"), "441632960001", "441632960002", "c"
    )  # type: ignore[union-attr]
    if checked.state == "valid" or checked.attestation is not None:
        raise RuntimeError("valid without a signature")


async def attempt(data: bytes) -> None:
    """The hot route: decided, or handed on with the whole body to the app behind."""
    handed: list[bytes] = []
    sent: list[Any] = []

    async def behind(_scope: Any, receive: Any, _send: Any) -> None:
        handed.append((await receive())["body"])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    scope = {"type": "http", "path": PATH, "method": "POST", "headers": headers}
    await AttemptDoor(behind, SCREENERS[0], ApiConfig())(scope, receive, send)
    if handed:
        if handed != [data] or sent:
            raise RuntimeError("handed on by half")
    elif json.loads(sent[1]["body"])["decision"] not in ACTIONS or sent[0]["status"] != 200:
        raise RuntimeError("no decision")


def published(data: bytes, folder: Path) -> None:
    """A list: what was taken is found again."""
    file = folder / "list.txt"
    file.write_bytes(data)
    try:
        made, report = read_bulk(file, "fuzzed", "deny")
    except ConfigError as error:
        if "\n" in str(error):
            raise RuntimeError("an error message of two lines") from error
        return
    lines = sum(1 for _ in io.BytesIO(data))
    if report.num_bad > lines or any(not 0 < line <= lines for line, _ in report.bad_lines):
        raise RuntimeError("bad lines that are not there")
    if any(made.find(str(value)) is None for value in made.numbers[:16]):
        raise RuntimeError("a number was lost")
    if any(made.find(prefix) is None for prefix in list(made.prefixes)[:16]):
        raise RuntimeError("a prefix was lost")


async def proxy(data: bytes) -> None:
    """The messages of an input at the redirect server; every answer is a message, and a call for help rings."""
    clock, wire = Clock(), Wire()
    config = SipConfig(trunk_header="X-Trunk", trust_psap_callback=True, redress_uri="https://o.example/r")
    server = RedirectServer(config, SCREENERS[0])
    server.agent = Agent(server, clock, server.agent_config())
    for message in data.split(CUT)[:6]:
        num_sent = len(wire.sent)
        server.agent.receive(message, wire)  # type: ignore[arg-type]
        for _ in range(4):
            await asyncio.sleep(0)
        for answer in wire.sent[num_sent:]:
            parsed = parse_message(answer)
            if message.startswith(b"INVITE sip:999@") and getattr(parsed, "status", 0) >= 600:
                raise RuntimeError("an emergency call was refused")
    if server.counts["not decided"]:
        raise RuntimeError("a call was not decided")
    clock.run_out()
    if server.agent.num_transactions or server._deciding:
        raise RuntimeError("something was left behind")


LOOP = asyncio.new_event_loop()
SCREENERS = [made_screener()]
FOLDER = tempfile.TemporaryDirectory()
COUNT = [0]


def one_input(data: bytes) -> None:
    """By the door that its first byte names."""
    COUNT[0] += 1
    if COUNT[0] % 2000 == 0:
        SCREENERS[0] = made_screener()
    door, rest = data[:1], data[1:]
    if door == b"n":
        number(rest)
    elif door == b"i":
        identity(rest)
    elif door == b"l":
        published(rest, Path(FOLDER.name))
    elif door == b"s":
        LOOP.run_until_complete(proxy(rest))
    else:
        LOOP.run_until_complete(attempt(rest))


def seeds() -> list[bytes]:
    """One and more for each door."""
    invite = (
        b"INVITE sip:%s@x SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK%d\r\nFrom: <sip:%s@x>;tag=f\r\n"
        b"To: <sip:%s@x>\r\nCall-ID: c%d\r\nCSeq: 1 INVITE\r\nX-Trunk: international\r\n"
        b"P-Asserted-Identity: <tel:+441212345678>, <sip:1@x>\r\nIdentity: a.b.c;info=<https://x/y>;ppt=shaken\r\n"
        b"Priority: psap-callback\r\nContent-Length: 0\r\n\r\n"
    )
    calls = [invite % (to, n, b"+441632960001", to, n) for n, to in enumerate((b"999", b"+442079460000", b"urn"))]
    header = {"alg": "ES256", "ppt": "shaken", "typ": "passport", "x5u": "https://x/y"}
    claims = {"attest": "A", "dest": {"tn": ["441632960002"]}, "iat": int(NOW_S), "orig": {"tn": "441632960001"}}
    token = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims, 0))
    body = {"call_id": "c", "caller": "+441212345678", "callee": "+442079460000", "at_s": NOW_S, "trunk": "own"}
    texts = (
        b"+8613800138000",
        b"tel:+44;x=y",
        b"urn:service:sos.fire",
        b"00447700900123",
        b"anonymous",
        "٠١٢".encode(),
    )
    return [
        *(b"n" + text for text in texts),
        b"i" + token + b";info=<https://x/y>;alg=ES256;ppt=shaken",
        b"a" + json.dumps(body).encode(),
        b"a" + json.dumps(body | {"identity": token.decode(), "is_callback_window": True, "caller": None}).encode(),
        b"l+8613700137000,tax\nnonsense\n86136*\n# a comment\n0123\n",
        b"s" + CUT.join(calls),
        *(b"s" + call for call in calls),
    ]


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory() as folder:
        for index, seed in enumerate(seeds()):
            (Path(folder) / f"seed{index}").write_bytes(seed)
        atheris.Setup([*sys.argv, folder, "-max_len=9000"], one_input)
        atheris.Fuzz()

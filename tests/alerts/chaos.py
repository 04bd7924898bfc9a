"""A sender that dies and a receiver that loses answers: what tests/alerts/test_chaos.py is made of.

Run as a script it is the sender: ``chaos.py OUTBOX URL FIRST LAST`` sends alerts FIRST to LAST and prints, line by
line, how far they are accepted, or ``refused``; it ends when nothing is owed any more.
"""

import asyncio
import base64
import random
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from standardwebhooks import Webhook, WebhookVerificationError

from inference.alerts.alert import Alert
from inference.alerts.dispatcher import Dispatcher
from inference.alerts.outbox import Outbox
from inference.alerts.sinks.webhook import WebhookSink
from inference.errors import AlertError

SECRET = "whsec_" + base64.b64encode(b"a secret of 32 bytes for a test!").decode()
BEGUN_AT_S = 1_700_000_000.0
RETRY_AFTER_S = (*[0.1] * 60, 86400.0)  # nothing is given up: 60 lost answers in a row do not happen
MAX_OWED = 1000  # by the test's own pacing, so that sending and delivering overlap
MAX_ACCEPTED_AT_ONCE = 32


def alert(number: int) -> Alert:
    """Two levels of each call; every thousandth call reuses its id on another day."""
    call = number // 2
    begun_at_s = BEGUN_AT_S + 86400 * (call // 1000)
    level = ("suspect", "danger")[number % 2]
    return Alert(f"call-{call % 1000}", level, 10.0, 0.9, "card_otp", "ask", (), begun_at_s, "scam_intent:test")


def told(event: Mapping[str, Any]) -> tuple[str, str, str]:
    """What a warning says."""
    return event["subject"], event["time"], event["data"]["level"]


async def send(outbox_path: Path, url: str, first: int, last: int) -> None:
    outbox = Outbox(outbox_path, retry_after_s=RETRY_AFTER_S)
    dispatcher = Dispatcher(
        outbox, [WebhookSink(url, SECRET, timeout_s=5.0)], idle_s=0.05, pauses_s=(0.05, 0.2), drain_s=60.0
    )
    dispatcher.start()
    number = first
    while number < last:
        upto = min(last, number + random.randint(1, MAX_ACCEPTED_AT_ONCE))
        try:
            dispatcher.tell(*(alert(n).notice(with_text=False, now_s=0.0) for n in range(number, upto)))
        except AlertError:
            print("refused", flush=True)  # noqa: T201
            await asyncio.sleep(0.02)
        else:
            number = upto
            print(number, flush=True)  # noqa: T201
        await asyncio.sleep(0)
        while outbox.pending() > MAX_OWED:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    while outbox.pending():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await dispatcher.aclose()


class Receiver:
    """An operator's webhook: checks signatures, acts once per id, and loses some answers after it has acted.

    Attributes:
        effects: how often each warning was acted on, by what it says (call, date, level) and not by its id.
        num_requests: requests, repeated ones too.
    """

    def __init__(self, lost: float, seed: int) -> None:
        self.effects: Counter[tuple[str, str, str]] = Counter()
        self._seen: set[str] = set()
        self.num_requests = 0
        self.num_lost = 0
        self.num_unsigned = 0
        self._lost = lost
        self._random = random.Random(seed)
        self._webhook = Webhook(SECRET)
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "Receiver":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        while self._writers:  # noqa: ASYNC110 -- so that no task is left behind
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
                body = await reader.readexactly(int(headers["content-length"]))
                if not self._take(headers, body):
                    break
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the sender was killed
        finally:
            writer.close()
            self._writers.discard(writer)

    def _take(self, headers: dict[str, str], body: bytes) -> bool:
        self.num_requests += 1
        try:
            event = self._webhook.verify(body, headers)
        except WebhookVerificationError:
            self.num_unsigned += 1
            return True
        if event["id"] not in self._seen:  # as a real consumer does
            self._seen.add(event["id"])
            self.effects[told(event)] += 1
        if self._random.random() < self._lost:
            self.num_lost += 1
            return False
        return True


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))  # standard output is for the numbers
    asyncio.run(send(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))

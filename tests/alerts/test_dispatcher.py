import asyncio
import base64
import json
import stat

import httpx
import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from inference.alerts.alert import Alert
from inference.alerts.channels import JsonLinesChannel, WebhookChannel
from inference.alerts.dispatcher import AlertsConfig, Dispatcher
from inference.alerts.outbox import Outbox
from inference.errors import ConfigError
from inference.speech.utterance import Utterance

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
SAID = "plantedwords read me the code"
ALERT = Alert(
    "call-1", "danger", 31.25, 0.971, "card_otp", "ask", (Utterance("far", 28.0, 30.5, 31.25, SAID, "en"),), id="alr_1"
)


def webhook(handler) -> WebhookChannel:
    return WebhookChannel(
        "https://ops.test/hook", SECRET, client=httpx.AsyncClient(transport=httpx.MockTransport(handler))
    )


async def deliver(channels, *, include_text=False, rounds=1):
    outcomes = []
    outbox = Outbox(None)
    dispatcher = Dispatcher(
        outbox, channels, include_text=include_text, on_outcome=lambda *outcome: outcomes.append(outcome)
    )
    dispatcher.send(ALERT)
    for _ in range(rounds):
        for channel in channels:
            await dispatcher.deliver_due(channel)
    pending = outbox.pending()
    await dispatcher.aclose()
    return outcomes, pending


def test_webhook_is_signed_so_that_the_reference_library_accepts_it():
    requests = []

    def take(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(204)

    outcomes, pending = asyncio.run(deliver([webhook(take)]))
    (request,) = requests
    body = Webhook(SECRET).verify(request.content, dict(request.headers))
    assert (body["call"], body["level"], body["at_s"], body["risk"]) == ("call-1", "danger", 31.25, 0.971)
    assert request.headers["webhook-id"] == "alr_1"
    assert (outcomes, pending) == ([("webhook", "delivered")], 0)


def test_a_tampered_body_does_not_verify():
    requests = []

    def take(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200)

    asyncio.run(deliver([webhook(take)]))
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(SECRET).verify(requests[0].content.replace(b"danger", b"none"), dict(requests[0].headers))


@pytest.mark.parametrize("status", [301, 400, 500, 503])
def test_anything_but_success_is_kept_for_later(status):
    answer = httpx.Response(status, headers={"location": "https://elsewhere.test"})
    outcomes, pending = asyncio.run(deliver([webhook(lambda _request: answer)]))
    assert outcomes[0] == ("webhook", "retry")
    assert pending == 1


def test_an_unreachable_webhook_is_kept_for_later():
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    outcomes, pending = asyncio.run(deliver([webhook(refuse)]))
    assert outcomes[0] == ("webhook", "retry")
    assert pending == 1


def test_an_answer_that_never_ends_is_given_up():
    async def drip(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    client = httpx.AsyncClient(transport=httpx.MockTransport(drip))
    channel = WebhookChannel("https://ops.test/hook", SECRET, timeout_s=0.01, client=client)
    outcomes, pending = asyncio.run(deliver([channel]))
    assert outcomes[0] == ("webhook", "retry")
    assert pending == 1


def test_what_was_said_reaches_the_file_only_where_configured(tmp_path):
    quiet, loud = tmp_path / "quiet.jsonl", tmp_path / "loud.jsonl"
    asyncio.run(deliver([JsonLinesChannel(quiet)]))
    asyncio.run(deliver([JsonLinesChannel(loud)], include_text=True))
    assert "plantedwords" not in quiet.read_text()
    assert json.loads(quiet.read_text())["evidence"] == [{"leg": "far", "start_s": 28.0, "end_s": 30.5}]
    assert json.loads(loud.read_text())["evidence"][0]["text"] == SAID


def test_a_line_that_does_not_fit_on_the_disk_leaves_no_half(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "alerts.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    asyncio.run(deliver([JsonLinesChannel(path)]))
    whole = path.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, before[1]))
    try:
        with capture_logs():  # the log itself may be a file
            outcomes, pending = asyncio.run(deliver([JsonLinesChannel(path)]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (outcomes[0], pending) == (("jsonl", "retry"), 1)
    assert path.read_bytes() == whole


def test_pumps_deliver_without_being_asked(tmp_path):
    path = tmp_path / "alerts.jsonl"

    async def run() -> None:
        dispatcher = Dispatcher(Outbox(None), [JsonLinesChannel(path)])
        dispatcher.start()
        dispatcher.send(ALERT)
        async with asyncio.timeout(5):
            while not path.read_text():  # noqa: ASYNC110 -- there is no event for a file
                await asyncio.sleep(0)
        await dispatcher.aclose()

    asyncio.run(run())
    assert json.loads(path.read_text())["id"] == "alr_1"


def test_alerts_left_by_a_former_process_are_delivered_first(tmp_path):
    path, lines = tmp_path / "outbox.db", tmp_path / "alerts.jsonl"
    before = Outbox(path)
    before.put("alr_0", {"id": "alr_0"}, ["jsonl"])
    before.close()

    async def run() -> None:
        dispatcher = Dispatcher(Outbox(path), [JsonLinesChannel(lines)])
        dispatcher.send(ALERT)
        await dispatcher.aclose()

    asyncio.run(run())
    assert [json.loads(line)["id"] for line in lines.read_text().splitlines()] == ["alr_0", "alr_1"]


def test_a_directory_as_file_is_one_line(tmp_path):
    tmp_path.chmod(stat.S_IRWXU)
    with pytest.raises(ConfigError, match=r"alerts.jsonl_path"):
        JsonLinesChannel(tmp_path)


def test_a_bad_secret_is_one_line():
    with pytest.raises(ConfigError, match="webhook_secret"):
        WebhookChannel("https://ops.test", "whsec_")


@pytest.mark.parametrize(
    "values", [{"webhook_url": "https://x.test"}, {"webhook_url": "ftp://x", "webhook_secret": SECRET}, {"webhok": 1}]
)
def test_config_refuses_unsigned_unknown_and_odd(values):
    with pytest.raises(ValidationError):
        AlertsConfig(**values)

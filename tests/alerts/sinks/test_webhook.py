import asyncio
import base64

import httpx
import pytest
from standardwebhooks import Webhook

from inference.alerts.sinks.base import TlsConfig
from inference.alerts.sinks.webhook import WebhookSink
from inference.errors import AlertError, ConfigError, SinkDownError

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
URL = "https://ops.test/hook/path-that-is-a-secret"


def deliver(handler, envelope, **more) -> None:
    async def run() -> None:
        client = httpx.AsyncClient(transport=httpx.MockTransport(handler))
        sink = WebhookSink(URL, SECRET, client=client, **more)
        try:
            await sink.deliver(envelope)
        finally:
            await sink.aclose()

    asyncio.run(run())


def taken(envelope) -> httpx.Request:
    requests = []

    def take(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(204)

    deliver(take, envelope)
    (request,) = requests
    return request


def test_the_reference_library_accepts_the_signature_and_finds_the_event(letters):
    (envelope,) = letters(1)
    request = taken(envelope)
    event = Webhook(SECRET).verify(request.content, dict(request.headers))
    assert (event["id"], event["type"]) == (envelope.id, "org.scamtap.alert.v1")
    assert request.headers["webhook-id"] == envelope.id
    assert request.headers["content-type"] == "application/cloudevents+json; charset=utf-8"


def test_a_tampered_body_does_not_verify(letters):
    request = taken(letters(1)[0])
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(SECRET).verify(request.content.replace(b"danger", b"none"), dict(request.headers))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(301, AlertError), (400, AlertError), (410, AlertError), (500, AlertError),
     (429, SinkDownError), (502, SinkDownError), (503, SinkDownError)],
)  # fmt: skip
def test_anything_but_success_is_refused_and_redirects_are_not_followed(letters, status, kind):
    requests = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(status, headers={"location": "https://elsewhere.test"})

    with pytest.raises(AlertError, match=f"^webhook answered {status}$") as refused:
        deliver(answer, letters(1)[0])
    assert refused.type is kind
    assert len(requests) == 1


def test_an_endpoint_that_is_not_there_is_said_without_its_address(letters):
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"refused {request.url}", request=request)

    with pytest.raises(SinkDownError, match=r"^webhook not reached \(ConnectError\)$"):
        deliver(refuse, letters(1)[0])


def test_an_answer_that_never_ends_is_given_up(letters):
    async def drip(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(SinkDownError, match="TimeoutError"):
        deliver(drip, letters(1)[0], timeout_s=0.01)


def test_a_bad_secret_and_a_bad_certificate_are_one_line(tmp_path):
    with pytest.raises(ConfigError, match="webhook_secret"):
        WebhookSink(URL, "whsec_")
    (tmp_path / "ca.pem").write_text("no certificate")
    for path in (tmp_path / "ca.pem", tmp_path / "none.pem"):
        with pytest.raises(ConfigError, match=r"^alerts.webhook_tls: .* PEM files$"):
            WebhookSink(URL, SECRET, tls=TlsConfig(ca_path=path))

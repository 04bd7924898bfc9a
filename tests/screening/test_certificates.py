import asyncio

import httpx
import pytest

from inference.errors import ConfigError
from inference.screening.certificates import RETRY_AFTER_S, CertificateCache, load_roots

X5U = "https://certificates.example/shaken.pem"


class Repository:
    """A double of a certificate repository (RFC 8226's ``x5u``)."""

    def __init__(self, body=b"", status=200) -> None:
        self.body, self.status, self.asked = body, status, []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        if self.status == 0:
            raise httpx.ConnectError("away")
        headers = {"location": "https://certificates.example/x"} if self.status == 302 else {}
        return httpx.Response(self.status, content=self.body, headers=headers)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def run(repository, *asked, hosts=("certificates.example",), clock=None):
    """What the cache answers before and after fetching, for each of ``asked``."""

    async def go():
        client = httpx.AsyncClient(transport=httpx.MockTransport(repository), follow_redirects=False)
        cache = CertificateCache(hosts, client=client, clock=clock or Clock())
        answers = []
        for x5u in asked:
            before = cache(x5u)
            await cache.fetch_wanted()
            answers.append((before, cache(x5u)))
        await cache.aclose()
        return answers

    return asyncio.run(go())


def test_a_certificate_is_there_from_the_second_call_on(authority):
    repository = Repository(authority.pem())
    ((before, after),) = run(repository, X5U)
    assert before is None
    assert [c.subject for c in after] == [authority.leaf.subject, authority.middle.subject]


@pytest.mark.parametrize(
    "x5u",
    [
        "https://elsewhere.example/c.pem",
        "https://certificates.example@elsewhere.example/c.pem",
        "https://certificates.example:22/c.pem",
        "https://[::1]/c.pem",
        "http://certificates.example/c.pem",
        "https://user@certificates.example/c.pem",
        "https://certificates.example/c.pem#1",
        "https://certificates.example/" + "x" * 600,
        "https://" + "x" * 300,
        "nonsense",
    ],
)
def test_only_allowed_hosts_are_asked(authority, x5u):
    repository = Repository(authority.pem())
    assert run(repository, x5u) == [(None, None)]
    assert repository.asked == []


@pytest.mark.parametrize(
    "repository",
    [
        Repository(status=404),
        Repository(status=302),
        Repository(status=0),
        Repository(b"nonsense"),
        Repository(b"x" * 70_000),
    ],
    ids=["404", "redirect", "away", "nonsense", "too large"],
)
def test_a_failure_is_asked_again_only_after_a_while(repository):
    clock = Clock()

    async def go():
        client = httpx.AsyncClient(transport=httpx.MockTransport(repository), follow_redirects=False)
        cache = CertificateCache(["certificates.example"], client=client, clock=clock)
        for step_s in (0, 1, 1, RETRY_AFTER_S):
            clock.now_s += step_s
            assert cache(X5U) is None
            await cache.fetch_wanted()
        await cache.aclose()
        return cache.num_failed

    assert asyncio.run(go()) == 2
    assert len(repository.asked) == 2


def test_a_repository_that_goes_away_costs_nothing_held(authority):
    repository, clock = Repository(authority.pem()), Clock()

    async def go():
        client = httpx.AsyncClient(transport=httpx.MockTransport(repository))
        cache = CertificateCache(["certificates.example"], client=client, clock=clock)
        cache(X5U)
        await cache.fetch_wanted()
        clock.now_s += 2 * 86400
        repository.status = 0
        assert cache(X5U) is not None  # old, and asked for anew
        await cache.fetch_wanted()
        return cache(X5U)

    assert asyncio.run(go()) is not None


def test_roots_are_read(authority, tmp_path):
    from cryptography.hazmat.primitives.serialization import Encoding

    path = tmp_path / "roots.pem"
    path.write_bytes(authority.root.public_bytes(Encoding.PEM))
    assert load_roots(path) == [authority.root]
    path.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"roots\.pem"):
        load_roots(path)


def test_names_of_nothing_do_not_drive_out_certificates(authority, monkeypatch):
    monkeypatch.setattr("inference.screening.certificates.MAX_CACHED", 2)
    monkeypatch.setattr("inference.screening.certificates.MAX_FAILED", 3)

    class Some(Repository):
        def __call__(self, request):
            self.status = 200 if str(request.url) == X5U else 404
            return super().__call__(request)

    async def go():
        client = httpx.AsyncClient(transport=httpx.MockTransport(Some(authority.pem())))
        cache = CertificateCache(["certificates.example"], client=client, clock=Clock())
        cache(X5U)
        await cache.fetch_wanted()
        for number in range(1000):
            cache(f"https://certificates.example/{number}")
            if number % 100 == 0:
                await cache.fetch_wanted()
        held = cache(X5U)
        sizes = len(cache._failed_until_s), len(cache._wanted)
        await cache.aclose()
        return held, sizes

    held, (failed, wanted) = asyncio.run(go())
    assert held is not None
    assert failed <= 3
    assert wanted <= 256


def test_what_is_being_fetched_is_not_asked_for_again(authority):
    repository = Repository(authority.pem())

    async def go():
        async def slowly(request):
            await asyncio.sleep(0)
            cache(X5U)
            return repository(request)

        client = httpx.AsyncClient(transport=httpx.MockTransport(slowly))
        cache = CertificateCache(["certificates.example"], client=client, clock=Clock())
        cache(X5U)
        await cache.fetch_wanted()
        await cache.aclose()

    asyncio.run(go())
    assert repository.asked == [X5U]

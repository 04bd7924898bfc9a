"""Certificates of those who sign PASSporTs: fetched beside the call path, from allowed hosts only, and cached."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import structlog
from cryptography import x509

from inference.errors import ConfigError

log = structlog.get_logger(__name__)

MAX_CHAIN_BYTES = 65_536
MAX_CACHED = 4096
MAX_FAILED = 4096
MAX_WAITING = 256
MAX_URL_CHARACTERS = 512
FETCHED_AT_ONCE = 4
GOOD_FOR_S = 24 * 3600.0
RETRY_AFTER_S = 300.0
FETCH_TIMEOUT_S = 5.0


def load_roots(path: Path) -> list[x509.Certificate]:
    """Trust anchors from a PEM file.

    Raises:
        ConfigError: it cannot be read, or holds no certificate.
    """
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: holds no PEM certificates; give the trust anchors of your country") from error


class CertificateCache:
    """Answers at once with what it has; what it lacks is fetched by :meth:`run`.

    Fetching what a caller's header names is a request that the caller chooses: only ``https`` hosts that the operator
    allows are asked, answers are bounded, redirects are not followed, and names of nothing do not drive out those
    of certificates.

    Args:
        allowed_hosts: of certificate repositories.
        client: for tests.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        allowed_hosts: Sequence[str],
        *,
        client: httpx.AsyncClient | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed = frozenset(host.lower() for host in allowed_hosts)
        self._client = client or httpx.AsyncClient(timeout=FETCH_TIMEOUT_S, follow_redirects=False)
        self._clock = clock
        self._held: OrderedDict[str, tuple[tuple[x509.Certificate, ...], float]] = OrderedDict()
        self._failed_until_s: OrderedDict[str, float] = OrderedDict()
        self._wanted: OrderedDict[str, None] = OrderedDict()
        self._fetching: set[str] = set()
        self._wake = asyncio.Event()
        self.num_failed = 0

    def __call__(self, x5u: str) -> Sequence[x509.Certificate] | None:
        """The chain of ``x5u``, or None; then it is asked for."""
        held, now_s = self._held.get(x5u), self._clock()
        if held is not None:
            self._held.move_to_end(x5u)  # the least asked for goes first
            if now_s < held[1]:
                return held[0]
        if now_s >= self._failed_until_s.get(x5u, now_s) and self._is_allowed(x5u) and x5u not in self._fetching:
            if held is not None or len(self._wanted) < MAX_WAITING:
                self._wanted[x5u] = None
                self._wake.set()
            if held is not None:
                self._wanted.move_to_end(x5u, last=False)  # known to be one, so before those that may be none
        return held[0] if held is not None else None

    def _is_allowed(self, x5u: str) -> bool:
        if len(x5u) > MAX_URL_CHARACTERS:
            return False
        try:
            url = httpx.URL(x5u)
        except (httpx.InvalidURL, UnicodeError):
            return False
        # User names and fragments would be other names of the same certificate.
        is_plain = url.scheme == "https" and url.port in (None, 443, 8443) and not url.userinfo and not url.fragment
        return is_plain and url.host.lower() in self._allowed

    async def run(self) -> None:
        """Fetch what is wanted, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.fetch_wanted()

    async def fetch_wanted(self) -> None:
        """Fetch everything that is wanted now."""
        await asyncio.gather(*(self._fetch_in_turn() for _ in range(FETCHED_AT_ONCE)))

    async def _fetch_in_turn(self) -> None:
        while self._wanted:
            x5u, _ = self._wanted.popitem(last=False)
            self._fetching.add(x5u)
            try:
                chain = await self._fetch(x5u)
            finally:
                self._fetching.discard(x5u)
            if chain:
                self._held[x5u] = (chain, self._clock() + GOOD_FOR_S)
                self._held.move_to_end(x5u)
                self._failed_until_s.pop(x5u, None)
            else:  # a repository that is away does not cost us what it gave before
                self._failed_until_s[x5u] = self._clock() + RETRY_AFTER_S
                self._failed_until_s.move_to_end(x5u)
            while len(self._held) > MAX_CACHED:
                self._held.popitem(last=False)
            while len(self._failed_until_s) > MAX_FAILED:
                self._failed_until_s.popitem(last=False)

    async def _fetch(self, x5u: str) -> tuple[x509.Certificate, ...]:
        body = bytearray()
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S), self._client.stream("GET", x5u) as response:
                if response.status_code == httpx.codes.OK:
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > MAX_CHAIN_BYTES:
                            body.clear()
                            break
            return tuple(x509.load_pem_x509_certificates(bytes(body))) if body else self._failed()
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, TimeoutError, ValueError):
            return self._failed()

    def _failed(self) -> tuple[x509.Certificate, ...]:
        self.num_failed += 1
        log.warning("certificate not fetched", failures=self.num_failed)
        return ()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

"""What REST clients of gateways share: checked URLs, bounded answers, errors that name neither call nor number."""

from collections.abc import Mapping
from typing import Annotated, Any

import httpx
from pydantic import AfterValidator, SecretStr

from inference.alerts.ear import Announcement
from inference.errors import AlertError

MAX_ANSWER_BYTES = 65_536
"""More than any of these interfaces answers; beyond it the peer is not what it should be."""

MAX_CONNECTIONS = 32


def _check_url(value: str) -> str:
    try:
        url = httpx.URL(value)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ValueError("not a URL") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("must begin with http:// or https:// and name a host")
    if url.userinfo or url.fragment or url.query:
        raise ValueError("must hold no user, password, query or fragment: secrets have settings of their own")
    return value.rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_check_url)]
"""An address without credentials, without the last slash."""


class Sounds:
    """Where gateways that fetch sounds themselves find them.

    Args:
        url: address under which ``<name>.wav`` lies; None where it was not configured.
    """

    def __init__(self, url: str | None) -> None:
        self.url = url

    def media(self, template: str, announcement: Announcement) -> str:
        """``template`` with ``{name}`` and ``{url}`` filled in; names hold letters, digits, ``-`` and ``_`` alone."""
        url = f"{self.url}/{announcement.name}.wav" if self.url is not None else ""
        return template.replace("{url}", url).replace("{name}", announcement.name)


class HttpClient:
    """One gateway's REST interface.

    Args:
        gateway: its name in errors.
        base_url: what paths are appended to.
        auth: user and password for basic authentication, or None.
        headers: sent with every request.
        timeout_s: bound on one request, all of it.
        transport: for tests.
    """

    def __init__(
        self,
        gateway: str,
        base_url: str,
        *,
        auth: tuple[str, SecretStr] | None = None,
        headers: Mapping[str, SecretStr] | None = None,
        timeout_s: float = 2.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._gateway = gateway
        self._base_url = base_url
        self._client = httpx.AsyncClient(
            auth=httpx.BasicAuth(auth[0], auth[1].get_secret_value()) if auth is not None else None,
            headers={name: value.get_secret_value() for name, value in (headers or {}).items()},
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
            follow_redirects=False,  # a redirect would carry the credentials elsewhere
            trust_env=False,
            transport=transport,
        )

    async def request(self, method: str, path: str, *, allowed: tuple[int, ...] = (), **content: Any) -> int:
        """Send one request; returns the status of its answer, whose body is read and dropped.

        Raises:
            AlertError: not reached, too slow, too long an answer, or neither success nor one of ``allowed``.
        """
        try:
            async with self._client.stream(method, self._base_url + path, **content) as response:
                num_bytes = 0
                async for chunk in response.aiter_raw():
                    num_bytes += len(chunk)
                    if num_bytes > MAX_ANSWER_BYTES:
                        raise AlertError(f"{self._gateway} answers with more than {MAX_ANSWER_BYTES} bytes")
        except httpx.HTTPError as error:
            raise AlertError(f"{self._gateway} not reached ({type(error).__name__})") from error
        if not response.is_success and response.status_code not in allowed:
            raise AlertError(f"{self._gateway} answered {response.status_code}")
        return response.status_code

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

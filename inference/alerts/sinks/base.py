"""What every sink is, and what their settings have in common.

The brokers are spoken to by their plain clients, not through FastStream or another framework: a sink is one publish
that waits for the broker's word. A framework would add its own life cycle, consumers and retries around the same three
clients, beside the outbox that already owns retries, and hide the acknowledgement that the outbox waits for.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from inference.alerts.notice import Envelope
from inference.errors import ConfigError


class Sink(Protocol):
    """A system that notices are delivered to. It connects when it is first used: one that is away stops no worker."""

    name: str

    async def deliver(self, envelope: Envelope) -> None:
        """Hand it over once, and wait until the system has it.

        Raises:
            SinkDownError: the system is not there, or takes nothing at all.
            AlertError: it did not take this one.
        """
        ...

    async def aclose(self) -> None:
        """Release what the sink holds."""
        ...


class TlsConfig(BaseModel):
    """Transport security towards one system. The server's certificate and name are always checked.

    Attributes:
        ca_path: PEM file of the authorities to trust; None: the system's.
        cert_path, key_path: PEM files of our own certificate, for mutual TLS.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca_path: Path | None = None
    cert_path: Path | None = None
    key_path: Path | None = None

    @model_validator(mode="after")
    def _key_goes_with_certificate(self) -> "TlsConfig":
        if (self.cert_path is None) != (self.key_path is None):
            raise ValueError("cert_path and key_path go together")
        return self

    def context(self, setting: str) -> ssl.SSLContext:
        """For a client; ``setting`` is where this is configured.

        Raises:
            ConfigError: a file cannot be read or is not PEM.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_path)
            if self.cert_path is not None:
                context.load_cert_chain(self.cert_path, self.key_path)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(f"{setting}: a certificate cannot be read ({error.strerror}); want PEM files") from error
        return context


def check_url(url: str, schemes: Collection[str]) -> str:
    """``url``, if it is one of ``schemes``, names a host, and holds no credentials.

    Raises:
        ValueError: it does not; the message does not repeat it.
    """
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in schemes and bool(parts.hostname) and url.isascii() and url.isprintable()
        is_url = is_url and " " not in url and parts.port != 0  # reading a bad port raises
    except ValueError:
        is_url = False
    if not is_url:
        raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)} and name a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no user or password: they have settings of their own")
    return url


Server = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):[1-9][0-9]{0,4}$")]
"""``host:port``."""


def url_of(*schemes: str) -> Callable[[str], str]:
    """A validator of URLs; see :func:`check_url`."""
    return lambda url: check_url(url, schemes)


@contextmanager
def installed(setting: str) -> Iterator[None]:
    """Import inside of it what is installed only where it is used.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"{setting}: {error.name} is not installed; run: pip install 'scamtap[sinks]'") from error


T = TypeVar("T")


class Connection(Generic[T]):
    """A client that is opened when it is first asked for, once for all who ask, and again after it was dropped.

    Clients are told not to reconnect by themselves: the dispatcher tries again, and it alone knows how often.
    """

    def __init__(
        self, open_client: Callable[[], Coroutine[Any, Any, T]], close_client: Callable[[T], Awaitable[None]]
    ) -> None:
        self._open_client = open_client
        self._close_client = close_client
        self._opening: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The client. Where opening it fails, all who wait for it get that error, and none begins again by itself."""
        if self._opening is None or has_failed(self._opening):
            self._opening = asyncio.create_task(self._open_client())
        opening = self._opening
        return await asyncio.shield(opening)  # one who gives up does not take it from the others

    async def drop(self, client: T | None) -> None:
        """Close ``client``, unless another is in use by now."""
        opening = self._opening
        if client is None or opening is None or not opening.done() or has_failed(opening):
            return
        if opening.result() is client:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the client there is; the next :meth:`get` opens another."""
        opening, self._opening = self._opening, None
        if opening is None:
            return
        opening.cancel()
        await asyncio.wait([opening])
        if not has_failed(opening):
            await self._close_client(opening.result())


def has_failed(task: "asyncio.Task[T]") -> bool:
    """Whether ``task`` ended without a result."""
    return task.done() and (task.cancelled() or task.exception() is not None)

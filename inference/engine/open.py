"""Where the models run, as configured: in this process, or on Triton servers."""

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from inference.engine.base import Engine
from inference.engine.graph import Precision
from inference.engine.onnx import OnnxEngine
from inference.engine.routed import RoutedEngine
from inference.errors import EngineError

SCHEME = "triton://"
DEFAULT_PORT = 8001


class TlsConfig(BaseModel):
    """Whom to trust and who we are; PEM files.

    Attributes:
        ca_path: authorities of the servers; null takes the system's.
        cert_path, key_path: of this client, where the servers ask for one (mTLS).
        server_name: the name in the servers' certificate where it is not that of the URL.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca_path: Path | None = None
    cert_path: Path | None = None
    key_path: Path | None = None
    server_name: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.cert_path is None) != (self.key_path is None):
            raise ValueError("cert_path and key_path go together")
        return self


class EngineConfig(BaseModel):
    """What runs the models.

    Attributes:
        url: ``triton://HOST[:PORT]``; all addresses of the name are used in turn, or give several, with commas. Null:
            the models run in this process, on the CPU. Voice activity is always detected in this process.
        precision: of the speech models, ``int8`` for CPU or ``fp16`` for GPU; others are refused. The classifier's is
            a matter of its calibration.
        timeout_s: how long a batch may take, every attempt included; a warning after that comes too late.
        attempt_timeout_s: how long one attempt may take before another server is asked, or the same again.
        canary_timeout_s: how soon a server that seems away must answer a small request to be trusted again.
        tls: encrypts; beyond loopback this, or ``plaintext``, is required: callers' voices cross the network.
        plaintext: the network between us and the servers is private; say so by setting it.
        headers: sent along; with Triton's restricted protocols ``triton-grpc-protocol-NAME: key``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    precision: Precision = "int8"
    timeout_s: float = Field(default=15.0, gt=0, le=60)
    attempt_timeout_s: float = Field(default=5.0, gt=0, le=60)
    canary_timeout_s: float = Field(default=1.0, gt=0, le=10)
    tls: TlsConfig | None = None
    plaintext: bool = False
    headers: dict[str, SecretStr] = {}

    @field_validator("url")
    @classmethod
    def _is_triton(cls, url: str | None) -> str | None:
        if url is not None:
            addresses(url)
        return url

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.attempt_timeout_s > self.timeout_s:
            raise ValueError("attempt_timeout_s must not exceed timeout_s")
        hosts = [host for host, _ in addresses(self.url)] if self.url is not None else []
        if not (self.tls or self.plaintext or all(map(_is_loopback, hosts))):
            raise ValueError("url is beyond this machine: callers' voices need tls, or plaintext: true")
        return self

    def target(self) -> str:
        """The servers as gRPC names them; it asks them in turn.

        Raises:
            ValueError: there is no URL.
        """
        hosts = addresses(self.url or "")
        if len(hosts) == 1:
            host, port = hosts[0]
            return f"dns:///{_bracketed(host)}:{port}"
        version = "ipv6" if ":" in hosts[0][0] else "ipv4"
        return f"{version}:" + ",".join(f"{_bracketed(host)}:{port}" for host, port in hosts)


def addresses(url: str) -> list[tuple[str, int]]:
    """Hosts and ports of ``triton://HOST[:PORT][,HOST[:PORT]...]``.

    Raises:
        ValueError: it is not of this form, or several are given and not all are addresses of one kind.
    """
    if not url.startswith(SCHEME):
        raise ValueError(f"want {SCHEME}HOST:PORT")
    found = []
    for place in url.removeprefix(SCHEME).rstrip("/").split(","):
        host, bracket, rest = place.rpartition("]") if place.startswith("[") else place.partition(":")
        host, port = (host[1:], rest.removeprefix(":")) if bracket == "]" else (host, rest)
        if not host or any(c in host for c in "/@ []") or not (port or str(DEFAULT_PORT)).isdecimal():
            raise ValueError(f"want {SCHEME}HOST:PORT, several with commas")
        found.append((host, int(port or DEFAULT_PORT)))
    if len(found) > 1 and len({_ip_version(host) for host, _ in found}) != 1:
        raise ValueError(
            "several servers are given by their addresses, all IPv4 or all IPv6; or one name that has them all"
        )
    return found


def _ip_version(host: str) -> int:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        raise ValueError("several servers are given by their addresses; or one name that has them all") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def open_engine(
    config: EngineConfig,
    models_dir: Path,
    *,
    in_process: tuple[str, ...] = (),
    on_change: Callable[[bool, str], Any] = lambda _is_away, _why: None,
) -> Engine:
    """Make the engine that ``config`` asks for; models are loaded, or asked of the servers, on first use.

    Args:
        config: where.
        models_dir: the model repository.
        in_process: models that run here whatever the rest does.
        on_change: told when the servers are found away, and when they are back; in a thread of the engine's.

    Raises:
        EngineError: the Triton client is not installed, or a TLS file cannot be read.
    """
    local = OnnxEngine(models_dir)
    if config.url is None:
        return local
    try:
        from inference.engine.triton import TritonEngine  # an optional extra
    except ImportError as error:
        raise EngineError("engine.url needs the Triton client; run: pip install 'scamtap[triton]'") from error
    return RoutedEngine(TritonEngine(config, on_change=on_change), local, in_process)


def require_precision(engine: Engine, model: str, precision: Precision) -> None:
    """Refuse a model of another precision than was asked for, or calibrated.

    Raises:
        EngineError: ``model`` is of another, or cannot be asked.
    """
    found = engine.spec(model).metadata.get("precision", "unknown")
    if found != precision:
        raise EngineError(
            f"model {model} is {found}, and {precision} was expected: set engine.precision to what is served, or build "
            "the other (scamtap models pull --precision)"
        )

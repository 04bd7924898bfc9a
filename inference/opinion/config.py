"""Whom to ask for an opinion, how often, and how much it may weigh: the ``opinion:`` part of the configuration."""

import ipaddress
import os
import ssl
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from inference.errors import ConfigError

MAX_UTTERANCES = 32
MAX_KEY_CHARS = 4096


def _split(url: str) -> tuple[str, str]:
    """Scheme and host of an address without credentials; raises ValueError, which does not repeat it."""
    import httpx  # its URL is the client's own, so nothing is read in two ways; takes a while to import

    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ValueError("not a URL") from error
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ValueError("must begin with http:// or https:// and name a host")
    if parts.userinfo or parts.fragment or parts.query:
        raise ValueError("must hold no user, password, query or fragment: api_key_env names where the key is")
    return parts.scheme, parts.host


def _check_url(url: str) -> str:
    _split(url)
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class OpinionConfig(BaseModel):
    """The third stage: a language model behind an OpenAI-compatible interface (vLLM, llama.cpp, a cloud's).

    What it is sent are the last utterances of a call at ``suspect``: personal data, though without numbers of two
    digits or more, call ids and telephone numbers. So it is off by default, and beyond this machine two things must be
    said outright.

    Attributes:
        url: up to and with ``/v1``; None: nobody is asked, no connection is made.
        model: its name there.
        api_key_env: environment variable that holds the key; the key itself is never in the configuration.
        allow_transcripts_to_leave: what callers say may go to another machine. Whoever sets it has a legal basis for
            that, and an agreement with who runs the machine.
        plaintext: the network up to there is private, so ``http`` will do; say so by setting it.
        ca_path: PEM file of the authorities to trust for https; None: the system's.
        timeout_s: of a question, from its connection to the last byte of its answer.
        max_concurrent: questions under way at once, of one worker.
        max_waiting: calls that wait for one of those; beyond it the one that has waited longest is dropped.
        max_per_call: questions about one call.
        min_gap_s: between two questions about one call, of call time.
        max_utterances: the latest of the call that are sent, and can be weighed again.
        max_added_nats: what all opinions of a call together may add to its evidence.
        max_taken_nats: what they may take from it. Less by default: whoever talks the model round wants just that, and
            an alarm that a good opinion would take back is worth less than one that a bad one would.
        max_failures: of this many in a row, nobody is asked for ``pause_s``; then one question tries.
        pause_s: see there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, AfterValidator(_check_url)] | None = None
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    api_key_env: Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]{0,99}$")] | None = None
    allow_transcripts_to_leave: bool = False
    plaintext: bool = False
    ca_path: Path | None = None
    timeout_s: float = Field(default=4.0, gt=0, le=30)
    max_concurrent: int = Field(default=4, ge=1, le=64)
    max_waiting: int = Field(default=64, ge=1, le=10_000)
    max_per_call: int = Field(default=4, ge=1, le=100)
    min_gap_s: float = Field(default=10.0, ge=0, le=600)
    max_utterances: int = Field(default=12, ge=2, le=MAX_UTTERANCES)
    max_added_nats: float = Field(default=1.5, ge=0, le=6)
    max_taken_nats: float = Field(default=0.5, ge=0, le=6)
    max_failures: int = Field(default=5, ge=1, le=100)
    pause_s: float = Field(default=30.0, ge=1, le=3600)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.url is None) != (self.model is None):
            raise ValueError("url and model go together: whom to ask, and which of its models")
        if self.url is None:
            return self
        scheme, host = _split(self.url)
        if not _is_loopback(host):
            if not self.allow_transcripts_to_leave:
                raise ValueError(
                    "url is beyond this machine, and what callers say is personal data: run the model on loopback, or "
                    "set allow_transcripts_to_leave: true if you may send it there"
                )
            if scheme == "http" and not self.plaintext:
                raise ValueError("url is beyond this machine: want https://, or plaintext: true on a private network")
        return self

    @property
    def is_on(self) -> bool:
        """Whether anybody is asked."""
        return self.url is not None

    def headers(self) -> dict[str, str]:
        """What proves who we are; the key is read here and kept nowhere else.

        Raises:
            ConfigError: the variable is not set, or holds what cannot be a key. Its value is not repeated.
        """
        if self.api_key_env is None:
            return {}
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise ConfigError(f"opinion.api_key_env: {self.api_key_env} is not set; put the key there, or leave it out")
        if len(key) > MAX_KEY_CHARS or not key.isascii() or not key.isprintable():
            raise ConfigError(
                f"opinion.api_key_env: what {self.api_key_env} holds cannot be a key: want one line of ASCII"
            )
        return {"authorization": f"Bearer {key}"}

    def tls(self) -> ssl.SSLContext | bool:
        """How certificates are checked; they always are.

        Raises:
            ConfigError: ``ca_path`` cannot be read or is not PEM.
        """
        if self.ca_path is None:
            return True
        try:
            return ssl.create_default_context(cafile=self.ca_path)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(f"opinion.ca_path: cannot be read ({error.strerror}); want a PEM file") from error

"""Where alerts go: the ``alerts:`` part of the configuration, and the dispatcher made of it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from inference.alerts.deadletters import DeadLetters
from inference.alerts.dispatcher import Dispatcher
from inference.alerts.outbox import Outbox
from inference.alerts.sinks.base import Server, Sink, TlsConfig, installed, url_of
from inference.alerts.sinks.jsonl import JsonLinesSink
from inference.alerts.sinks.webhook import WebhookSink

DEAD_LETTER_SUFFIX = ".dead.jsonl"

HttpUrl = Annotated[str, AfterValidator(url_of("http", "https"))]
NatsUrl = Annotated[str, AfterValidator(url_of("nats", "tls"))]
RedisUrl = Annotated[str, AfterValidator(url_of("redis", "rediss"))]
TimeoutS = Annotated[float, Field(gt=0, le=60)]


class NatsConfig(BaseModel):
    """A NATS JetStream stream. The stream is the operator's; ScamTap publishes and waits for its acknowledgement.

    Attributes:
        servers: ``nats://host:port``, or ``tls://host:port`` for encrypted only; any one of a cluster.
        subject: where notices are published; a stream must take it.
        user, password, token: credentials, where the server wants them.
        tls: certificates, for ``tls://``.
        timeout_s: bound on one attempt.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    servers: tuple[NatsUrl, ...] = Field(min_length=1, max_length=16)
    subject: str = Field(default="scamtap.events", pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", max_length=200)
    user: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None
    tls: TlsConfig = TlsConfig()
    timeout_s: TimeoutS = 5.0

    @model_validator(mode="after")
    def _one_kind_of_credentials(self) -> "NatsConfig":
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together: a password is best from the environment")
        if self.user is not None and self.token is not None:
            raise ValueError("want user and password, or token, not both")
        if len({server.partition(":")[0] for server in self.servers}) > 1:
            raise ValueError("servers must all be nats:// or all be tls://")
        return self


class KafkaConfig(BaseModel):
    """A Kafka topic, by an idempotent producer that waits for all in-sync replicas.

    Attributes:
        servers: ``host:port`` of brokers to begin with.
        topic: where notices go; the key is the call, so those of one call lie in one partition.
        user, password, sasl: credentials, where the brokers want them, and how they are proved.
        tls: certificates; None: not encrypted.
        timeout_s: bound on one attempt.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    servers: tuple[Server, ...] = Field(min_length=1, max_length=16)
    topic: str = Field(default="scamtap.events", pattern=r"^[A-Za-z0-9._-]{1,249}$")
    user: str | None = None
    password: SecretStr | None = None
    sasl: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    tls: TlsConfig | None = None
    timeout_s: TimeoutS = 10.0

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> "KafkaConfig":
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together: a password is best from the environment")
        if self.user is not None and self.sasl == "PLAIN" and self.tls is None:
            raise ValueError("sasl PLAIN sends the password as it is: set tls too")
        return self


class RedisConfig(BaseModel):
    """A Redis stream.

    Attributes:
        url: ``redis://host:port/db``, or ``rediss://`` for encrypted.
        stream: its key.
        max_entries: about how many entries the stream keeps (``MAXLEN ~``).
        user, password: credentials, where the server wants them; a password alone is the default user's.
        tls: certificates, for ``rediss://``.
        timeout_s: bound on one attempt.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: RedisUrl
    stream: str = Field(default="scamtap:events", min_length=1, max_length=200)
    max_entries: int = Field(default=1_000_000, ge=1)
    user: str | None = None
    password: SecretStr | None = None
    tls: TlsConfig = TlsConfig()
    timeout_s: TimeoutS = 5.0


class AlertsConfig(BaseModel):
    """Where alerts go.

    Attributes:
        jsonl_path: append alerts to this file; None for no file.
        webhook_url, webhook_secret: Standard Webhooks endpoint and its ``whsec_...`` secret.
        webhook_timeout_s: bound on one attempt.
        webhook_tls: certificates for an https endpoint.
        nats, kafka, redis: brokers; they need the extra ``sinks``.
        source: URI reference that names this installation in every CloudEvent.
        outbox_path: SQLite file that holds what is owed, one per worker; None keeps it in memory.
        dead_letter_path: JSON Lines file for what no attempt could deliver; None: beside the outbox.
        max_owed: bound on deliveries owed to one sink; beyond it the oldest become dead letters.
        include_text: put what was said into alerts. Off: evidence is legs and times only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    jsonl_path: Path | None = None
    webhook_url: Annotated[HttpUrl | None, Field(repr=False)] = None  # its path may be a secret
    webhook_secret: SecretStr | None = None
    webhook_timeout_s: TimeoutS = 5.0
    webhook_tls: TlsConfig = TlsConfig()
    nats: NatsConfig | None = None
    kafka: KafkaConfig | None = None
    redis: RedisConfig | None = None
    source: str = Field(default="/scamtap", pattern=r"^[!#-;=?-\[\]_a-z~%]+$", max_length=500)
    outbox_path: Path | None = None
    dead_letter_path: Path | None = None
    max_owed: int = Field(default=100_000, ge=1)
    include_text: bool = False

    @model_validator(mode="after")
    def _secret_goes_with_url(self) -> "AlertsConfig":
        if (self.webhook_url is None) != (self.webhook_secret is None):
            raise ValueError("webhook_url and webhook_secret go together: unsigned alerts are not sent")
        return self

    def dead_letters(self) -> DeadLetters | None:
        """Where given-up deliveries go; None where neither a file for them nor an outbox file is configured.

        Raises:
            ConfigError: it cannot be written.
        """
        path = self.dead_letter_path
        if path is None and self.outbox_path is not None:
            path = self.outbox_path.with_name(self.outbox_path.name + DEAD_LETTER_SUFFIX)
        return None if path is None else DeadLetters(path)

    def sinks(self) -> list[Sink]:
        """The configured sinks. None is connected yet.

        Raises:
            ConfigError: a file, secret or certificate is no use, or a client is not installed.
        """
        sinks: list[Sink] = []
        if self.jsonl_path is not None:
            sinks.append(JsonLinesSink(self.jsonl_path))
        if self.webhook_url is not None and self.webhook_secret is not None:
            secret = self.webhook_secret.get_secret_value()
            sinks.append(WebhookSink(self.webhook_url, secret, timeout_s=self.webhook_timeout_s, tls=self.webhook_tls))
        if self.nats is not None:
            with installed("alerts.nats"):
                from inference.alerts.sinks.nats import NatsSink
            sinks.append(NatsSink(self.nats))
        if self.kafka is not None:
            with installed("alerts.kafka"):
                from inference.alerts.sinks.kafka import KafkaSink
            sinks.append(KafkaSink(self.kafka))
        if self.redis is not None:
            with installed("alerts.redis"):
                from inference.alerts.sinks.redis import RedisSink
            sinks.append(RedisSink(self.redis))
        return sinks

    def dispatcher(self, on_outcome: Callable[[str, str], None] = lambda _sink, _outcome: None) -> Dispatcher:
        """What delivers to all of them; see :class:`~inference.alerts.dispatcher.Dispatcher`.

        Raises:
            ConfigError: as for :meth:`sinks`; or the outbox cannot be opened, or belongs to another worker.
        """
        sinks = self.sinks()
        outbox = Outbox(self.outbox_path, max_owed=self.max_owed, dead_letters=self.dead_letters(), clock=time.time)
        return Dispatcher(outbox, sinks, source=self.source, include_text=self.include_text, on_outcome=on_outcome)

"""Kafka: an idempotent producer that waits for all in-sync replicas."""

import asyncio

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError, RecordTooLargeError

from inference.alerts.config import KafkaConfig
from inference.alerts.notice import CONTENT_TYPE, Envelope
from inference.alerts.sinks.base import Connection
from inference.errors import AlertError, SinkDownError

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError, RecordTooLargeError)


class KafkaSink:
    """Sends to one topic, keyed by call.

    Idempotence holds within one producer: the broker drops what that producer repeats. What a new process or a new
    producer repeats, consumers know by the event's id.

    Raises:
        ConfigError: a certificate cannot be read.
    """

    name = "kafka"

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._tls = None if config.tls is None else config.tls.context("alerts.kafka.tls")
        self._connection = Connection(self._open, self._close)

    async def _open(self) -> AIOKafkaProducer:
        config = self._config
        protocol = ("" if config.user is None else "SASL_") + ("PLAINTEXT" if self._tls is None else "SSL")
        producer = AIOKafkaProducer(
            bootstrap_servers=list(config.servers),
            client_id="scamtap",
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=round(config.timeout_s * 1000),
            security_protocol=protocol,
            ssl_context=self._tls,
            sasl_mechanism=config.sasl,
            sasl_plain_username=config.user,
            sasl_plain_password=None if config.password is None else config.password.get_secret_value(),
        )
        try:
            async with asyncio.timeout(config.timeout_s):
                await producer.start()
        except BaseException:
            await self._close(producer)
            raise
        return producer

    async def _close(self, producer: AIOKafkaProducer) -> None:
        try:
            async with asyncio.timeout(self._config.timeout_s):  # it would wait for what it has still to send
                await producer.stop()
        except (KafkaError, TimeoutError):
            await producer.client.close()

    async def deliver(self, envelope: Envelope) -> None:
        """Send and wait until the replicas have it."""
        producer = None
        try:
            async with asyncio.timeout(2 * self._config.timeout_s):  # to connect, and to send
                producer = await self._connection.get()
                await producer.send_and_wait(
                    self._config.topic,
                    envelope.body.encode(),
                    key=envelope.call.encode(),
                    headers=[("content-type", CONTENT_TYPE.encode()), ("ce_id", envelope.id.encode())],
                )
        except TOO_LARGE as error:
            raise AlertError("too large for this Kafka topic") from error
        except (KafkaError, OSError, TimeoutError) as error:
            await self._connection.drop(producer)
            raise SinkDownError(f"Kafka not reached ({type(error).__name__})") from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connection.aclose()

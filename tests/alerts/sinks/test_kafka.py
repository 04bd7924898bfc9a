"""The Kafka sink against a double of a broker (kafka_double.py says what that can show)."""

import asyncio
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from inference.alerts.config import KafkaConfig
from inference.alerts.sinks.kafka import KafkaSink
from inference.errors import AlertError, SinkDownError

TOPIC = "scamtap.events"


@pytest.fixture(scope="module")
def double():
    path = Path(__file__).with_name("kafka_double.py")
    spec = importlib.util.spec_from_file_location("scamtap_tests_kafka_double", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def sink_for(port: int, **more) -> KafkaSink:
    return KafkaSink(KafkaConfig(servers=[f"127.0.0.1:{port}"], topic=TOPIC, **{"timeout_s": 2.0} | more))


def test_the_event_is_the_value_and_the_call_the_key(double, letters):
    async def run():
        async with double.KafkaDouble(TOPIC) as broker:
            sink = sink_for(broker.port)
            for envelope in letters(3):
                await sink.deliver(envelope)
            await sink.aclose()
            return broker

    broker = asyncio.run(run())
    assert broker.acks == {-1}  # all in-sync replicas
    assert [record.key for record in broker.records] == [b"call-0", b"call-1", b"call-2"]
    assert [record.value.decode() for record in broker.records] == [envelope.body for envelope in letters(3)]
    assert broker.records[0].headers["content-type"].startswith(b"application/cloudevents+json")
    assert json.loads(broker.records[0].value)["id"] == "alr_0"


def test_an_answer_that_was_lost_makes_no_second_record(double, letters):
    async def run():
        async with double.KafkaDouble(TOPIC) as broker:
            sink = sink_for(broker.port)
            (envelope,) = letters(1)
            broker.lose_answers = 1
            await sink.deliver(envelope)
            await sink.aclose()
            return broker

    broker = asyncio.run(run())
    assert broker.num_batches == 2
    assert len(broker.records) == 1


def test_a_broker_that_is_away_is_said_and_found_again(double, letters):
    async def run():
        first, second = letters(2)
        async with double.KafkaDouble(TOPIC) as broker:
            sink, port = sink_for(broker.port, timeout_s=0.7), broker.port
            await sink.deliver(first)
        with pytest.raises(SinkDownError, match="Kafka not reached"):
            await sink.deliver(second)
        async with double.KafkaDouble(TOPIC, port) as broker:
            await sink.deliver(second)
            await sink.aclose()
            return broker.records

    (record,) = asyncio.run(run())
    assert record.key == b"call-1"


def test_what_is_too_large_is_refused_alone(double, letters):
    async def run():
        async with double.KafkaDouble(TOPIC) as broker:
            sink = sink_for(broker.port)
            broker.error = double.MESSAGE_TOO_LARGE
            try:
                with pytest.raises(AlertError, match="too large") as refused:
                    await sink.deliver(letters(1)[0])
            finally:
                await sink.aclose()
            return refused.type

    assert asyncio.run(run()) is AlertError


def test_a_topic_that_takes_nothing_from_us_is_the_sinks_fault(double, letters):
    async def run():
        async with double.KafkaDouble(TOPIC) as broker:
            sink = sink_for(broker.port)
            broker.error = double.TOPIC_AUTHORIZATION_FAILED
            with pytest.raises(SinkDownError, match="TopicAuthorizationFailed"):
                await sink.deliver(letters(1)[0])
            await sink.aclose()

    asyncio.run(run())


def test_nobody_there_takes_no_longer_than_configured(a_free_port, letters):
    async def run():
        sink = sink_for(a_free_port, timeout_s=0.3, user="u", password="hunter2")
        try:
            async with asyncio.timeout(5):
                await sink.deliver(letters(1)[0])
        finally:
            await sink.aclose()

    with pytest.raises(SinkDownError) as raised:
        asyncio.run(run())
    assert "hunter2" not in str(raised.value)

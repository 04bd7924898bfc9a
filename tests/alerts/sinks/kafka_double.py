"""A double of a Kafka broker: one node, one partition, the four requests that a producer makes.

Written from Kafka's published protocol (ApiVersions 0, Metadata 1, InitProducerId 0, Produce 7); frames and record
batches are decoded with aiokafka's own structures, so what it cannot show is a mistake that client and double share.
Like a broker it drops a batch that an idempotent producer repeats. It can lose answers and refuse with error codes.
"""

import asyncio
import struct
from dataclasses import dataclass
from io import BytesIO

from aiokafka.protocol.admin import ApiVersionResponse_v0
from aiokafka.protocol.api import RequestHeader_v1
from aiokafka.protocol.metadata import MetadataResponse_v1
from aiokafka.protocol.produce import ProduceRequest_v7, ProduceResponse_v7
from aiokafka.protocol.transaction import InitProducerIdResponse_v0
from aiokafka.record.memory_records import MemoryRecords

PRODUCE, METADATA, API_VERSIONS, INIT_PRODUCER_ID = 0, 3, 18, 22
VERSIONS = [(PRODUCE, 7, 7), (METADATA, 1, 1), (API_VERSIONS, 0, 0), (INIT_PRODUCER_ID, 0, 0)]
MESSAGE_TOO_LARGE, NOT_ENOUGH_REPLICAS, TOPIC_AUTHORIZATION_FAILED = 10, 19, 29


@dataclass(frozen=True)
class Record:
    key: bytes
    value: bytes
    headers: dict[str, bytes]


class KafkaDouble:
    """``async with KafkaDouble("topic") as broker``; listens on 127.0.0.1, ``broker.port``.

    Attributes:
        records: what the topic holds.
        num_batches: produce requests, repeated ones too.
        acks: what producers asked for.
        lose_answers: how many answers to produce requests are lost from now on, each after it was stored.
        error: code that produce requests are answered with, 0 for none.
    """

    def __init__(self, topic: str, port: int = 0) -> None:
        self.topic = topic
        self.port = port
        self.records: list[Record] = []
        self.num_batches = 0
        self.acks: set[int] = set()
        self.lose_answers = 0
        self.error = 0
        self._num_producers = 0
        self._next_sequence: dict[int, int] = {}
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "KafkaDouble":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        while self._writers:  # noqa: ASYNC110 -- so that no task is left behind
            await asyncio.sleep(0.005)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                frame = BytesIO(await reader.readexactly(size))
                api_key, _, correlation_id, _ = (field.decode(frame) for field in RequestHeader_v1.SCHEMA.fields)
                answer = self._answer(api_key, frame)
                if answer is None:
                    break
                payload = struct.pack(">i", correlation_id) + answer
                writer.write(struct.pack(">i", len(payload)) + payload)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._writers.discard(writer)

    def _answer(self, api_key: int, frame: BytesIO) -> bytes | None:
        if api_key == API_VERSIONS:
            return ApiVersionResponse_v0(0, VERSIONS).encode()
        if api_key == METADATA:
            partitions = [(0, 0, 1, [1], [1])]
            topics = [(0, self.topic, False, partitions)]
            return MetadataResponse_v1([(1, "127.0.0.1", self.port, None)], 1, topics).encode()
        if api_key == INIT_PRODUCER_ID:
            self._num_producers += 1
            return InitProducerIdResponse_v0(0, 0, self._num_producers, 0).encode()
        assert api_key == PRODUCE
        request = ProduceRequest_v7.decode(frame)
        self.acks.add(request.required_acks)
        ((topic, ((partition, batches),)),) = request.topics
        assert (topic, partition) == (self.topic, 0)
        self.num_batches += 1
        if not self.error:
            self._store(MemoryRecords(batches))
        if self.lose_answers:
            self.lose_answers -= 1
            return None
        return ProduceResponse_v7([(topic, [(0, self.error, len(self.records), -1, 0)])], 0).encode()

    def _store(self, batches: MemoryRecords) -> None:
        while batches.has_next():
            batch = batches.next_batch()
            assert batch.validate_crc()
            records = list(batch)
            expected = self._next_sequence.get(batch.producer_id, 0)
            if batch.base_sequence < expected:
                continue  # the producer repeats itself
            assert batch.base_sequence == expected
            self._next_sequence[batch.producer_id] = expected + len(records)
            self.records += [Record(record.key, record.value, dict(record.headers)) for record in records]

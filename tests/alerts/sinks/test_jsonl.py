import asyncio
import stat

import pytest

from inference.alerts.sinks.jsonl import JsonLinesSink
from inference.errors import ConfigError, SinkDownError


def test_each_event_is_a_line(tmp_path, letters):
    sink = JsonLinesSink(tmp_path / "deep" / "alerts.jsonl")
    for envelope in letters(3):
        asyncio.run(sink.deliver(envelope))
    lines = (tmp_path / "deep" / "alerts.jsonl").read_text().splitlines()
    assert lines == [envelope.body for envelope in letters(3)]


def test_a_line_that_does_not_fit_on_the_disk_leaves_no_half(tmp_path, letters):
    resource = pytest.importorskip("resource")
    path = tmp_path / "alerts.jsonl"
    sink, (first, second) = JsonLinesSink(path), letters(2)
    asyncio.run(sink.deliver(first))
    whole, before = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, before[1]))
    try:
        with pytest.raises(SinkDownError, match=r"alerts.jsonl: File too large"):
            asyncio.run(sink.deliver(second))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == whole
    asyncio.run(sink.deliver(second))
    assert len(path.read_text().splitlines()) == 2


def test_a_directory_as_file_is_one_line(tmp_path):
    tmp_path.chmod(stat.S_IRWXU)
    with pytest.raises(ConfigError, match=r"alerts.jsonl_path"):
        JsonLinesSink(tmp_path)

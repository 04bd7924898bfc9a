import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import ConfigError, StoreError
from inference.screening.chain import ChainedLog

EVENTS = [(float(number), "blocked", {"call_id": f"c{number}", "n": number}) for number in range(1, 8)]


@pytest.fixture
def log(tmp_path):
    made = ChainedLog(tmp_path / "log.db", "the log")
    made.append(EVENTS)
    yield made
    made.close()


def test_what_is_written_is_read_in_order_and_by_time(log):
    assert [line.values()["n"] for line in log.lines()] == [1, 2, 3, 4, 5, 6, 7]
    assert [line.number for line in log.lines(3.0, 5.0)] == [3, 4]
    assert log.verify() is None


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE line SET body = '{}' WHERE number = 3", 3),
        ("UPDATE line SET at_s = 99 WHERE number = 7", 7),
        ("UPDATE line SET what = 'allowed' WHERE number = 1", 1),
        ("DELETE FROM line WHERE number = 4", 4),
        ("DELETE FROM line WHERE number = 1", 1),
        ("UPDATE line SET number = 100 WHERE number = 5", 5),
    ],
)
def test_what_was_altered_shows(tmp_path, log, statement, found):
    with sqlite3.connect(tmp_path / "log.db") as db:
        db.execute(statement)
    db.close()
    assert log.verify() == found


def test_retention_takes_the_old_end_and_the_rest_still_holds(log):
    assert log.forget(4.0) == 3
    assert [line.number for line in log.lines()] == [4, 5, 6, 7]
    assert log.verify() is None
    log.append([(8.0, "blocked", {})])
    assert log.forget(100.0) == 5
    assert log.verify() is None
    (line,) = log.append([(9.0, "blocked", {})])
    assert line.number == 9
    assert log.verify() is None


def test_the_log_goes_on_after_a_restart(tmp_path, log):
    before = log.version
    again = ChainedLog(tmp_path / "log.db", "the log")
    assert again.version == before
    again.append([(9.0, "blocked", {})])
    assert log.version == again.version != before
    assert log.verify() is None
    again.close()


@given(st.lists(st.tuples(st.floats(0, 1e10), st.text(max_size=10), st.dictionaries(st.text(max_size=5), st.text()))))
def test_any_text_holds(events):
    made = ChainedLog(None, "the log")
    made.append(events)
    assert [(x.what, x.values()) for x in made.lines()] == [(what, body) for _, what, body in events]
    assert made.verify() is None
    made.close()


def test_a_full_disk_writes_nothing_and_says_so(log):
    log._db.execute(f"PRAGMA max_page_count = {log._db.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(StoreError, match="free some disk"):
        log.append([(1.0, "blocked", {"x": "y" * 100_000})])
    assert log.verify() is None
    assert len(list(log.lines())) == 7


def test_what_is_no_database_is_said(tmp_path):
    path = tmp_path / "x.db"
    path.write_bytes(b"nonsense" * 999)
    with pytest.raises(ConfigError, match="the log: "):
        ChainedLog(path, "the log")

import asyncio
import json
import stat
import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference.alerts.deadletters import DeadLetters
from inference.alerts.notice import Envelope, Notice
from inference.alerts.resend import Letter, resend
from inference.errors import AlertError, ConfigError, SinkDownError


def letter(number: int, sink: str = "webhook") -> tuple[str, Envelope, int]:
    return sink, Notice("alert", f"alr_{number}", f"call-{number}", 0.0, {"family": "保"}).sealed("/scamtap"), 13


class Sink:
    def __init__(self, name="webhook", refuses=(), error=AlertError) -> None:
        self.name = name
        self.taken: list[Envelope] = []
        self.tried = 0
        self._refuses, self._error = refuses, error

    async def deliver(self, envelope) -> None:
        self.tried += 1
        if envelope.id in self._refuses:
            raise self._error("webhook answered 410")
        self.taken.append(envelope)

    async def aclose(self) -> None:
        return None


@pytest.fixture
def dead_letters(tmp_path):
    return DeadLetters(tmp_path / "dead.jsonl")


def lines(dead_letters) -> list[dict]:
    if not dead_letters.path.exists():
        return []
    return [json.loads(line) for line in dead_letters.path.read_text().splitlines()]


def test_what_is_sent_again_is_what_was_sent_before(dead_letters):
    letters = [letter(number) for number in range(3)]
    dead_letters.append(letters, "webhook answered 500", 1.0)
    sink = Sink()
    assert asyncio.run(resend(dead_letters, [sink])) == (3, 0)
    assert sink.taken == [envelope for _, envelope, _ in letters]
    assert list(dead_letters.path.parent.iterdir()) == []


def test_what_is_refused_again_stays(dead_letters):
    dead_letters.append([letter(0), letter(1), letter(2, "kafka")], "webhook answered 500", 1.0)
    assert asyncio.run(resend(dead_letters, [Sink(refuses={"alr_1"})])) == (1, 2)
    left = [(line["sink"], line["event"]["id"], line["attempts"]) for line in lines(dead_letters)]
    assert left == [("webhook", "alr_1", 14), ("kafka", "alr_2", 14)]


def test_a_sink_that_is_away_is_asked_once(dead_letters):
    dead_letters.append([letter(number) for number in range(50)], "no", 1.0)
    sink = Sink(refuses={f"alr_{number}" for number in range(50)}, error=SinkDownError)
    assert asyncio.run(resend(dead_letters, [sink])) == (0, 50)
    assert sink.tried == 1
    assert len(lines(dead_letters)) == 50


def test_a_run_cut_short_loses_nothing(dead_letters):
    class Dies(Sink):
        async def deliver(self, envelope) -> None:
            if self.taken:
                raise KeyboardInterrupt
            await super().deliver(envelope)

    dead_letters.append([letter(number) for number in range(3)], "no", 1.0)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(resend(dead_letters, [Dies()]))
    dead_letters.append([letter(3)], "no", 1.0)
    sink = Sink()
    assert asyncio.run(resend(dead_letters, [sink])) == (4, 0)
    assert [envelope.id for envelope in sink.taken] == ["alr_0", "alr_1", "alr_2", "alr_3"]


def test_a_worker_may_add_while_letters_are_taken(dead_letters):
    def add() -> None:
        for number in range(200):
            dead_letters.append([letter(number)], "no", 1.0)

    adding, sink = threading.Thread(target=add), Sink()
    adding.start()
    while adding.is_alive():
        asyncio.run(resend(dead_letters, [sink]))
    adding.join()
    asyncio.run(resend(dead_letters, [sink]))
    assert sorted(envelope.id for envelope in sink.taken) == sorted(f"alr_{number}" for number in range(200))


@pytest.mark.parametrize("line", ["{}", "[]", "x", '{"sink": "webhook", "event": 3}', '{"sink": 1', "\xff"])
def test_a_mangled_line_stops_the_run_before_anything_is_sent(dead_letters, line):
    dead_letters.append([letter(0)], "no", 1.0)
    with dead_letters.path.open("a", encoding="latin-1") as file:
        file.write(line + "\n")
    sink = Sink()
    with pytest.raises(AlertError, match="mend or remove"):
        asyncio.run(resend(dead_letters, [sink]))
    assert sink.taken == []
    (kept,) = [path for path in dead_letters.path.parent.iterdir() if path != dead_letters.path]
    assert "alr_0" in kept.read_text(encoding="latin-1")


@given(
    st.text()
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["sink", "why", "attempts", "given_up_s", "event", "id", "subject", "x"]), inner
            )
        ),
    ).map(json.dumps)
)
@example('{"sink": "s", "why": "", "attempts": 1, "given_up_s": 1e999, "event": {"id": "a", "subject": "b"}}')
@example("[" * 100_000)
def test_any_line_is_a_letter_that_can_be_sent_or_none(line):
    try:
        letter = Letter.parse(line)
    except ValueError:
        return
    assert letter.envelope.body.encode()
    assert letter.envelope.id.isascii()


def test_the_file_is_bounded_and_private(tmp_path):
    dead_letters = DeadLetters(tmp_path / "dead.jsonl", max_bytes=1000)
    with pytest.raises(AlertError, match="full"):
        dead_letters.append([letter(number) for number in range(10)], "no", 1.0)
    assert dead_letters.path.read_bytes() == b""
    assert stat.S_IMODE(dead_letters.path.stat().st_mode) == 0o600


def test_a_folder_as_file_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"alerts.dead_letter_path"):
        DeadLetters(tmp_path)


def test_the_command_delivers_what_it_can_and_says_what_is_left(run, tmp_path):
    config = tmp_path / "scamtap.yaml"
    config.write_text(f"alerts: {{jsonl_path: {tmp_path}/alerts.jsonl, dead_letter_path: {tmp_path}/dead.jsonl}}\n")
    DeadLetters(tmp_path / "dead.jsonl").append([letter(0, "jsonl"), letter(1, "webhook")], "disk full", 1.0)
    line = f"1 delivered, 1 left in {tmp_path}/dead.jsonl\n"
    assert run("alerts", "resend", "--config", config) == (1, line, "")
    assert (tmp_path / "alerts.jsonl").read_text() == letter(0)[1].body + "\n"
    (tmp_path / "dead.jsonl").unlink()
    assert run("alerts", "resend", "--config", config)[:2] == (0, f"0 delivered, 0 left in {tmp_path}/dead.jsonl\n")


def test_the_command_says_when_no_dead_letters_are_kept(run):
    code, out, err = run("alerts", "resend")
    assert (code, out) == (2, "")
    assert "set alerts.dead_letter_path or alerts.outbox_path" in err

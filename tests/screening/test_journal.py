import asyncio
import csv
import json
from collections import Counter

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from inference.errors import ConfigError
from inference.screening.attempt import CallAttempt
from inference.screening.backend import MemoryBackend
from inference.screening.journal import Journal, JournalConfig
from inference.screening.lists import ListEntry, NumberLists
from inference.screening.remembered import WindowStore
from inference.screening.report import export_csv, export_parquet, make_report, sign, to_html
from inference.screening.rules import RulesConfig
from inference.screening.screener import Screener

NOW_S = 1_800_000_000.0
CALLEE = "+442079460000"
DENIED = ListEntry(kind="deny", number="441212345678", who="desk", why="reported", category="parcel")


class Clock:
    now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


def journal(tmp_path, clock=None, **more) -> Journal:
    config = JournalConfig(path=tmp_path / "journal.db", callee_key=SecretStr("k"), **more)
    return Journal(config, clock=clock or Clock())


async def screen(made: Journal, callers, trunk="national") -> None:
    screener = Screener(
        RulesConfig(own_ranges=("441632",)),
        NumberLists([DENIED]),
        WindowStore(MemoryBackend(clock=Clock())),
        clock=Clock(),
        on_decision=made.decided,
    )
    for number, caller in enumerate(callers):
        await screener.decide(
            CallAttempt(call_id=f"c{number}", caller=caller, callee=CALLEE, at_s=NOW_S + number, trunk=trunk)
        )


MIX = ["+441212345678", "+441212345679", "+441632960001", "+4411"]


def test_counters_and_lines_reconcile_exactly(tmp_path):
    made = journal(tmp_path)

    async def go():
        await screen(made, MIX * 50, trunk="international")
        await made.write()
        lines = list(made.lines())
        await made.aclose()
        return lines

    lines = asyncio.run(go())
    counted = sum(n for (what, _, _), n in made.counts.items() if what != "allow")
    assert len(lines) == counted == 150
    assert made.counts["allow", "DEFAULT", ""] == 50
    report = make_report(lines, 0, 1e12, None)
    for reason in ("DENY_LISTED", "SPOOFED_OWN_RANGE", "NUMBER_IMPOSSIBLE"):
        assert report.by_reason[reason] == sum(n for (_, r, _), n in made.counts.items() if r == reason) == 50
    assert report.totals["intercepted"] == 150


def test_the_report_reconciles_with_the_counters_for_whatever_is_noted(tmp_path):
    """Per event, reason and category: also shields, reminders, feedback and appeals, which are no decisions."""
    noted = [
        ("shield", {"reason": "DETECTED"}),
        ("shield", {"reason": "REQUESTED"}),
        ("reminder", {"reason": "HEARD", "category": "parcel"}),
        ("guardian", {"reason": "HEARD", "category": "parcel"}),
        ("feedback", {"reason": "not_a_scam"}),
        ("appeal_granted", {"reason": "deny"}),
    ]

    async def go():
        made = journal(tmp_path)
        await screen(made, MIX, trunk="international")
        for what, body in noted:
            made.noted(what, dict(body))
        await made.write()
        report = make_report(made.lines(), 0, 1e12, made.verify())
        await made.aclose()
        return report, {key: n for key, n in made.counts.items() if key[0] != "allow"}

    report, counts = asyncio.run(go())
    for at, counted in ((0, report.totals), (1, report.by_reason), (2, report.by_category)):
        wanted = Counter()
        for key, count in counts.items():
            if key[at]:
                wanted[key[at]] += count
        groups = {"intercepted", "alerted", "protected"}
        assert {name: n for name, n in counted.items() if name not in groups} == wanted
    assert report.by_reason["HEARD"] == 2
    assert (report.totals["alerted"], report.totals["protected"]) == (2, 2)


def test_a_subscribers_number_is_not_written(tmp_path):
    made = journal(tmp_path)

    async def go():
        await screen(made, MIX)
        await made.aclose()

    asyncio.run(go())
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"2079460000" not in content
    assert b"441212345678" in content  # the caller may appeal
    assert made.pseudonym("442079460000") == made.pseudonym("442079460000") != made.pseudonym("442079460001")


def test_old_lines_are_forgotten_and_the_rest_still_holds(tmp_path):
    clock = Clock()
    made = journal(tmp_path, clock, keep_days=1.0)

    async def go():
        await screen(made, MIX[:1])
        await made.write()
        clock.now_s += 2 * 86_400
        made.noted("shield", {"reason": "CALL_BOMBING"})
        await made.write()
        lines = [line.what for line in made.lines()]
        broken = made.verify()
        await made.aclose()
        return lines, broken

    assert asyncio.run(go()) == (["shield"], None)


def test_a_disk_that_refuses_is_said_and_nothing_is_lost_meanwhile(tmp_path, monkeypatch):
    import sqlite3

    from inference.errors import StoreError

    made = journal(tmp_path)

    async def go():
        await screen(made, MIX[:1] * 3)
        whole = made._log.append

        def full(_events):
            raise StoreError("journal: cannot be written (database or disk is full); free some disk")

        monkeypatch.setattr(made._log, "append", full)
        with pytest.raises(StoreError):
            await made.write()
        monkeypatch.setattr(made._log, "append", whole)
        await made.write()
        count = len(list(made.lines()))
        await made.aclose()
        return count

    with capture_logs():
        assert asyncio.run(go()) == 3
    assert made.num_lost == 0
    db = sqlite3.connect(tmp_path / "journal.db")
    assert db.execute("SELECT COUNT(*) FROM line").fetchone() == (3,)
    db.close()


@pytest.fixture
def lines(tmp_path):
    made = journal(tmp_path)

    async def go():
        await screen(made, MIX, trunk="international")
        made.noted("shield", {"reason": "CALL_BOMBING", "category": "<script>alert(1)</script>"})
        await made.write()
        found = list(made.lines())
        await made.aclose()
        return found

    return asyncio.run(go())


def test_a_page_escapes_what_it_shows(lines):
    page = to_html(make_report(lines, NOW_S, NOW_S + 86_400, None))
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert "which is whole" in page
    assert "http" not in page


def test_an_export_holds_every_event_and_runs_nothing(lines, tmp_path):
    path = tmp_path / "events.csv"
    assert export_csv(path, lines) == 4
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["what"] for row in rows] == ["reject", "reject", "challenge", "shield"]
    assert rows[0]["caller"] == "441212345678"
    spiked = [type(lines[0])(9, NOW_S, "reject", json.dumps({"call_id": "=cmd()"}), "0")]
    export_csv(path, spiked)
    assert next(csv.DictReader(path.read_text().splitlines()))["call_id"] == "'=cmd()"


def test_parquet_holds_the_same(lines, tmp_path):
    polars = pytest.importorskip("polars")
    path = tmp_path / "events.parquet"
    assert export_parquet(path, lines) == 4
    assert polars.read_parquet(path)["what"].to_list() == ["reject", "reject", "challenge", "shield"]


def test_an_export_is_signed(lines, tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key, path = Ed25519PrivateKey.generate(), tmp_path / "events.csv"
    pem = tmp_path / "key.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    export_csv(path, lines)
    signed = json.loads(sign(path, pem).read_text())
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signed["public_key"]))
    public.verify(bytes.fromhex(signed["ed25519"]), path.read_bytes())
    pem.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="openssl genpkey"):
        sign(path, pem)


def test_a_worker_that_ends_in_the_middle_of_a_write_writes_each_line_once(tmp_path, monkeypatch):
    import threading

    made, may_go = journal(tmp_path), threading.Event()
    whole = made._log.append

    def slowly(events):
        may_go.wait(10)
        return whole(events)

    monkeypatch.setattr(made._log, "append", slowly)

    async def go():
        await screen(made, MIX[:1] * 3)
        writing = asyncio.create_task(made.write())
        await asyncio.sleep(0.05)
        writing.cancel()
        asyncio.get_running_loop().call_later(0.05, may_go.set)
        with pytest.raises(asyncio.CancelledError):
            await writing
        waiting = len(made._waiting)
        await made.write()
        lines = len(list(made.lines()))
        await made.aclose()
        return waiting, lines

    assert asyncio.run(go()) == (0, 3)

"""Fetching one file from a server that cuts, refuses, lies or is not there."""

import hashlib
import random

import pytest

from inference.errors import WeightsError
from inference.weights.download import ATTEMPTS, Wanted, download, open_client, redact

BODY = random.Random(3).randbytes(50_000)
PINNED = Wanted(len(BODY), hashlib.sha256(BODY).hexdigest())


class Fetch:
    """``download`` of /file from the HTTP double; remembers pauses and progress."""

    def __init__(self, shelf, folder):
        self.shelf, self.path = shelf, folder / "sub" / "file"
        self.part = self.path.with_name("file.part")
        self.pauses, self.progress = [], []

    def __call__(self, wanted=PINNED, url=None, on_progress=None, **more):
        with open_client() as client:
            download(
                client,
                url or f"{self.shelf.url}/file",
                self.path,
                wanted,
                on_progress or (lambda *counts: self.progress.append(counts)),
                **({"sleep": self.pauses.append} | more),
            )

    def fails(self, message, **more):
        with pytest.raises(WeightsError, match=message) as error:
            self(**more)
        assert "\n" not in str(error.value)
        assert not self.path.exists()

    def leave_part(self, content):
        self.part.parent.mkdir()
        self.part.write_bytes(content)


@pytest.fixture
def fetch(shelf, tmp_path):
    shelf.files["/file"] = BODY
    return Fetch(shelf, tmp_path)


def test_a_file_arrives_whole_with_progress_and_no_part_stays(fetch):
    fetch()
    assert fetch.path.read_bytes() == BODY
    assert not fetch.part.exists()
    assert fetch.progress[-1] == (len(BODY), len(BODY))
    assert fetch.progress == sorted(fetch.progress)


def test_a_file_that_is_there_is_not_fetched_again_a_damaged_one_is(fetch, shelf):
    fetch()
    fetch()
    assert len(shelf.seen) == 1
    fetch.path.write_bytes(BODY[:-1] + b"?")
    fetch()
    assert fetch.path.read_bytes() == BODY
    assert len(shelf.seen) == 2


def test_a_cut_connection_is_resumed_where_it_broke(fetch, shelf):
    shelf.cut_after["/file"] = [10_000, 20_000]
    fetch()
    assert fetch.path.read_bytes() == BODY
    assert shelf.seen == [("/file", None), ("/file", "bytes=10000-"), ("/file", "bytes=30000-")]
    assert fetch.pauses == [0.5, 1.0]


def test_a_part_of_an_earlier_run_is_resumed(fetch, shelf):
    fetch.leave_part(BODY[:12_345])
    fetch()
    assert fetch.path.read_bytes() == BODY
    assert shelf.seen == [("/file", "bytes=12345-")]


def test_a_complete_part_needs_no_request(fetch, shelf):
    fetch.leave_part(BODY)
    fetch()
    assert fetch.path.read_bytes() == BODY
    assert shelf.seen == []


def test_a_server_that_cannot_resume_sends_it_from_the_start(fetch, shelf):
    shelf.ranges = False
    fetch.leave_part(BODY[:12_345])
    fetch()
    assert fetch.path.read_bytes() == BODY


def test_a_part_that_was_wrong_is_thrown_away_and_fetched_afresh(fetch, shelf):
    fetch.leave_part(b"x" * 12_345)
    fetch()
    assert fetch.path.read_bytes() == BODY
    assert shelf.seen == [("/file", "bytes=12345-"), ("/file", None)]


def test_wrong_content_is_deleted_and_said(fetch, shelf):
    shelf.files["/file"] = BODY[:-1] + bytes([BODY[-1] ^ 1])
    fetch.fails(r"file from http://127.0.0.1:\d+/file does not have the locked sha256 and was deleted; try again")
    assert not fetch.part.exists()


def test_wrong_content_behind_an_old_part_is_asked_for_twice_at_most(fetch, shelf):
    fetch.leave_part(b"x" * 12_345)
    shelf.files["/file"] = b"y" * len(BODY)
    fetch.fails("was deleted")
    assert len(shelf.seen) == 2


def test_passing_errors_are_tried_again_and_only_so_often(fetch, shelf):
    shelf.statuses["/file"] = [503, 429]
    fetch()
    assert len(shelf.seen) == 3
    fetch.path.unlink()
    shelf.seen.clear()
    shelf.statuses["/file"] = [500] * 9
    fetch.fails(r"failed 4 times \(HTTP 500\); check the network and pull again: what has arrived is kept")
    assert len(shelf.seen) == ATTEMPTS


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(fetch, shelf, status):
    shelf.statuses["/file"] = [status]
    fetch.fails(f"answered HTTP {status}")
    assert len(shelf.seen) == 1


def test_no_network_is_one_line(fetch):
    fetch.fails(
        r"http://127.0.0.1:1/file failed 4 times \(ConnectError\); check the network", url="http://127.0.0.1:1/file"
    )
    fetch.fails(r"cannot reach 127.0.0.1:1 \(ConnectError\)", url="http://127.0.0.1:1/file", attempts=1)


def test_more_than_expected_is_refused_before_it_fills_the_disk(fetch, shelf):
    shelf.files["/file"] = BODY + b"more"
    fetch.fails("is larger than the 50000 bytes expected")
    assert fetch.progress == []


def test_fewer_bytes_than_locked_are_tried_again_not_accepted(fetch, shelf):
    shelf.files["/file"] = BODY[:-10]
    fetch.fails("failed 4 times")


def test_an_unpinned_file_is_taken_as_it_comes_but_never_resumed(fetch, shelf):
    loose = Wanted(1 << 20, None)
    fetch.leave_part(b"x" * 100)
    fetch(wanted=loose)
    fetch(wanted=loose)
    assert fetch.path.read_bytes() == BODY
    assert [wanted for _, wanted in shelf.seen] == [None, None]


def test_ctrl_c_keeps_the_part(fetch):
    def interrupt(done, _):
        raise KeyboardInterrupt

    fetch.shelf.cut_after["/file"] = [10_000]
    with pytest.raises(KeyboardInterrupt):
        fetch(on_progress=interrupt)
    assert not fetch.path.exists()
    kept = fetch.part.read_bytes()
    assert 0 < len(kept) <= 10_000
    assert BODY.startswith(kept)
    fetch()
    assert fetch.shelf.seen[-1] == ("/file", f"bytes={len(kept)}-")


def test_a_local_file_url_is_copied_and_checked(fetch, tmp_path):
    (tmp_path / "a wheel.whl").write_bytes(BODY)
    fetch(url=(tmp_path / "a wheel.whl").as_uri())
    assert fetch.path.read_bytes() == BODY
    fetch.path.unlink()
    (tmp_path / "a wheel.whl").write_bytes(b"other")
    fetch.fails("does not have the locked sha256", url=(tmp_path / "a wheel.whl").as_uri())
    fetch.fails("cannot read .*nowhere", url=(tmp_path / "nowhere").as_uri())


def test_passwords_never_reach_a_message(fetch):
    assert redact("https://user:secret@index.example/simple/x?token=t#f") == "https://index.example/simple/x"
    url = fetch.shelf.url.replace("//", "//user:secret@") + "/none"
    with pytest.raises(WeightsError) as error:
        fetch(url=url)
    assert "secret" not in str(error.value)


def test_a_ca_file_that_is_missing_is_one_line():
    with pytest.raises(WeightsError, match=r"cannot read the CA file /no/such\.pem"):
        open_client("/no/such.pem")

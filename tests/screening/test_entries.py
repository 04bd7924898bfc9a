import pytest

from inference.errors import StoreError
from inference.screening.entries import EntryBook
from inference.screening.lists import ListEntry, NumberLists

NUMBER = "441632960001"


def entry(**more) -> ListEntry:
    return ListEntry(**{"kind": "deny", "number": NUMBER, "who": "desk 3", "why": "reported", "category": "tax"} | more)


@pytest.fixture
def book(tmp_path):
    made = EntryBook(tmp_path / "screening.entries", clock=lambda: 1000.0)
    yield made
    made.close()


def test_the_last_word_on_an_entry_holds(book):
    book.add(entry())
    book.add(entry(category="parcel"))
    book.add(entry(number="4416", is_prefix=True))
    book.remove(entry(number="4416", is_prefix=True), who="desk 4", why="too wide")
    (held,) = book.entries()
    assert held.category == "parcel"
    assert [(c.what, c.who) for c in book.log()] == [("added", "desk 3")] * 3 + [("removed", "desk 4")]
    assert book.verify() is None


def test_an_appeal_is_asked_decided_and_kept(book):
    book.add(entry())
    book.appeal(entry(), "appealed", who="the owner", why="it is my shop")
    lists = NumberLists(book.entries(), clock=lambda: 0.0)
    assert lists.find(NUMBER)  # still on while nobody has decided
    book.appeal(entry(), "appeal_granted", who="desk 5", why="papers seen")
    lists.replace_entries(book.entries(), book.version)
    assert not lists.find(NUMBER)
    assert [c.what for c in book.log()] == ["added", "appealed", "appeal_granted"]


def test_what_nobody_asked_is_not_decided(book):
    book.add(entry())
    with pytest.raises(StoreError, match="nobody appealed"):
        book.appeal(entry(), "appeal_granted", who="x", why="y")
    with pytest.raises(StoreError, match="no such list entry"):
        book.remove(entry(kind="allow"), who="x", why="y")


def test_every_change_is_another_version(book):
    versions = [book.version]
    book.add(entry())
    versions.append(book.version)
    book.remove(entry(), who="x", why="y")
    versions.append(book.version)
    assert len(set(versions)) == 3

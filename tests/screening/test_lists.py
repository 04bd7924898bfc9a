import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import ConfigError
from inference.screening.bulk import load_bulk, read_bulk, save_bulk
from inference.screening.lists import ListEntry, NumberLists

WHY = {"who": "desk 3", "why": "reported"}


def entry(number, kind="deny", **more):
    return ListEntry(kind=kind, number=number, **{**WHY, **more})


def bulk(tmp_path, text, kind="deny", name="partner"):
    path = tmp_path / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_bulk(path, name, kind)


def test_the_most_particular_entry_comes_first():
    lists = NumberLists([entry("44", is_prefix=True), entry("441632960001"), entry("4416", "allow", is_prefix=True)])
    hits = lists.find("441632960001")
    assert [(h.kind, h.num_digits, h.is_exact) for h in hits] == [
        ("deny", 12, True),
        ("allow", 4, False),
        ("deny", 2, False),
    ]
    assert [h.kind for h in lists.find("442079460000")] == ["deny"]
    assert lists.find("861") == []


def test_an_entry_holds_until_it_expires_or_its_appeal_is_granted():
    lists = NumberLists([entry("441", expires_s=100.0), entry("442", appeal="granted"), entry("443", appeal="open")])
    assert lists.find("441", 99.9)
    assert not lists.find("441", 100.0)
    assert not lists.find("442", 0)
    assert lists.find("443", 0)


@pytest.mark.parametrize("number", [None, "", "1" * 16])
def test_what_is_no_number_is_on_no_list(number):
    assert NumberLists([entry("1", is_prefix=True)]).find(number) == []


def test_a_list_is_read_and_bad_lines_are_told(tmp_path):
    good = "# published by nobody\n+441632960001,parcel\n441632960001\n44163299*,tax\n"
    made, report = bulk(tmp_path, good + "nonsense\n\n８６１３８\n0123\n+86138001380001380\n")
    assert (report.num_numbers, report.num_prefixes, report.num_bad) == (1, 1, 4)
    assert [number for number, _ in report.bad_lines] == [5, 7, 8, 9]
    assert made.find("441632960001").category == "parcel"
    assert made.find("441632991234").category == "tax"
    assert made.find("441632970000") is None


def test_an_endless_line_is_one_bad_line(tmp_path):
    made, report = bulk(tmp_path, b"1" * 100_000 + b"\n441632960001\n")
    assert (report.num_bad, len(made.numbers)) == (1, 1)


def test_an_imported_list_is_the_same_after_it_was_kept(tmp_path):
    made, _ = bulk(tmp_path, "441632960001,parcel\n44163299*,tax\n")
    folder = tmp_path / "lists"
    save_bulk(folder, made)
    (held,) = load_bulk(folder)
    assert (held.name, held.kind, held.version) == (made.name, made.kind, made.version)
    assert held.find("441632960001") == made.find("441632960001")
    assert held.find("441632990000") == made.find("441632990000")
    assert [p.name for p in folder.iterdir()] == ["partner.npz"]


def test_a_new_import_replaces_the_old_one_in_one_step(tmp_path):
    folder = tmp_path / "lists"
    save_bulk(folder, bulk(tmp_path, "441632960001\n")[0])
    lists = NumberLists(bulk=load_bulk(folder))
    before = lists.version
    save_bulk(folder, bulk(tmp_path, "441632960002\n")[0])
    lists.replace_bulk(load_bulk(folder))
    assert lists.version != before
    assert [bool(lists.find(n)) for n in ("441632960001", "441632960002")] == [False, True]


def test_equal_content_is_the_same_version_in_any_order(tmp_path):
    one, _ = bulk(tmp_path, "441632960001\n441632960002\n")
    two, _ = bulk(tmp_path, "441632960002\n441632960001\n441632960001\n")
    assert one.version == two.version


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04nonsense", b"\x80\x04K."])
def test_a_file_that_is_no_list_is_named(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"x\.npz"):
        load_bulk(tmp_path)


def test_a_missing_file_and_a_bad_name_say_so(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_bulk(tmp_path / "none", "a", "deny")
    with pytest.raises(ConfigError, match="list name"):
        read_bulk(tmp_path / "none", "../a", "deny")


numbers = st.from_regex(r"\A[1-9][0-9]{1,14}\Z")


@given(
    st.dictionaries(numbers, st.sampled_from(["parcel", "tax"]), max_size=30), st.lists(numbers, max_size=5), numbers
)
def test_looking_up_agrees_with_looking_at_every_line(tmp_path_factory, exact, prefixes, probe):
    folder = tmp_path_factory.mktemp("lists")
    lines = [f"{n},{c}" for n, c in exact.items()] + [f"{p}*,prefix" for p in prefixes]
    made, report = bulk(folder, "\n".join(lines))
    assert report.num_bad == 0
    for number in [probe, *exact]:
        hit = made.find(number)
        longest = max((p for p in prefixes if number.startswith(p)), key=len, default=None)
        want = exact.get(number) or (None if longest is None else "prefix")
        assert (hit.category if hit else None) == want


entries = st.lists(
    st.builds(
        entry, st.text("12", min_size=1, max_size=5), st.sampled_from(["allow", "deny"]), is_prefix=st.booleans()
    ),
    max_size=8,
)


@given(entries, entries, st.text("12", min_size=1, max_size=6))
def test_what_is_found_is_what_reading_every_entry_finds(before, now, number):
    lists = NumberLists(before)
    lists.replace_entries(now, "2")
    wanted = [
        e for e in now if (e.number == number and not e.is_prefix) or (e.is_prefix and number.startswith(e.number))
    ]
    found = lists.find(number)
    assert sorted((h.kind, h.num_digits, h.is_exact) for h in found) == sorted(
        (e.kind, len(e.number), not e.is_prefix) for e in wanted
    )
    assert {str(h) for h in found} <= {"allow:entries@2", "deny:entries@2"}


def test_a_granted_appeal_takes_one_number_off_one_published_list(tmp_path):
    made = [bulk(tmp_path, "4416*,sales\n441632960001,tax\n", name=name)[0] for name in ("partner", "regulator")]
    states = {}
    for state in ("open", "refused", "granted"):
        appeal = entry("441632960001", of_list="partner", appeal=state)
        lists = NumberLists([appeal], made)
        states[state] = [[h.list_name for h in lists.find(n)] for n in ("441632960001", "441632960002")]
    both = ["partner", "regulator"]
    assert states == {"open": [both, both], "refused": [both, both], "granted": [["regulator"], both]}

import json
import re

import pytest

CONFIG = """
screening:
  path: {folder}/screening.db
  lists_dir: {folder}/lists
  rules: {{region: CN, own_ranges: ["8610"]}}
  labels: {{language: zh}}
"""


@pytest.fixture
def scamtap(tmp_path, monkeypatch, capfd):
    """``scamtap("screen", ...)``: exit code, output, errors; with settings of its own."""
    import sys

    from inference import cli

    config = tmp_path / "scamtap.yaml"
    config.write_text(CONFIG.format(folder=tmp_path))
    (tmp_path / "lists").mkdir()

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["scamtap", *map(str, words), "--config", str(config)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capfd.readouterr()
        return left.value.code or 0, out, err

    return run


def decide(scamtap, caller, *more):
    code, out, err = scamtap("screen", caller, "--callee", "+8613900139000", "--json", *more)
    assert code == 0, err
    return json.loads(out)


def test_one_call_is_decided_and_says_why(scamtap):
    decision = decide(scamtap, "+8613800138000")
    assert decision["decision"] == "allow"
    assert decision["reasons"] == ["DEFAULT"]
    assert decision["label"] is None
    assert decision["rules_version"]


@pytest.mark.parametrize("caller", ["abc", "+861", "٠١٢٣٤٥٦٧٨٩", "+86138001380001380013800138000", "x" * 256])
def test_a_caller_that_is_no_number_is_decided_as_on_the_wire_and_said(scamtap, caller):
    code, out, err = scamtap("screen", caller, "--callee", "+8613900139000", "--json")
    assert (code, json.loads(out)["reasons"]) == (0, ["NUMBER_MALFORMED"])
    assert err == "the caller is no telephone number: decided as if a call had signalled this\n"


@pytest.mark.parametrize("caller", ["", "anonymous", "+8613800138000", "95588"])
def test_of_a_caller_that_is_one_or_withheld_nothing_is_said_beside_the_decision(scamtap, caller):
    code, out, err = scamtap("screen", caller, "--callee", "13900139000")
    assert (code, err) == (0, "")
    assert out.count("\n") == 1


@pytest.mark.parametrize("callee", ["abc", "anonymous", "+", "x" * 256])
def test_a_callee_that_is_no_number_is_the_operators_slip_and_one_line(scamtap, callee):
    code, out, err = scamtap("screen", "+8613800138000", "--callee", callee)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no telephone number; want e.g." in err


@pytest.mark.parametrize("callee", ["110", "112", "urn:service:sos"])
def test_an_emergency_number_is_a_callee(scamtap, callee):
    code, out, err = scamtap("screen", "abc", "--callee", callee, "--json")
    assert (code, json.loads(out)["reasons"]) == (0, ["EMERGENCY_CALLEE"]), err


def test_a_spoofed_range_is_rejected(scamtap):
    decision = decide(scamtap, "+861088886666", "--trunk", "international")
    assert (decision["decision"], decision["sip"]["code"]) == ("reject", 608)


def test_a_list_entry_counts_from_the_next_call_on_and_an_appeal_ends_it(scamtap):
    words = ("--who", "desk 3", "--why", "reported")
    assert scamtap("lists", "add", "deny", "13800138000", "--category", "parcel", *words)[0] == 0
    decision = decide(scamtap, "+8613800138000")
    assert (decision["decision"], decision["reasons"]) == ("reject", ["DENY_LISTED"])
    assert scamtap("lists", "appeal", "deny", "13800138000", "open", *words)[0] == 0
    assert scamtap("lists", "appeal", "deny", "13800138000", "grant", *words)[0] == 0
    assert decide(scamtap, "+8613800138000")["decision"] == "allow"
    code, out, _ = scamtap("lists", "show", "--json")
    shown = json.loads(out)
    assert (code, shown["broken_at"], shown["entries"][0]["appeal"]) == (0, None, "granted")
    assert scamtap("lists", "remove", "deny", "13800138000", *words)[0] == 0


def test_a_prefix_with_a_term_is_shown_with_its_star_and_its_last_day(scamtap):
    words = ("--who", "desk 3", "--why", "reported")
    assert "deny: 86138* added" in scamtap("lists", "add", "deny", "86138*", "--days", "30", *words)[1]
    assert "deny: 86138* appealed" in scamtap("lists", "appeal", "deny", "86138*", "open", *words)[1]
    assert re.search(r"86138\*.*20\d\d-\d\d-\d\d.*open", scamtap("lists", "show")[1])
    assert "deny: 86138* removed" in scamtap("lists", "remove", "deny", "86138*", *words)[1]


def test_a_published_list_is_imported_and_bad_lines_are_told(scamtap, tmp_path):
    file = tmp_path / "numbers.txt"
    file.write_text("+8613700137000,tax\nnonsense\n86136*\n")
    code, out, err = scamtap("lists", "import", file, "--name", "regulator")
    assert code == 0
    assert "1 numbers and 1 prefixes, 1 bad lines" in out
    assert re.search(r"numbers\.txt:2: .*skipped", err)
    assert decide(scamtap, "+8613700137000")["reasons"] == ["DENY_LISTED"]
    assert decide(scamtap, "+8613600136000")["reasons"] == ["DENY_LISTED"]


def test_what_is_imported_is_shown_and_a_decision_names_list_and_version(scamtap, tmp_path):
    file = tmp_path / "numbers.txt"
    file.write_text("+8613700137000,tax\n86136*\n")
    scamtap("lists", "import", file, "--name", "regulator")
    (imported,) = json.loads(scamtap("lists", "show", "--json")[1])["imported"]
    assert (imported["name"], imported["kind"], imported["numbers"], imported["prefixes"]) == (
        "regulator",
        "deny",
        1,
        1,
    )
    assert re.search(r"regulator.*deny.*1 .*1 ", scamtap("lists", "show")[1])
    assert (bool(imported["who"]), imported["why"]) == (True, "published list")
    decision = decide(scamtap, "+8613700137000")
    assert decision["lists"] == [f"deny:regulator@{imported['version']}"]


def test_a_list_that_nobody_imported_is_shown_as_such(scamtap, tmp_path):
    from inference.screening.bulk import read_bulk, save_bulk

    file = tmp_path / "numbers.txt"
    file.write_text("+8613700137000\n")
    scamtap("lists", "import", file, "--name", "regulator", "--who", "desk 3", "--why", "order 12")
    assert re.search(r"regulator.*desk 3.*order 12", scamtap("lists", "show")[1])
    file.write_text("+8613700137001\n")
    save_bulk(tmp_path / "lists", read_bulk(file, "regulator", "deny")[0])
    assert "regulator: is not what was imported" in scamtap("lists", "show")[1]
    assert "the log is whole" in scamtap("lists", "show")[1]


def test_an_appeal_takes_one_number_off_a_published_list_and_no_other(scamtap, tmp_path):
    file, words = tmp_path / "numbers.txt", ("--list", "regulator", "--who", "desk 3", "--why", "sold on")
    file.write_text("86136*\n")
    scamtap("lists", "import", file, "--name", "regulator")
    code, _, err = scamtap("lists", "appeal", "deny", "+8613800138000", "open", *words)
    assert (code, "on no such published list" in err) == (1, True)
    assert "no such list entry" in scamtap("lists", "appeal", "deny", "+8613600136000", "grant", *words)[2]
    for step, action in (("open", "reject"), ("grant", "allow")):
        assert scamtap("lists", "appeal", "deny", "+8613600136000", step, *words)[0] == 0
        assert decide(scamtap, "+8613600136000")["decision"] == action
    assert decide(scamtap, "+8613600136001")["decision"] == "reject"
    file.write_text("86136*\n+8613900139999\n")  # the next edition of the list: the appeal still holds
    scamtap("lists", "import", file, "--name", "regulator")
    assert decide(scamtap, "+8613600136000")["decision"] == "allow"


def test_a_folder_of_lists_that_is_not_there_is_said(scamtap, tmp_path):
    (tmp_path / "lists").rmdir()
    code, _, err = scamtap("screen", "+8613800138000", "--callee", "+8613900139000")
    assert (code, "screening.lists_dir" in err) == (2, True)


def test_a_report_before_the_first_call_says_that_nothing_was_screened_yet(scamtap, monkeypatch, tmp_path):
    monkeypatch.setenv("SCAMTAP__SCREENING__JOURNAL__PATH", str(tmp_path / "journal.db"))
    monkeypatch.setenv("SCAMTAP__SCREENING__JOURNAL__CALLEE_KEY", "a secret")
    code, _, err = scamtap("report", "--from", "2026-11-01", "--to", "2026-12-01")
    assert (code, "no such journal yet" in err) == (2, True)


def test_calls_are_remembered_between_runs(scamtap):
    for _ in range(3):
        decision = decide(scamtap, "+8613800138000")
    assert decision["contributions"] != {}
    assert "1380013" not in json.dumps(decision)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("screen", "1", "--callee", "2", "--trunk", "roof"), "--trunk roof"),
        (("screen", "1", "--callee", "2" * 300), "256 characters"),
        (("lists", "add", "grey", "1", "--who", "x", "--why", "y"), "no such list"),
        (("lists", "add", "deny", "call-me", "--who", "x", "--why", "y"), "is no number"),
        (("lists", "remove", "deny", "13800138000", "--who", "x", "--why", "y"), "no such list entry"),
        (("lists", "add", "deny", "13800138000", "--who", "", "--why", "y"), "--who: want 1 to 200 characters"),
        (("lists", "add", "deny", "13800138000", "--who", "x", "--why", "y" * 501), "--why: want 1 to 500 characters"),
        (("report", "--from", "2026-12-01", "--to", "2026-11-01"), "--to 2026-11-01: want a day after"),
        (("lists", "import", "none.txt", "--name", "x"), "cannot be read"),
    ],
)
def test_mistakes_are_one_line(scamtap, words, said):
    code, _, err = scamtap(*words)
    assert code in (1, 2)
    assert said in err
    assert "Traceback" not in err


def test_simulated_calls_are_written_and_screened(tmp_path):
    from typer.testing import CliRunner

    from inference.cli_simulate import simulate

    out = tmp_path / "calls.jsonl"
    words = ["calls", "--days", "0.1", "--scale", "0.05"]
    assert CliRunner().invoke(simulate, [*words, "--out", str(out)]).exit_code == 0
    calls = [json.loads(line) for line in out.read_text().splitlines()]
    assert calls
    assert all(call["unwanted"] in (True, False) for call in calls)
    done = CliRunner().invoke(simulate, [*words, "--json"])
    body = json.loads(done.output.strip().splitlines()[-1])
    assert body["simulated"] is True
    assert sum(sum(row.values()) for row in body["calls"].values()) == len(calls)


def test_a_share_of_nothing_is_said_to_be_none(capsys):
    from inference.cli_simulate import _print_confusion
    from inference.screening.rehearse_day import Confusion

    _print_confusion(Confusion(), as_json=False)
    assert capsys.readouterr().out.count("none to measure on") == 4
    _print_confusion(Confusion(), as_json=True)
    assert json.loads(capsys.readouterr().out)["unwanted_stopped"] is None


def test_a_report_of_what_was_done(scamtap, tmp_path):
    config = tmp_path / "scamtap.yaml"
    config.write_text(config.read_text() + f"  journal: {{path: {tmp_path}/journal.db, callee_key: secret}}\n")
    for _ in range(2):
        decide(scamtap, "+861088886666", "--trunk", "international")
    page, events = tmp_path / "report.html", tmp_path / "events.csv"
    words = ("--from", "2020-01-01", "--to", "2099-01-01", "--html", page, "--export", events, "--json")
    code, out, err = scamtap("report", *words)
    assert code == 0, err
    figures = json.loads(out)
    assert (figures["intercepted"], figures["by_reason"]) == (2, {"SPOOFED_OWN_RANGE": 2})
    assert figures["journal_broken_at"] is None
    assert "SPOOFED_OWN_RANGE" in page.read_text()
    assert len(events.read_text().splitlines()) == 3
    assert "intercepted" in scamtap("report", "--from", "2020-01-01", "--to", "2099-01-01")[1]
    assert "want a day" in scamtap("report", "--from", "yesterday", "--to", "2099-01-01")[2]


def test_a_report_without_a_journal_says_what_to_set(scamtap):
    code, _, err = scamtap("report", "--from", "2020-01-01", "--to", "2020-02-01")
    assert (code, "screening.journal.path" in err) == (2, True)

"""``scamtap score``: call texts in, one line of judgement each, and bad lines named without their content."""

import json

import pytest


def lines_of(path, *objects):
    path.write_text("".join(json.dumps(one) + "\n" for one in objects))
    return path


def test_score_prints_risk_after_each_turn(run, doubles, tmp_path):
    turns = [
        {"leg": "far", "text": doubles.HELLO.text},
        {"leg": "near", "text": "who is this"},
        {"leg": "far", "text": f"{doubles.THREAT.text}"},
        {"leg": "far", "text": doubles.ASK.text},
    ]
    path = lines_of(
        tmp_path / "calls.jsonl",
        {"id": "scam", "lang": "en", "turns": turns, "label": "is ignored"},
        {"id": 7, "text": doubles.FINE.text},
        {"id": "nothing", "text": ""},
        {"id": "silence", "turns": []},
    )
    code, out, err = run("score", "--json", path)
    assert (code, err) == (0, "")
    scam, fine, nothing, silence = map(json.loads, out.splitlines())
    for scored in (scam, fine, nothing, silence):
        assert list(scored) == ["id", "level", "risk", "first_alert_turn", "family", "stage", "acts"]
    assert (scam["id"], scam["level"], scam["first_alert_turn"]) == ("scam", "danger", 2)
    assert (scam["family"], scam["stage"]) == ("card_otp", "ask")
    assert len(scam["risk"]) == 4
    assert scam["risk"][0] == scam["risk"][1] < scam["risk"][2] < scam["risk"][3]
    assert (fine["id"], fine["level"], fine["first_alert_turn"], fine["family"]) == ("7", "none", None, None)
    assert fine["risk"][0] < 0.05
    assert (nothing["level"], nothing["risk"]) == ("none", [0.05])
    assert (silence["level"], silence["risk"]) == ("none", [])
    code, out, _ = run("score", path)
    assert code == 0
    assert "danger at turn 3, card_otp" in out


BAD_LINES = {
    "not json": ('{"id": "plantedwords', "line 2: is not JSON"),
    "no object": ('["plantedwords"]', "line 2"),
    "no id": ('{"text": "plantedwords"}', "line 2: id: "),
    "both": ('{"id": "x", "text": "plantedwords", "turns": []}', "either 'text' or 'turns'"),
    "neither": ('{"id": "x", "plantedwords": 1}', "either 'text' or 'turns'"),
    "bad leg": ('{"id": "x", "turns": [{"leg": "plantedwords", "text": "a"}]}', "turns.0.leg: "),
    "no language": ('{"id": "x", "lang": "english", "text": "plantedwords"}', "line 2: lang: "),
    "no text": ('{"id": "x", "turns": [{"leg": "far"}]}', "turns.0.text: "),
    "text is a number": ('{"id": "x", "text": 5}', "line 2: text: "),
    "half a surrogate pair": ('{"id": "\\ud800", "text": "plantedwords"}', "line 2: id: "),
    "deep": ("[" * 100_000, "line 2: is not JSON"),
    "huge number": ('{"id": ' + "9" * 5000 + "}", "line 2"),
}


@pytest.mark.parametrize(("line", "why"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_is_named_without_its_content(run, doubles, tmp_path, line, why):
    bad, good = tmp_path / "bad.jsonl", lines_of(tmp_path / "good.jsonl", {"id": "ok", "text": doubles.HELLO.text})
    bad.write_text(json.dumps({"id": "first", "text": "hello"}) + f"\n{line}\n")
    code, out, err = run("score", "--json", bad, good)
    assert code == 1
    assert err.count("\n") == 1
    assert err.startswith(f"scamtap: {bad}: line 2")
    assert why in err
    assert "plantedwords" not in err
    assert [json.loads(scored)["id"] for scored in out.splitlines()] == ["first", "ok"]


def test_score_of_no_text_file_is_one_line(run, tmp_path):
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    code, _, err = run("score", tmp_path / "binary.jsonl", tmp_path / "missing.jsonl", tmp_path)
    assert code == 1
    assert err.count("\n") == 3


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_one_line(run, tmp_path, content):
    (tmp_path / "calls.jsonl").write_text(content)
    code, out, err = run("score", "--json", tmp_path / "calls.jsonl")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "the file is empty" in err


def test_opinions_are_waited_for_where_they_are_configured(run, doubles, endpoint, tmp_path, monkeypatch):
    from inference.service import models

    monkeypatch.setattr(models, "build_scorer", lambda _settings: doubles.ActScorer())
    config = tmp_path / "scamtap.yaml"
    config.write_text(f"opinion: {{url: '{endpoint.url}', model: double, max_taken_nats: 2}}")
    turns = [{"leg": "far", "text": phrase.text} for phrase in (doubles.HELLO, doubles.THREAT)]
    path = lines_of(tmp_path / "calls.jsonl", {"id": "scam", "turns": turns}, {"id": "fine", "text": "hello"})
    without = json.loads(run("score", "--json", path)[1].splitlines()[0])
    assert (without["level"], without["acts"], endpoint.seen) == ("suspect", {"threat": 3.2}, [])
    endpoint.says({1: ["claims_authority"], 2: ["threat"]})
    code, out, err = run("score", "--json", "--config", config, path)
    risen, fine = map(json.loads, out.splitlines())
    assert (code, err, len(endpoint.seen)) == (0, "", 1)
    assert (risen["level"], risen["acts"]) == ("danger", {"threat": 3.2, "claims_authority": 2.0})
    assert fine["level"] == "none"
    endpoint.says({})
    cleared = json.loads(run("score", "--json", "--config", config, path)[1].splitlines()[0])
    assert (cleared["level"], cleared["first_alert_turn"]) == ("suspect", 1)  # it was, for a moment
    assert cleared["risk"][-1] < 0.3 < without["risk"][-1]
    endpoint.status = 500
    code, out, err = run("score", "--json", "--config", config, path)
    assert (code, json.loads(out.splitlines()[0])) == (0, without)
    assert err.strip() == "1 opinion(s) asked for: 1 refused"


def test_a_key_that_is_not_there_is_one_line(run, endpoint, tmp_path, monkeypatch):
    monkeypatch.delenv("SCAMTAP_TEST_KEY", raising=False)
    config = tmp_path / "scamtap.yaml"
    config.write_text(f"opinion: {{url: '{endpoint.url}', model: double, api_key_env: SCAMTAP_TEST_KEY}}")
    path = lines_of(tmp_path / "calls.jsonl", {"id": "x", "text": "hello"})
    code, out, err = run("score", "--config", config, path)
    assert (code, out) == (2, "")
    assert err == "scamtap: opinion.api_key_env: SCAMTAP_TEST_KEY is not set; put the key there, or leave it out\n"


@pytest.mark.parametrize("tag", ["EN", "en-GB"])
def test_a_language_may_be_written_as_a_tag(run, doubles, tmp_path, tag):
    path = lines_of(tmp_path / "calls.jsonl", {"id": "a", "lang": tag, "text": doubles.THREAT.text})
    assert json.loads(run("score", "--json", path)[1])["level"] != "none"


def test_a_language_that_no_model_judges_is_refused(run, tmp_path):
    path = lines_of(tmp_path / "calls.jsonl", {"id": "a", "lang": "fr", "text": "bonjour"})
    code, out, err = run("score", path)
    assert (code, out) == (1, "")
    assert "no intent model here judges fr" in err

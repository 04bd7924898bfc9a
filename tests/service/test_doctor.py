"""``scamtap doctor`` and ``scamtap models`` on machines where something is missing."""

import os
import re

import pytest
import soundfile

from inference.service import doctor

NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


@pytest.fixture
def broken_network(tmp_path, monkeypatch):
    """An empty weight cache, and no way to any source."""
    monkeypatch.setenv("SCAMTAP_HOME", str(tmp_path / "home"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, NOWHERE)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", f"{NOWHERE}/simple")
    return tmp_path / "home"


def test_missing_weights_are_a_line_with_the_remedy(scripted, scamtap, tmp_path):
    ran = scamtap("doctor", scripted=False, env=os.environ | {"SCAMTAP_HOME": str(tmp_path), "SCAMTAP_MODELS": "/none"})
    assert (ran.exit_code, ran.err) == (1, "")
    lines = ran.out.splitlines()
    fixes = [line for line in lines if line.startswith("FIX ")]
    assert any(re.search("weights whisper-base: missing: .*run: scamtap models pull", line) for line in fixes)
    assert any("models do not load" in line and "run: scamtap models pull" in line for line in fixes)
    assert all(line[:4] in ("ok  ", "FIX ", "slow") for line in lines)
    assert any("core(s)" in line for line in lines)
    assert any("receive buffer" in line for line in lines)
    assert any("privacy.legal_basis is not set" in line for line in lines)


def test_all_is_well_where_the_models_are(models, monkeypatch, capfd):
    from inference import cli
    from inference.weights import status

    if any(held.state != "ok" for held in status(deep=False) if not held.training_only):
        pytest.skip("models are built but their weights are gone")
    monkeypatch.setattr("sys.argv", ["scamtap", "doctor"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capfd.readouterr()
    assert (ended.value.code or 0, err) == (0, "")
    assert "FIX" not in out
    assert "models run;" in out


def test_no_server_is_one_line_with_the_remedy(command, monkeypatch):
    monkeypatch.setenv("SCAMTAP__ENGINE__TIMEOUT_S", "1")
    monkeypatch.setenv("SCAMTAP__ENGINE__ATTEMPT_TIMEOUT_S", "1")
    code, out, err = command("doctor", "--engine", "triton://127.0.0.1:9")
    assert (code, err) == (1, "")
    assert "\x1b" not in out
    (line,) = [line for line in out.splitlines() if "Triton" in line]
    assert line.startswith("FIX  models do not load: the Triton server has been away for")
    assert line.endswith("start it (make triton), or set engine.url to where it is")


def test_a_finding_shows_its_remedy_only_where_there_is_something_to_do():
    assert doctor.Finding("a", True, "b").line().plain == "ok   a"
    assert doctor.Finding("a", False, "b").line().plain == "slow a: b"
    assert doctor.Finding("a", False, "b", is_needed=True).line().plain == "FIX  a: b"


@pytest.mark.parametrize("arguments", [(), ("--quiet",), ("whisper-base",)])
def test_pull_without_a_network_is_one_line_and_leaves_nothing(command, broken_network, arguments):
    code, out, err = command("models", "pull", *arguments)
    assert (code, out) == (1, "")
    errors = [line for line in err.splitlines() if line.startswith("scamtap: ")]
    assert len(errors) == 1
    assert "cannot get whisper-base" in errors[0]
    assert "--from DIR" in errors[0]
    assert "Traceback" not in err
    assert not [path for path in broken_network.rglob("*") if path.is_file() and path.stat().st_size]


def test_pull_of_unknown_weights_is_one_line(command, broken_network):
    code, _, err = command("models", "pull", "whisper-bass")
    assert code != 0
    assert err.count("\n") == 1
    assert "whisper-bass" in err


def test_a_clone_without_models_says_what_to_do(command, doubles, monkeypatch, tmp_path):
    """The command a newcomer types first."""
    wav = tmp_path / "call.wav"
    soundfile.write(wav, doubles.speech(doubles.HELLO), 8000)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("SCAMTAP_MODELS", str(tmp_path / "empty"))
    code, _, err = command("replay", wav)
    assert (code, err.count("\n")) == (1, 1)
    assert "run: scamtap models pull" in err


def test_who_is_asked_for_opinions_and_whether_it_answers(endpoint, monkeypatch):
    from inference.config import Settings

    def line(**opinion) -> str:
        return doctor._opinion(Settings(opinion=opinion)).line().plain

    assert line() == "ok   no language model is asked for opinions (opinion.url)"
    assert line(**endpoint.settings).startswith("ok   opinions: answered in ")
    assert endpoint.seen[0].said[0]["words"] == "This is your bank."
    endpoint.writes("Certainly! Here are the acts:")
    assert line(**endpoint.settings).endswith("serve it with structured outputs")
    endpoint.status = 401
    assert line(**endpoint.settings).endswith("check opinion.model and the key")
    endpoint.hold()
    assert "opinion.timeout_s 0.2" in line(**endpoint.settings, timeout_s=0.2)
    assert line(url="http://127.0.0.1:9/v1", model="m").startswith("slow opinions: unreachable in ")
    monkeypatch.delenv("SCAMTAP_TEST_KEY", raising=False)
    fix = line(**endpoint.settings, api_key_env="SCAMTAP_TEST_KEY")
    assert fix.startswith("FIX  opinions cannot be asked for: opinion.api_key_env: SCAMTAP_TEST_KEY is not set")

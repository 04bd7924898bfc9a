"""Who may be asked: nobody by default, and no machine but this one unless that was said outright."""

import pytest
from pydantic import ValidationError

from inference.config import load_settings
from inference.errors import ConfigError
from inference.opinion.config import OpinionConfig

KEY = "sk-plantedkey"
HERE = {"url": "http://127.0.0.1:8000/v1/", "model": "m"}
AWAY = {"url": "https://models.example/v1", "model": "m"}


def test_nobody_is_asked_by_default() -> None:
    assert not OpinionConfig().is_on
    assert OpinionConfig().headers() == {}


def test_loopback_needs_no_more_than_url_and_model() -> None:
    for host in ("127.0.0.1", "localhost", "[::1]"):
        config = OpinionConfig(url=f"http://{host}:8000/v1/", model="m")
        assert (config.is_on, config.url) == (True, f"http://{host}:8000/v1")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (AWAY, "allow_transcripts_to_leave: true"),
        (AWAY | {"url": "http://192.0.2.1/v1", "allow_transcripts_to_leave": True}, "plaintext: true"),
        (AWAY | {"url": "https://127.0.0.1.example/v1"}, "allow_transcripts_to_leave: true"),
        (AWAY | {"url": "http://0.0.0.0:1/v1"}, "allow_transcripts_to_leave: true"),
        ({"url": HERE["url"]}, "url and model go together"),
        ({"model": "m"}, "url and model go together"),
        (HERE | {"url": "ftp://127.0.0.1/v1"}, "must begin with http"),
        (HERE | {"url": f"http://user:{KEY}@127.0.0.1/v1"}, "must hold no user"),
        (HERE | {"url": f"http://127.0.0.1/v1?key={KEY}"}, "must hold no user"),
        (HERE | {"api_key_env": KEY}, "api_key_env"),
        (HERE | {"api_key": KEY}, "api_key"),
        (HERE | {"max_added_nats": -1}, "max_added_nats"),
        (HERE | {"timeout_s": 31}, "timeout_s"),
    ],
)
def test_refused_in_one_line_that_repeats_no_secret(values: dict[str, object], why: str, tmp_path, monkeypatch) -> None:
    with pytest.raises(ValidationError):
        OpinionConfig.model_validate(values)
    path = tmp_path / "scamtap.yaml"
    path.write_text(f"opinion: {values}".replace("True", "true"))
    with pytest.raises(ConfigError) as refused:
        load_settings(path)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)
    assert KEY not in str(refused.value)


def test_another_machine_where_the_operator_says_so() -> None:
    assert OpinionConfig.model_validate(AWAY | {"allow_transcripts_to_leave": True}).is_on
    private = {"url": "http://192.0.2.1:8000/v1", "allow_transcripts_to_leave": True, "plaintext": True}
    assert OpinionConfig.model_validate(AWAY | private).is_on


def test_the_key_comes_from_the_environment_alone(monkeypatch) -> None:
    config = OpinionConfig.model_validate(HERE | {"api_key_env": "SCAMTAP_TEST_KEY"})
    monkeypatch.setenv("SCAMTAP_TEST_KEY", f"{KEY}\n")
    assert config.headers() == {"authorization": f"Bearer {KEY}"}
    assert KEY not in repr(config) + config.model_dump_json()
    for bad in ("", "  ", f"{KEY}\r\nx: y", f"{KEY}é"):
        monkeypatch.setenv("SCAMTAP_TEST_KEY", bad)
        with pytest.raises(ConfigError, match="SCAMTAP_TEST_KEY") as refused:
            config.headers()
        assert KEY not in str(refused.value)


def test_certificates_that_are_none(tmp_path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "missing.pem"):
        config = OpinionConfig.model_validate(HERE | {"ca_path": tmp_path / name})
        with pytest.raises(ConfigError, match="ca_path"):
            config.tls()
    assert OpinionConfig.model_validate(HERE).tls() is True

import builtins

import pytest
from pydantic import ValidationError

from inference.alerts.config import AlertsConfig, KafkaConfig, NatsConfig, RedisConfig
from inference.config import load_settings
from inference.errors import ConfigError

SECRET = "whsec_QUJDQUJDQUJDQUJDQUJDQUJD"
NATS = {"servers": ["nats://127.0.0.1:4222"]}
KAFKA = {"servers": ["127.0.0.1:9092"]}
REDIS = {"url": "redis://127.0.0.1:6379"}


@pytest.mark.parametrize("values", [
    {"webhook_url": "https://x.test"},
    {"webhook_secret": SECRET},
    {"webhook_url": "ftp://x", "webhook_secret": SECRET},
    {"webhook_url": "https://user:pass@x.test", "webhook_secret": SECRET},
    {"webhok": 1},
    {"source": "no uri"},
    {"source": ""},
    {"webhook_tls": {"cert_path": "only.pem"}},
    {"nats": {"servers": []}},
    {"nats": {"servers": ["127.0.0.1:4222"]}},
    {"nats": {"servers": ["nats://a:4222", "tls://b:4222"]}},
    {"nats": {"servers": ["nats://user:pass@a:4222"]}},
    {"nats": NATS | {"subject": "scamtap.>"}},
    {"nats": NATS | {"subject": "two words"}},
    {"nats": NATS | {"user": "u"}},
    {"nats": NATS | {"user": "u", "password": "p", "token": "t"}},
    {"kafka": {"servers": ["kafka://a:9092"]}},
    {"kafka": {"servers": ["a"]}},
    {"kafka": {"servers": ["a:0"]}},
    {"kafka": KAFKA | {"topic": "no topic"}},
    {"kafka": KAFKA | {"user": "u"}},
    {"kafka": KAFKA | {"user": "u", "password": "p", "sasl": "PLAIN"}},
    {"redis": {"url": "http://a"}},
    {"redis": {"url": "redis://:pass@a"}},
    {"redis": REDIS | {"max_entries": 0}},
])  # fmt: skip
def test_what_could_never_work_or_is_unsafe_is_refused(values):
    with pytest.raises(ValidationError):
        AlertsConfig(**values)


@pytest.mark.parametrize("url", ["https://x:port", "http://xn--a\n", "https://", "mailto:a@b", "http://a b"])
def test_urls_that_could_never_work_are_refused_at_the_start(url):
    with pytest.raises(ValueError, match="webhook_url"):
        AlertsConfig(webhook_url=url, webhook_secret=SECRET)


def test_credentials_are_in_no_representation():
    config = AlertsConfig(
        webhook_url="https://ops.test/hunter2",
        webhook_secret=SECRET,
        nats=NATS | {"user": "u", "password": "hunter2"},
        kafka=KAFKA | {"user": "u", "password": "hunter2"},
        redis=REDIS | {"password": "hunter2"},
    )
    assert "hunter2" not in repr(config)
    assert SECRET not in repr(config)


def test_a_url_with_a_password_is_refused_without_repeating_it(tmp_path):
    path = tmp_path / "scamtap.yaml"
    path.write_text("alerts: {redis: {url: 'redis://:hunter2@127.0.0.1:6379'}}\n")
    with pytest.raises(ConfigError, match=r"alerts.redis.url") as refused:
        load_settings(path)
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_sink_can_be_configured_and_its_secrets_come_from_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "scamtap.yaml"
    path.write_text(
        "alerts:\n"
        f"  jsonl_path: {tmp_path}/alerts.jsonl\n"
        "  webhook_url: https://ops.test/hook\n"
        "  nats: {servers: ['nats://127.0.0.1:4222'], user: scamtap}\n"
        "  kafka: {servers: ['127.0.0.1:9092']}\n"
        "  redis: {url: 'redis://127.0.0.1:6379/1'}\n"
    )
    monkeypatch.setenv("SCAMTAP__ALERTS__WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("SCAMTAP__ALERTS__NATS__PASSWORD", "hunter2")
    alerts = load_settings(path).alerts
    assert alerts.nats.password.get_secret_value() == "hunter2"
    assert [sink.name for sink in alerts.sinks()] == ["jsonl", "webhook", "nats", "kafka", "redis"]


@pytest.mark.parametrize(
    ("client", "values"),
    [("nats", {"nats": NatsConfig(**NATS)}), ("aiokafka", {"kafka": KafkaConfig(**KAFKA)}),
     ("redis", {"redis": RedisConfig(**REDIS)})],
)  # fmt: skip
def test_a_client_that_is_not_installed_is_one_line_with_the_remedy(client, values, monkeypatch):
    import sys

    real = builtins.__import__

    def without(name, *arguments, **more):
        if name.partition(".")[0] == client:
            raise ModuleNotFoundError(f"No module named '{client}'", name=client)
        return real(name, *arguments, **more)

    monkeypatch.delitem(sys.modules, f"inference.alerts.sinks.{next(iter(values))}", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    remedy = f"^alerts.{next(iter(values))}: {client} is not installed; run: pip install 'scamtap\\[sinks\\]'$"
    with pytest.raises(ConfigError, match=remedy):
        AlertsConfig(**values).sinks()


def test_dead_letters_lie_beside_the_outbox_unless_told_otherwise(tmp_path):
    assert AlertsConfig().dead_letters() is None
    beside = AlertsConfig(outbox_path=tmp_path / "outbox.db").dead_letters()
    assert beside.path == tmp_path / "outbox.db.dead.jsonl"
    elsewhere = AlertsConfig(outbox_path=tmp_path / "outbox.db", dead_letter_path=tmp_path / "x").dead_letters()
    assert elsewhere.path == tmp_path / "x"

"""Settings: defaults, the file, the environment over it, and one line for every mistake."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from inference.config import Settings, load_settings
from inference.errors import ConfigError

SHIPPED = Path(__file__).resolve().parents[1] / "configs" / "scamtap.yaml"
SECRET = "whsec_" + "QUJD" * 8


@pytest.fixture
def load(tmp_path):
    """``load(text)``: settings from a file of that text."""

    def load(text):
        path = tmp_path / "scamtap.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_settings(path)

    return load


@pytest.fixture
def refuse(load):
    """``refuse(text)``: the one line with which it is refused."""

    def refuse(text):
        with pytest.raises(ConfigError) as refused:
            load(text)
        line = str(refused.value)
        assert "\n" not in line
        assert refused.value.exit_code == 2
        return line

    return refuse


def test_defaults_need_no_file_and_give_no_legal_basis():
    settings = load_settings()
    assert settings == Settings()
    assert settings.privacy.legal_basis is None
    assert not settings.alerts.include_text
    assert not settings.api.include_text
    assert settings.api.host == "127.0.0.1"


def test_an_empty_file_is_the_defaults(load):
    assert load("# nothing\n") == Settings()


def test_the_shipped_file_loads_and_is_the_defaults():
    assert load_settings(SHIPPED) == Settings()


def test_what_the_shipped_file_only_mentions_exists_too(load):
    text = SHIPPED.read_text()
    commented = text[text.index("# calls:") :]
    calls = "\n".join(line.removeprefix("# ") for line in commented.splitlines())
    assert [call.id for call in load(calls).calls] == ["line-1"]


def test_ways_back_that_the_shipped_file_only_mentions_exist_too(load):
    text = SHIPPED.read_text()
    commented = text[text.index("#   asterisk:") : text.index("\napi:")]
    ways = "\n".join(line.removeprefix("# ") for line in commented.splitlines())
    warnings = load(f"warnings:\n  sounds_url: https://sounds.example\n{ways}").warnings
    for way in ("asterisk", "freeswitch", "jambonz", "twilio", "sip", "sms"):
        assert getattr(warnings, way) is not None


def test_the_opinion_that_the_shipped_file_only_mentions_can_be_asked_for(load):
    text = SHIPPED.read_text()
    block = text[text.index("opinion:\n") : text.index("\n# When the models")]
    assert not load(block).opinion.is_on
    named = re.sub(r"(?m)^  # ", "  ", block).replace("model: null", "model: m")
    named = named.replace("url: null", "url: http://192.0.2.1/v1")
    opinion = load(named).opinion
    assert (opinion.is_on, opinion.api_key_env, opinion.plaintext) == (True, "SCAMTAP_OPINION_KEY", True)


def test_variables_that_the_shipped_file_names_exist(monkeypatch, load):
    for name in re.findall(r"SCAMTAP__\w+", SHIPPED.read_text()):
        monkeypatch.setenv(name, SECRET)
    loaded = load(
        "alerts: {webhook_url: 'https://ops.example/hook'}\n"
        "warnings: {asterisk: {url: 'http://a/ari', user: u, media: 'sound:{name}'}}\n"
    )
    assert loaded.alerts.webhook_secret is not None
    assert loaded.warnings.asterisk.password.get_secret_value() == SECRET


def test_the_environment_lies_over_the_file(monkeypatch, load):
    monkeypatch.setenv("SCAMTAP__ALERTS__WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("SCAMTAP__API__PORT", "9000")
    monkeypatch.setenv("SCAMTAP__MEDIA__PORTS", "[40000, 40002]")
    monkeypatch.setenv("SCAMTAP__PRIVACY__LEGAL_BASIS", "from the environment")
    settings = load(
        "alerts: {webhook_url: 'https://ops.example/hook', include_text: true}\n"
        "api: {port: 8000, include_text: true}\nprivacy: {legal_basis: from the file}\n"
    )
    assert settings.alerts.webhook_secret.get_secret_value() == SECRET
    assert settings.alerts.include_text  # what the environment does not name stays as in the file
    assert (settings.api.port, settings.api.include_text) == (9000, True)
    assert settings.media.ports == (40000, 40002)
    assert settings.privacy.legal_basis == "from the environment"


def test_secrets_are_not_shown(monkeypatch):
    monkeypatch.setenv("SCAMTAP__ALERTS__WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("SCAMTAP__ALERTS__WEBHOOK_URL", "https://ops.example/hook")
    monkeypatch.setenv("SCAMTAP__API__TOKEN", SECRET)
    shown = repr(load_settings()) + load_settings().model_dump_json()
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("privcy: {legal_basis: x}", "unknown setting 'privcy'; did you mean 'privacy'?"),
        ("privacy: {legal_bases: xyz}", "unknown setting 'privacy.legal_bases'; did you mean 'legal_basis'?"),
        ("zzz: 1", "unknown setting 'zzz'"),
        ("_env_file: x", "unknown setting '_env_file'"),
        ("1: 2", "unknown setting '1'"),
        (
            "calls: [{id: a, far: {local_prt: 1}, near: {local_port: 2}}]",
            "unknown setting 'calls.0.far.local_prt'; did you mean 'local_port'?",
        ),
        ("api: {port: many}", "api.port: "),
        ("api: {port: 70000}", "api.port: "),
        ("api: {host: 0.0.0.0}", "set api.token"),
        ("api: 5", "api: "),
        ("privacy:", "privacy: "),
        ("privacy: {legal_basis: ''}", "privacy.legal_basis: "),
        ("privacy: {legal_basis: '     '}", "privacy.legal_basis: "),
        ("media: {ports: []}", "media.ports: "),
        ("media: {ring_samples: 10000}", "power of two"),
        ("segmenter: {detector: silero}", "segmenter.detector: Input should be 'network' or 'webrtc'"),
        ("segmenter: {webrtc_mode: 4}", "segmenter.webrtc_mode: "),
        ("segmenter: {threshold: 0.1}", "exit_threshold must not exceed threshold"),
        ("speech: {language: fr}", "speech.language: "),
        ("verdict: {suspect_llr: 9, danger_llr: 5}", "suspect_llr <= danger_llr"),
        ("watch: {max_calls: 0}", "watch.max_calls: "),
        ("watch: {max_calls: 3000}", "watch.max_calls 3000 needs media.max_legs 6000, two a call; it is 4096"),
        ("watch: {scheduler: {overload: {refuse_from_s: 0.1}}}", "long_hop_from_s <= gate_only_from_s"),
        ("log: {level: loud}", "log.level: "),
        ("alerts: {webhook_url: 'https://x.example'}", "webhook_url and webhook_secret go together"),
        ("alerts: {webhook_url: 'ftp://x', webhook_secret: s}", "must begin with http"),
        ("alerts: {webhook_url: 'https://', webhook_secret: s}", "name a host"),
        ("alerts: {webhook_url: 'https://x:port', webhook_secret: s}", "must begin with http"),
        ("alerts: {webhook_timeout_s: 0}", "alerts.webhook_timeout_s: "),
        ("warnings: {fallbacks: [sms]}", "fallbacks names 'sms'"),
        ("warnings: {opt_out_path: x}", "opt_out_path and opt_out_key go together"),
        ("warnings: {sms: {ulr: x}}", "unknown setting 'warnings.sms.ulr'"),
        ("segmenter: {max_segment_s: 28}\nspeech: {silence_s: 5}", "must not exceed 30"),
        ("calls: [{id: '../x', far: {local_port: 1}, near: {local_port: 2}}]", "calls.0.id: "),
        ("calls: [{id: a, far: {local_port: 1}, near: {local_port: 1}}]", "far and near share a port"),
        ("screening: {rules: {region: UK}}", "region 'UK' has no numbering plan"),
        ("- a list", "want a mapping"),
        ("just words", "want a mapping"),
        ("a: [1, 2", "not valid YAML at line 1"),
        ("a: 1\n\tb: 2", "not valid YAML at line 2"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        (b"\xff\xfe", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(refuse, text, words):
    line = refuse(text)
    assert words in line
    assert "scamtap.yaml" in line


def test_the_shipped_file_says_how_to_screen_and_each_line_of_it_loads(load):
    block = re.search(r"^screening:\n(?:  .*\n)+", SHIPPED.read_text(), re.M)
    assert block is not None
    screening = load(re.sub(r"^  # (?=\w+: )", "  ", block[0], flags=re.M)).screening
    assert screening.redis is not None
    assert screening.stir is not None
    assert load(block[0]).screening == Settings().screening  # what it shows are the defaults


def test_several_mistakes_are_counted(refuse):
    assert "(and 1 more)" in refuse("api: {port: many}\nlog: {level: loud}")


def test_a_secret_given_wrong_is_not_in_the_error(refuse):
    assert SECRET not in refuse(f"alerts: {{webhook_secret: [{SECRET}]}}")
    assert SECRET not in refuse(f"api: {{token: [{SECRET}]}}")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SCAMTAP__MEDIA__PORTS", "40000,40002", "media"),
        ("SCAMTAP__API__PORT", "many", "api.port"),
        ("SCAMTAP__API__PRT", "1", "unknown setting 'api.prt'; did you mean 'port'?"),
        ("SCAMTAP__APY__PORT", "1", "unknown setting 'SCAMTAP__APY__PORT'"),
        ("SCAMTAP__API", "{not json", "api"),
    ],
)
def test_a_mistake_in_the_environment_is_one_line(monkeypatch, name, value, words):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        load_settings()
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_file_no_folder(tmp_path):
    for path, why in ((tmp_path / "missing.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=why) as refused:
            load_settings(path)
        assert str(path) in str(refused.value)


@pytest.mark.parametrize("command", ["serve", "replay x.wav", "score x.jsonl", "doctor"])
def test_every_command_refuses_a_bad_config_alike(command, tmp_path, monkeypatch, capfd):
    from inference import cli

    config = tmp_path / "bad.yaml"
    config.write_text("privcy: {}\n")
    monkeypatch.setattr("sys.argv", ["scamtap", *shlex.split(command), "--config", str(config)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capfd.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err == f"scamtap: {config}: unknown setting 'privcy'; did you mean 'privacy'?\n"


def test_the_shipped_file_is_plain_yaml():
    assert set(yaml.safe_load(SHIPPED.read_text())) <= set(Settings.model_fields)


def test_latched_recordings_need_ports_of_their_own(load, refuse):
    latch = "gateways: {siprec: {latch: true}}"
    line = refuse(latch)
    assert "gateways.siprec.latch needs media.exclusive_ports" in line
    assert load(f"media: {{exclusive_ports: [46100, 46199]}}\n{latch}").gateways.siprec.latch
    assert not load("gateways: {siprec: {}}").gateways.siprec.latch

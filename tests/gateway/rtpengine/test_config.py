"""Settings of rtpengine: what is shipped reads, what contradicts itself is refused in one line."""

from pathlib import Path

import pytest
import yaml

from inference.config import load_settings
from inference.errors import ConfigError
from inference.gateway.rtpengine.config import RtpengineConfig

SHIPPED = Path(__file__).parents[3] / "configs" / "scamtap.yaml"


def test_the_shipped_example_reads():
    text = SHIPPED.read_text()
    block = text[text.index("# gateways:") :].split("\n\n")[0]
    lines = [line.removeprefix("# ") for line in block.splitlines()]
    config = RtpengineConfig(**yaml.safe_load("\n".join(lines))["gateways"]["rtpengine"])
    assert config.nodes[0].host_and_port == ("127.0.0.1", 2223)


def test_nothing_need_be_said():
    config = RtpengineConfig()
    assert config.nodes[0].address == "127.0.0.1:2223"
    assert config.caller_while_warning == "held"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("nodes: []", "nodes"),
        ("nodes: [{address: localhost}]", "host:port"),
        ("nodes: [{address: 'localhost:0'}]", "host:port"),
        ("nodes: [{address: 'localhost:99999'}]", "host:port"),
        ("nodes: [{name: a}, {name: a, address: '10.0.0.1:2223'}]", "two nodes have one name"),
        ("nodes: [{transport: tcp, encoding: json}]", "bencode alone"),
        ("far_label: near", "must differ"),
        ("near_label: 'a b'", "near_label"),
        ("worker: 1", "worker counts from 0"),
        ("caller_while_warning: maybe", "caller_while_warning"),
        ("pol_s: 1", "unknown setting"),
    ],
)
def test_what_is_refused(tmp_path, settings, says):
    path = tmp_path / "scamtap.yaml"
    path.write_text(f"gateways:\n  rtpengine:\n    {settings}\n")
    with pytest.raises(ConfigError, match=says) as refused:
        load_settings(path)
    assert "\n" not in str(refused.value)

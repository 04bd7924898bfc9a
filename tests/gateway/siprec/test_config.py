"""Configuration: nobody is let in by mistake."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from inference.gateway.siprec.admission import AllowList
from inference.gateway.siprec.config import SiprecConfig

TLS = {"certificate": "c.pem", "key": "k.pem"}
DIGEST = {"users": {"sbc": "a long password"}}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"listen": ["udp:[::1]:5060"]},
        {"listen": ["udp:192.0.2.1:5060"], "allow_from": ["192.0.2.10", "2001:db8::/64"]},
        {"listen": ["tcp:192.0.2.1:5060"], "digest": DIGEST},
        {"listen": ["tls:192.0.2.1:5061"], "tls": TLS | {"client_ca": "ca.pem"}},
        {"listen": ["udp:0.0.0.0:5060"], "allow_from": ["192.0.2.10"], "advertised": "192.0.2.1"},
        {"near_numbers": ["+1555", "@ims.example", "^0800[0-9]+"], "near_side": "first"},
        {"info": {}},
        {"info": {"name": "sbc", "timeout_s": 1}, "ear": "sbc"},
        {"ear": "asterisk"},
    ],
)
def test_good(config):
    SiprecConfig(**config)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"listen": ["udp:192.0.2.1:5060"]}, "beyond loopback"),
        ({"listen": ["udp:127.0.0.1:5060", "tcp:192.0.2.1:5060"]}, "beyond loopback"),
        ({"listen": ["tls:192.0.2.1:5061"], "tls": TLS}, "beyond loopback"),
        ({"listen": ["udp:192.0.2.1:5060"], "tls": TLS | {"client_ca": "ca.pem"}}, "beyond loopback"),
        ({"listen": ["tls:127.0.0.1:5061"]}, "tls is missing"),
        ({"listen": ["udp:0.0.0.0:5060"], "allow_from": ["192.0.2.10"]}, "advertised is missing"),
        ({"listen": ["sctp:127.0.0.1:5060"]}, "not like udp:"),
        ({"listen": ["udp:localhost:5060"]}, "not like udp:"),
        ({"listen": ["udp:127.0.0.1:99999"]}, "not like udp:"),
        ({"listen": ["udp:1.2.3:5060"]}, "not like udp:"),
        ({"listen": []}, "at least 1"),
        ({"allow_from": ["0.0.0.0/0"]}, "no allow-list"),
        ({"allow_from": ["sbc.example"]}, "want addresses or networks"),
        ({"near_numbers": ["^(x"]}, "has a mistake"),
        ({"near_side": "third"}, "first"),
        ({"info": {}, "ear": "asterisk"}, "two ways back"),
        ({"info": {"timeout_s": 0}}, "greater than 0"),
        ({"nearside": "first"}, "Extra inputs"),
    ],
)
def test_bad(config, why):
    with pytest.raises(ValidationError, match=why):
        SiprecConfig(**config)


def test_allow_list():
    allowed = AllowList(["192.0.2.0/28", "2001:db8::1"])
    for host in ("192.0.2.15", "2001:db8::1", "::ffff:192.0.2.3"):
        assert allowed(host)
    for host in ("192.0.2.16", "2001:db8::2", "::ffff:198.51.100.1", "fe80::1%eth0", "nonsense"):
        assert not allowed(host)
    assert AllowList(None)("203.0.113.1")
    assert not AllowList(())("127.0.0.1")


def test_the_block_in_the_settings_file_is_valid(tmp_path):
    """Uncommented, as an operator would."""
    import re

    from inference.config import load_settings

    text = (Path(__file__).parents[3] / "configs" / "scamtap.yaml").read_text()
    block = text[text.index("# gateways:\n") :].partition("\n\n")[0]
    block = "".join(line.removeprefix("# ") + "\n" for line in block.splitlines() if line.startswith("# "))
    tls = re.search(r"^    # (tls: .*)$", block, re.MULTILINE)[1]
    path = tmp_path / "scamtap.yaml"
    path.write_text(block.replace("    # digest:", "    digest:").replace(f"    # {tls}", f"    {tls}"))
    siprec = load_settings(path).gateways.siprec
    assert [listener.transport for listener in siprec.listeners] == ["udp", "tcp"]
    assert siprec.tls.client_ca is not None
    assert siprec.digest is not None
    assert siprec.info.name == "siprec"

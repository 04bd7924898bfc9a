"""The MESSAGE client against real peers: Kamailio, which checks it and relays it, and SIPp as the telephone."""

import asyncio
import shutil
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from inference.alerts.announcements import load_announcements
from inference.alerts.ear import Reach
from inference.alerts.ears.sip import SipMessageConfig, SipMessageEar
from inference.errors import AlertError
from tests.peers import Peer, free_port, free_ports, listens, started

pytestmark = [
    pytest.mark.gateway,
    pytest.mark.skipif(
        not (shutil.which("kamailio") and shutil.which("sipp")), reason="needs Debian's kamailio and sip-tester"
    ),
]

SCENARIO = Path(__file__).with_name("message_uas.xml")
PROXY = """
debug=0
log_stderror=yes
children=2
disable_tcp=yes
listen=udp:127.0.0.1:{port}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "sanity.so"
loadmodule "textops.so"
loadmodule "siputils.so"
modparam("tm", "fr_timer", 1000)
request_route {{
  if (!sanity_check("17895", "7")) exit;
  if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
  if (!is_method("MESSAGE")) {{ sl_send_reply("405", "Method Not Allowed"); exit; }}
  if ($rU != "+442079460000") {{ sl_send_reply("404", "Not Found"); exit; }}
  $du = "sip:127.0.0.1:{telephone}";
  t_relay();
}}
"""


@pytest.fixture
def peers(tmp_path):
    """The proxy's port, the telephone's process and what it showed; both are stopped by pid at the end."""
    log = tmp_path / "telephone.log"

    def start_telephone():
        port = free_port()
        command = ["sipp", "-sf", SCENARIO, "-i", "127.0.0.1", "-p", port, "-mp", free_ports(4), "-nostdin",
                   "-trace_logs", "-log_file", log]  # fmt: skip
        return port, Peer(command, tmp_path / "sipp.log", lambda: listens(port, socket.SOCK_DGRAM), cwd=tmp_path)

    def start_proxy(telephone):
        port, config = free_port(), tmp_path / "kamailio.cfg"
        config.write_text(PROXY.format(port=port, telephone=telephone))
        command = ["kamailio", "-DD", "-E", "-f", config, "-Y", tmp_path, "-P", tmp_path / "pid", "-m", "16", "-M", "4"]
        return port, Peer(command, tmp_path / "kamailio.log", lambda: listens(port, socket.SOCK_DGRAM))

    telephone, sipp = started(start_telephone)
    with sipp:
        port, kamailio = started(lambda: start_proxy(telephone))
        with kamailio:
            yield SimpleNamespace(
                port=port, telephone=sipp, shown=lambda: log.read_text("utf-8") if log.exists() else ""
            )


def send(port: int, subscriber: str, language: str) -> None:
    async def run():
        ear = SipMessageEar(SipMessageConfig(host="127.0.0.1", port=port, domain="ims.example"))
        await ear.play(Reach(subscriber=subscriber), load_announcements().pick("danger", "tax", language))

    asyncio.run(run())


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_line_arrives_on_the_telephone(peers, language):
    send(peers.port, "tel:+44 20 7946 0000", language)
    line = load_announcements().pick("danger", "tax", language).text
    deadline = time.monotonic() + 60
    while line not in peers.shown():
        assert time.monotonic() < deadline, peers.shown()
        time.sleep(0.02)


def test_a_subscriber_whom_the_proxy_does_not_know_is_one_line(peers):
    with pytest.raises(AlertError, match=r"^sip answered 404$"):
        send(peers.port, "+15550100", "en")


def test_a_telephone_that_is_off_is_one_line(peers):
    peers.telephone.close()
    with pytest.raises(AlertError, match=r"^sip answered [45]\d\d$"):
        send(peers.port, "+442079460000", "en")

"""The MESSAGE client against real peers: Kamailio, which checks it and relays it, and SIPp as the telephone."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from inference.alerts.announcements import load_announcements
from inference.alerts.ear import Reach
from inference.alerts.ears.sip import SipMessageConfig, SipMessageEar
from inference.errors import AlertError

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


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 10
    wanted = f":{port:04X} "
    while wanted not in Path("/proc/net/udp").read_text():
        assert process.poll() is None, "the peer ended before it listened"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def end(process: subprocess.Popen) -> None:
    """Stop a peer and whatever it started, by its own process group; none outlives its test, however busy we are."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def peers(tmp_path):
    """The proxy's port, the telephone's process and what it showed; both are stopped by pid at the end."""
    port, telephone, log = free_port(), free_port(), tmp_path / "telephone.log"
    config = tmp_path / "kamailio.cfg"
    config.write_text(PROXY.format(port=port, telephone=telephone))
    kamailio = subprocess.Popen(
        ["kamailio", "-DD", "-E", "-f", config, "-Y", tmp_path, "-P", tmp_path / "pid", "-m", "16", "-M", "4"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    sipp = subprocess.Popen(
        ["sipp", "-sf", SCENARIO, "-i", "127.0.0.1", "-p", str(telephone), "-nostdin", "-trace_logs", "-log_file", log],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        start_new_session=True,
    )
    try:
        wait_for(port, kamailio)
        wait_for(telephone, sipp)
        yield SimpleNamespace(port=port, telephone=sipp, shown=lambda: log.read_text("utf-8") if log.exists() else "")
    finally:
        for process in (sipp, kamailio):
            end(process)


def send(port: int, subscriber: str, language: str) -> None:
    async def run():
        ear = SipMessageEar(SipMessageConfig(host="127.0.0.1", port=port, domain="ims.example"))
        await ear.play(Reach(subscriber=subscriber), load_announcements().pick("danger", "tax", language))

    asyncio.run(run())


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_line_arrives_on_the_telephone(peers, language):
    send(peers.port, "tel:+44 20 7946 0000", language)
    line = load_announcements().pick("danger", "tax", language).text
    deadline = time.monotonic() + 5
    while line not in peers.shown():
        assert time.monotonic() < deadline, peers.shown()
        time.sleep(0.02)


def test_a_subscriber_whom_the_proxy_does_not_know_is_one_line(peers):
    with pytest.raises(AlertError, match=r"^sip answered 404$"):
        send(peers.port, "+15550100", "en")


def test_a_telephone_that_is_off_is_one_line(peers):
    end(peers.telephone)
    with pytest.raises(AlertError, match=r"^sip answered [45]\d\d$"):
        send(peers.port, "+442079460000", "en")

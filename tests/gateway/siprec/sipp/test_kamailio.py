"""Kamailio between SIPp and us: Record-Route, loose routes, Via of two hops, and a change of transport on the way."""

import asyncio
import contextlib
import shutil
from pathlib import Path

import pytest

from tests.peers import Peer, free_port, listens, started

KAMAILIO = shutil.which("kamailio")
CONFIG = Path(__file__).parents[2] / "sipp" / "proxy.cfg"
TLS_MODULE = next(Path("/usr/lib").glob("*/kamailio/modules/tls.so"), None)
pytestmark = [
    pytest.mark.gateway,
    pytest.mark.skipif(KAMAILIO is None, reason="needs kamailio: apt-get install kamailio"),
]


@contextlib.asynccontextmanager
async def proxy(folder, target, tls=()):
    """Kamailio, relaying to ``target``, over TLS with those lines of its tls.cfg; gives its port."""
    port, kamailio = await asyncio.to_thread(started, lambda: start_proxy(folder, target, tls))
    try:
        yield port
    finally:
        await asyncio.to_thread(kamailio.close)


def start_proxy(folder, target, tls):
    port = free_port()
    path = folder / "proxy.cfg"
    text = CONFIG.read_text().replace("LISTEN", f"127.0.0.1:{port}").replace("TARGET", target)
    if tls:
        (folder / "tls.cfg").write_text("\n".join(tls))
        loads = f'loadmodule "tls.so"\nmodparam("tls", "config", "{folder}/tls.cfg")\n'
        text = text.replace(
            "auto_aliases=no\n", f"auto_aliases=no\nenable_tls=yes\nlisten=tls:127.0.0.1:{free_port()}\n"
        )
        text = text.replace("\nrequest_route", f"{loads}\nrequest_route")
    path.write_text(text)
    command = [KAMAILIO, "-f", path, "-DD", "-E", "-m", "32", "-M", "4", "-Y", folder, "-w", folder]
    return port, Peer(command, folder / "kamailio.log", lambda: listens(port), cwd=folder)


@pytest.mark.parametrize("inner", ["udp", "tcp"])
@pytest.mark.parametrize(("outer", "transport"), [("udp", "u1"), ("tcp", "t1")])
def test_a_recording_through_a_proxy(live, src, tmp_path, inner, outer, transport):
    async def run():
        async with live() as (worker, ports):
            target = f"sip:127.0.0.1:{ports[inner]};transport={inner}"
            async with proxy(tmp_path, target) as port:
                codes = [
                    await src.run(scenario, port, transport=transport, length_ms=300)
                    for scenario in ("src", "changes", "options")
                ]
            return codes, worker.gateways[0].agent.counts, worker.watch.call_ids

    codes, counts, call_ids = asyncio.run(run())
    assert codes == [0, 0, 0]
    assert call_ids == []
    assert counts["ended: bye"] == 2


@pytest.mark.skipif(TLS_MODULE is None, reason="needs kamailio-tls-modules")
@pytest.mark.parametrize("shows_certificate", [True, False])
def test_a_recording_over_kamailios_tls(live, src, tmp_path, certificates, shows_certificate):
    """Let in by its certificate, without a password; without one, kept out at the handshake."""
    tls = {name: certificates / f"server.{end}" for name, end in (("certificate", "pem"), ("key", "key"))}
    siprec = {"listen": ["tls:127.0.0.1:0"], "tls": tls | {"client_ca": certificates / "ca.pem"}}
    siprec["digest"] = {"users": {"sbc1": "correct-horse-battery"}}
    lines = [
        "[server:default]",
        "method = TLSv1.2+",
        f"certificate = {tls['certificate']}",
        f"private_key = {tls['key']}",
    ]
    lines += ["[client:default]", "method = TLSv1.2+", "verify_certificate = yes", f"ca_list = {certificates}/ca.pem"]
    if shows_certificate:
        lines += [f"certificate = {certificates}/client.pem", f"private_key = {certificates}/client.key"]

    async def run():
        async with live(**siprec) as (worker, ports):
            async with proxy(tmp_path, f"sip:127.0.0.1:{ports['tls']};transport=tls", lines) as port:
                code = await src.run("src", port, length_ms=300, timeout_s=60 if shows_certificate else 10)
            return code, worker.gateways[0].agent.counts["ended: bye"]

    code, ended = asyncio.run(run())
    assert (code == 0, ended) == (shows_certificate, int(shows_certificate))


def test_we_hang_up_through_the_proxy(live, src, tmp_path):
    """Our BYE takes the route that the INVITE recorded; SIPp says that it got one it did not expect."""

    async def run():
        async with live() as (worker, ports):
            async with proxy(tmp_path, f"sip:127.0.0.1:{ports['udp']};transport=udp") as port:
                playing = asyncio.create_task(src.run("src", port, length_ms=5000))
                async with asyncio.timeout(60):
                    while not worker.watch.call_ids:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
                await worker.watch.end(worker.watch.call_ids[0])
                worker.gateways[0].sweep()
                await playing
            return worker.gateways[0].agent.counts

    counts = asyncio.run(run())
    assert counts["ended: hung up"] == 1
    said = "".join(path.read_text() for path in tmp_path.glob("src_*_errors.log"))
    assert "unexpected BYE" in said

"""Whose certificate is taken."""

import asyncio
import contextlib
import ssl

import pytest


@contextlib.asynccontextmanager
async def tls_in_front(port, context):
    """SIPp from Debian has no TLS: what it sends over TCP goes on over TLS."""

    async def pipe(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    tasks = set()

    async def relay(reader, writer):
        try:
            onward = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="server")
        except OSError:
            writer.close()
            return
        for one, other in ((reader, onward[1]), (onward[0], writer)):
            tasks.add(asyncio.create_task(pipe(one, other)))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.gateway
def test_tls_and_whose_certificate_we_take(live, src, certificates):
    tls = {"certificate": certificates / "server.pem", "key": certificates / "server.key"}
    trusted = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    trusted.check_hostname = False
    with_ours = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    with_ours.check_hostname = False
    with_ours.load_cert_chain(certificates / "client.pem", certificates / "client.key")

    async def run():
        siprec = {
            "listen": ["tls:127.0.0.1:0"],
            "tls": tls | {"client_ca": certificates / "ca.pem"},
            "digest": {"users": {"sbc1": "correct-horse-battery"}},  # not asked of who shows a certificate
        }
        codes = []
        async with live(**siprec) as (worker, ports):
            for context, timeout_s in ((with_ours, 60), (trusted, 5)):
                async with tls_in_front(ports["tls"], context) as port:
                    codes.append(await src.run("src", port, transport="t1", length_ms=300, timeout_s=timeout_s))
            for _ in range(20):  # a connection that never says a word of TLS
                _, writer = await asyncio.open_connection("127.0.0.1", ports["tls"])
                writer.close()
            await asyncio.sleep(0.2)
            return codes, worker.gateways[0].agent.counts["ended: bye"], worker.gateways[0].num_connections

    (good, bad), ended, num_open = asyncio.run(run())
    assert (good, ended, num_open) == (0, 1, 0)
    assert bad != 0

"""A certificate authority and PASSporTs of our own; windows and numbers for the rules."""

import datetime
import shutil
import socket

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

from inference.screening.passport import PassportVerifier
from tests.peers import Peer, free_port, listens, started

NOW_S = 1_800_000_000.0
X5U = "https://certificates.example/shaken.pem"
CALLER, CALLEE = "441632960001", "441632960002"
TN_AUTH_LIST = ObjectIdentifier("1.3.6.1.5.5.7.1.26")


class Authority:
    """Issues certificates; a chain of root, intermediate and the operator's own."""

    def __init__(self, days: int = 30) -> None:
        self.keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "middle", "leaf")}
        self.root = self.issue("root", "root", is_authority=True, days=days)
        self.middle = self.issue("middle", "root", is_authority=True, days=days)
        self.leaf = self.issue("leaf", "middle", is_authority=False, days=days)

    def issue(self, subject: str, issuer: str, *, is_authority: bool, days: int) -> x509.Certificate:
        now = datetime.datetime.fromtimestamp(NOW_S, datetime.UTC)

        def name(text):
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        key, signer = self.keys[subject], self.keys[issuer]
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        usage = x509.KeyUsage(not is_authority, False, False, False, False, is_authority, is_authority, False, False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(issuer_identifier, critical=False)
            .add_extension(usage, critical=True)
        )
        if not is_authority:
            spc = bytes.fromhex("3008a006160430313233")  # TNAuthorizationList (RFC 8226) of one provider code
            builder = builder.add_extension(x509.UnrecognizedExtension(TN_AUTH_LIST, spc), critical=False)
        return builder.sign(signer, hashes.SHA256())

    def pem(self) -> bytes:
        return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (self.leaf, self.middle))

    def passport(self, *, key=None, header=None, **claims) -> str:
        """An Identity header; keywords replace claims (None takes one away)."""
        body = {
            "attest": "A",
            "dest": {"tn": [CALLEE]},
            "iat": int(NOW_S),
            "orig": {"tn": CALLER},
            "origid": "123e4567-e89b-12d3-a456-426655440000",
        } | claims
        body = {name: value for name, value in body.items() if value is not None}
        headers = {"alg": "ES256", "ppt": "shaken", "typ": "passport", "x5u": X5U} | (header or {})
        headers = {name: value for name, value in headers.items() if value is not None}
        token = jwt.encode(body, key or self.keys["leaf"], algorithm="ES256", headers=headers)
        return f"{token};info=<{X5U}>;alg=ES256;ppt=shaken"


@pytest.fixture(scope="session")
def authority():
    return Authority()


@pytest.fixture
def verifier(authority):
    """``verifier(...)``: trusts the authority and has its certificates; keywords replace parts."""

    def make(*, roots=None, certificates=None, now_s=NOW_S):
        chain = [authority.leaf, authority.middle]
        found = certificates or (lambda x5u: chain if x5u == X5U else None)
        return PassportVerifier([authority.root] if roots is None else roots, found, lambda: now_s)

    return make


class RedisServer:
    """A real redis-server on loopback, nothing kept on disk."""

    def __init__(self, folder) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--dir", self._folder]
        self._peer = Peer(command, self._folder / "redis.log", lambda: listens(self.port))

    def stop(self) -> None:
        self._peer.kill()

    def flush(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), 2) as sock:
            sock.sendall(b"FLUSHALL\r\n")
            assert sock.recv(64).startswith(b"+OK")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: apt install redis-server")
    folder = tmp_path_factory.mktemp("redis")
    server = started(lambda: RedisServer(folder))
    yield server
    server.stop()

"""Real tritonservers on loopback, small models for them, and the check that nothing is left of either."""

import contextlib
import datetime
import ipaddress
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from inference.engine.graph import GraphBuilder
from inference.engine.open import EngineConfig
from inference.engine.pbtxt import write_configs
from inference.engine.repository import write_model
from inference.engine.triton import TritonEngine
from inference.errors import EngineError
from inference.triton.server import Installed, LocalTriton, Ports
from tests.peers import free_port

ADMIN = {"triton-grpc-protocol-admin-key": "sesame"}
CONTROLLED = (
    "--model-control-mode=explicit",
    "--load-model=*",
    "--grpc-restricted-protocol=shared-memory,model-repository,statistics,trace,logging:admin-key=sesame",
)
STAT_STATE, STAT_SESSION = 0, 3  # of the fields after the program's name in /proc/PID/stat


def pytest_collection_modifyitems(items):
    """Each starts a server or two, of which a busy machine takes half a minute."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(400))


def scaled(factor, *, head="a", num_trips=0):
    """``y [batch, 3] = factor * x``; ``num_trips`` products of 256 x 256 make it slow."""
    graph = GraphBuilder("fp32")
    graph.input("x", np.float32, ["batch", 3])
    y = graph.op("Mul", "x", graph.floats(factor))
    if num_trips:
        body = graph.body()
        body.input("trip", np.int64, [])
        body.input("on", np.bool_, [])
        inner = body.input("inner", np.float32, [256, 256])
        body.output("still_on", body.constant(np.True_), np.bool_, [])
        product = body.op("MatMul", inner, body.constant(np.eye(256, dtype=np.float32)))
        body.output("outer", product, np.float32, [256, 256])
        start = graph.floats(np.zeros((256, 256)))
        trips = graph.constant(np.int64(num_trips))
        (done,) = graph.loop(trips, graph.constant(np.True_), [start], body, 0)
        y = graph.op("Add", y, graph.op("ReduceMax", done, keepdims=0))
    graph.output("y", y, np.float32, ["batch", 3])
    return graph.build({"head": head, "precision": "fp32"})


def put(models_dir, model, version=1, name="scaled"):
    """Write a version and have it, and it alone, configured."""
    write_model(models_dir, name, model, version)
    path = models_dir / name / "config.pbtxt"
    path.unlink(missing_ok=True)
    write_configs(models_dir)


def left_of(server):
    """Processes of the server's session, and its files in shared memory."""
    processes = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[STAT_SESSION] == str(server.pid) and fields[STAT_STATE] != "Z":
                processes.append(stat.parent.name)
    return processes, list(Path("/dev/shm").glob(f"*{server._shm_prefix}*"))


@pytest.fixture(scope="session")
def installed():
    """The server of `make triton-install`; skips where it is not."""
    try:
        return Installed.find()
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture
def serve(installed, until):
    """``serve(models_dir, *flags)``: a server, killed and swept up after the test."""
    with contextlib.ExitStack() as exits:

        def start(models_dir, *flags, **more):
            ports = Ports(*(free_port() for _ in range(3)))  # of the tests' own: it is started again on them
            server = LocalTriton(models_dir, flags=flags, **{"ports": ports} | more)

            def stop():
                with contextlib.suppress(ProcessLookupError):  # it has ended already
                    server.signal(signal.SIGCONT)
                    server.signal(signal.SIGKILL)  # quicker than asking
                server.stop()
                until(lambda: left_of(server) == ([], []))  # what was killed takes a moment to die

            exits.callback(stop)
            return server

        yield start


@pytest.fixture
def connect():
    """``connect(server, **settings)``: an engine, closed after the test; ``engine.told``: servers gone and back."""
    with contextlib.ExitStack() as exits:

        def open_engine(server, **settings):
            told = []
            url = server if isinstance(server, str) else server.url
            config = EngineConfig(url=url, **settings)
            engine = TritonEngine(config, on_change=lambda is_away, why: told.append((is_away, why)))
            exits.callback(engine.close)
            engine.told = told
            return engine

        yield open_engine


@pytest.fixture
def admin():
    """``admin(server)``: Triton's own client."""
    with contextlib.ExitStack() as exits:

        def open_client(server):
            client = tritonclient.grpc.InferenceServerClient(server.url.removeprefix("triton://"))
            exits.callback(client.close)
            return client

        yield open_client


class Load:
    """Callers that ask for ``scaled`` without a pause, each in a thread of its own."""

    def __init__(self, engine, num_callers=4):
        self.engine = engine
        self.answers, self.errors, self.longest_s = [], [], 0.0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(num_callers)]

    def _ask(self):
        x = np.ones((1, 3), np.float32)
        while not self._stop.is_set():
            started_s = time.monotonic()
            try:
                self.answers.append(float(self.engine.infer("scaled", {"x": x})["y"][0, 0]))
            except EngineError as error:
                self.errors.append(str(error))
            self.longest_s = max(self.longest_s, time.monotonic() - started_s)
            time.sleep(0.002)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def load():
    """``with load(engine) as running``."""
    return Load


@pytest.fixture
def until():
    """``until(condition)``: wait for it, at most ``timeout_s``."""

    def wait(condition, timeout_s=60):
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, "it did not happen"
            time.sleep(0.01)

    return wait


@pytest.fixture
def repository(tmp_path):
    """A model repository with one small model; ``repository.put(model, version)`` adds versions."""

    class Repository:
        path = tmp_path / "models"
        scaled = staticmethod(scaled)
        controlled, admin = CONTROLLED, ADMIN

        def put(self, model, version=1, name="scaled"):
            put(self.path, model, version, name)

    made = Repository()
    made.put(scaled(1))
    return made


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """``folder`` with ca.pem, server.pem/.key, client.pem/.key, and other-ca.pem of somebody else."""
    folder = tmp_path_factory.mktemp("tls")
    now = datetime.datetime.now(datetime.UTC)

    def make(name, issuer=None, issuer_key=None):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .sign(issuer_key or key, hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.key").write_bytes(pem)
        return subject, key

    ca = make("ca")
    make("server", *ca)
    make("client", *ca)
    make("other-ca")
    return folder

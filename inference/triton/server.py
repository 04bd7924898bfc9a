"""Starts tritonserver on a model repository and stops it without leaving anything behind."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from inference.errors import EngineError

HOST = "127.0.0.1"
READY_TIMEOUT_S = 180.0  # a busy machine needs half a minute for the smallest model
PORT_TRIES = 3  # a port that was free may be somebody's by the time the server has loaded its models and binds it
EXIT_TIMEOUT_S = 3  # what the server gives requests in flight when told to stop
BACKEND_FILE = Path(__file__).with_name("backend.py")
VENV = Path(__file__).resolve().parents[2] / ".venv-triton"
LOG_TAIL_BYTES = 100_000
PR_SET_PDEATHSIG = 1  # Linux, linux/prctl.h
_SHM = Path("/dev/shm")  # noqa: S108 (where the server's own processes share tensors)

# A line of the log at level E: date, time, thread, place, then the message in quotes with its own line ends escaped.
_ERROR = re.compile(r'^E\d{4} [^\]]*\] "(.*?)(?:\\n|"$)', re.MULTILINE)

# What the launcher must know of the venv, asked of its Python.
_QUESTION = """
import pathlib, sys, sysconfig, numpy, onnxruntime, pytriton
print("%d.%d" % sys.version_info[:2])
print(sysconfig.get_config_var("LIBDIR") or "")
print(pathlib.Path(pytriton.__file__).parent)
print(numpy.__version__)
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where it listens, on loopback."""

    http: int
    grpc: int
    metrics: int


def free_ports() -> Ports:
    """Three ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(3)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return Ports(*(each.getsockname()[1] for each in sockets))
    finally:
        for each in sockets:
            each.close()


def is_taken(ports: Ports) -> bool:
    """Whether somebody has one of them."""
    for port in (ports.http, ports.grpc, ports.metrics):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server has it: past connections go
            try:
                probe.bind((HOST, port))
            except OSError:
                return True
    return False


@dataclass(frozen=True, slots=True)
class Installed:
    """The wheel's server in its venv."""

    python: Path
    python_version: str
    libpython_dir: str
    root: Path

    @classmethod
    def find(cls, venv: Path = VENV) -> Self:
        """Look into ``venv``.

        Raises:
            EngineError: it is not there or not whole, or has a NumPy under which tensors come out wrong.
        """
        python = venv / "bin" / "python"
        remedy = "run: make triton-install"
        if not python.is_file():
            raise EngineError(f"no tritonserver in {venv}; {remedy}")
        asked = subprocess.run([python, "-c", _QUESTION], capture_output=True, text=True, check=False)  # noqa: S603
        if asked.returncode:
            raise EngineError(f"{venv} lacks nvidia-pytriton, onnxruntime or numpy; {remedy}")
        version, libdir, root, numpy_version = asked.stdout.split("\n")[:4]
        if int(numpy_version.split(".")[0]) >= 2:
            raise EngineError(f"{venv} has numpy {numpy_version}, with which tensors come out wrong; {remedy}")
        found = cls(python, version, libdir, Path(root))
        if not found.stub.is_file():
            raise EngineError(
                f"nvidia-pytriton has no server for Python {version}; make triton-install with 3.11 or 3.12"
            )
        return found

    @property
    def server_dir(self) -> Path:
        """Folder of tritonserver, its libraries and backends."""
        return self.root / "tritonserver"

    @property
    def program(self) -> Path:
        """The server."""
        return self.server_dir / "bin" / "tritonserver"

    @property
    def stub(self) -> Path:
        """The program that runs a Python-based backend under this Python."""
        return self.server_dir / "python_backend_stubs" / self.python_version / "triton_python_backend_stub"

    def environment(self) -> dict[str, str]:
        """PATH decides which Python the backend runs under."""
        libraries = f"{self.root.parent / 'nvidia_pytriton.libs'}:{self.libpython_dir}"
        path = f"{self.python.parent}:{os.environ.get('PATH', '')}"
        return {**os.environ, "PATH": path, "LD_LIBRARY_PATH": libraries}


class LocalTriton:
    """A tritonserver process, ready once made; a context manager that stops it.

    It gets a session and a shared-memory prefix of its own: killed, the server would leave its backends' processes and
    their files in /dev/shm behind. It also ends with the process that started it.
    """

    def __init__(
        self,
        models_dir: Path,
        *,
        venv: Path = VENV,
        ports: Ports | None = None,
        flags: Sequence[str] = (),
        is_waited_for: bool = True,
    ) -> None:
        """Start it.

        Args:
            models_dir: the model repository.
            venv: where ``make triton-install`` put it.
            ports: where to listen; default any free ones.
            flags: more of tritonserver's own.
            is_waited_for: return when it is ready, else at once.

        Raises:
            EngineError: not installed, a model was refused, or not ready in time; with the server's complaint.
        """
        self._installed = Installed.find(venv)
        self._dir = Path(tempfile.mkdtemp(prefix="scamtap-triton-"))
        tries = PORT_TRIES if ports is None and is_waited_for else 1
        try:
            self.lay_out(self._installed, self._dir / "backends")
            while not self._begin(models_dir, ports or free_ports(), flags, is_waited_for, is_last=tries == 1):
                tries -= 1
        except OSError as error:
            shutil.rmtree(self._dir, ignore_errors=True)
            raise EngineError(f"tritonserver cannot be started ({error.strerror}); run: make triton-install") from error

    def _begin(
        self, models_dir: Path, ports: Ports, flags: Sequence[str], is_waited_for: bool, *, is_last: bool
    ) -> bool:
        """Start it on ``ports``; False where it did not come up because one of them is somebody's."""
        self.ports = ports
        self._shm_prefix = f"scamtap_{os.getpid()}_{ports.grpc}_"
        self._command = [
            str(self._installed.program),
            f"--model-repository={models_dir}",
            f"--backend-directory={self._dir / 'backends'}",
            f"--cache-directory={self._installed.server_dir / 'caches'}",
            *(f"--{door}-address={HOST}" for door in ("http", "grpc", "metrics")),
            f"--http-port={ports.http}",
            f"--grpc-port={ports.grpc}",
            f"--metrics-port={ports.metrics}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            "--pinned-memory-pool-byte-size=0",  # of a GPU
            f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
            *flags,
        ]
        self._process = self._start()
        try:
            if is_waited_for:
                self.wait_ready()
        except EngineError:
            self._reap()
            if not is_last and is_taken(ports):
                return False
            self.stop()
            raise
        except BaseException:
            self.stop()
            raise
        return True

    @property
    def url(self) -> str:
        """For ``scamtap serve --engine``."""
        return f"triton://{HOST}:{self.ports.grpc}"

    @property
    def pid(self) -> int:
        """Of tritonserver, which is also its session."""
        return self._process.pid

    @staticmethod
    def lay_out(installed: Installed, folder: Path) -> Path:
        """Put the backends that ``--backend-directory`` names into ``folder``, and return it."""
        python, onnxruntime = folder / "python", folder / "onnxruntime"
        python.mkdir(parents=True)
        onnxruntime.mkdir()
        for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
            shutil.copy(installed.server_dir / "backends" / "python" / name, python)
        for program in (shutil.copy(installed.stub, python), installed.program):
            Path(program).chmod(0o755)  # pip drops the bit from what it does not know for a script
        shutil.copy(BACKEND_FILE, onnxruntime / "model.py")
        return folder

    def _start(self) -> "subprocess.Popen[bytes]":
        libc = ctypes.CDLL(None)

        def die_with_parent() -> None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        with (self._dir / "log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                self._command,
                env=self._installed.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def complaint(self) -> str:
        """The last error that it logged, in one line; else its last word."""
        log = (self._dir / "log").read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        errors = [line for line in _ERROR.findall(log) if not line.startswith("CudaDriverHelper")]  # there is no GPU
        return (errors or log.splitlines()[-1:] or ["nothing"])[-1]

    def is_ready(self) -> bool:
        """Whether it serves every model now."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.ports.http}/v2/health/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return once it is ready.

        Raises:
            EngineError: it ended, or is not ready after ``timeout_s``.
        """
        until_s = time.monotonic() + timeout_s
        while not self.is_ready():
            if self._process.poll() is not None:
                raise EngineError(f"tritonserver ended with {self._process.returncode}: {self.complaint()}")
            if time.monotonic() > until_s:
                raise EngineError(f"tritonserver is not ready after {timeout_s:g} s: {self.complaint()}")
            time.sleep(0.05)

    def wait(self) -> int:
        """Return its exit code when it ends by itself."""
        return self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send ``number`` to the server and its backends: SIGSTOP hangs it, SIGKILL is a crash."""
        os.killpg(self.pid, number)

    def restart(self) -> None:
        """Start it again on the same ports, after :meth:`signal` or the like ended it; does not wait."""
        self._reap()
        self._process = self._start()

    def stop(self) -> None:
        """Tell it to stop, make sure, and sweep up; may be called twice."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):  # then it is killed
                self._process.wait(EXIT_TIMEOUT_S + 5)
        self._reap()
        shutil.rmtree(self._dir, ignore_errors=True)

    def _reap(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # nobody is left
            os.killpg(self.pid, signal.SIGKILL)  # backends outlive a killed server
        self._process.wait()
        for left in _SHM.glob(f"*{self._shm_prefix}*"):
            left.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

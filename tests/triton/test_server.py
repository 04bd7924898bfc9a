"""The launcher: what it refuses, runs and leaves behind (nothing)."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tritonclient.utils import InferenceServerException

from inference.errors import EngineError
from inference.triton.server import Installed, LocalTriton

ROOT = Path(__file__).resolve().parents[2]


def launch(*arguments, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "inference.triton", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


@pytest.fixture
def fake_venv(tmp_path):
    """``fake_venv(script)``: a venv whose Python is a shell script."""

    def make(script):
        python = tmp_path / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        return tmp_path / "venv"

    return make


def test_no_venv_is_said_with_the_remedy(tmp_path):
    with pytest.raises(EngineError, match=r"no tritonserver in .*; run: make triton-install"):
        Installed.find(tmp_path)


def test_a_venv_without_the_wheel_is_refused(fake_venv):
    with pytest.raises(EngineError, match="lacks nvidia-pytriton"):
        Installed.find(fake_venv("exit 1"))


def test_numpy_2_is_refused(fake_venv):
    """With it tensors arrive as something else, and the status says OK."""
    with pytest.raises(EngineError, match=r"numpy 2\.1\.0, with which tensors come out wrong"):
        Installed.find(fake_venv("echo 3.11; echo /lib; echo /wheel; echo 2.1.0"))


def test_a_python_without_a_stub_is_refused(fake_venv):
    with pytest.raises(EngineError, match=r"no server for Python 3\.99"):
        Installed.find(fake_venv("echo 3.99; echo /lib; echo /wheel; echo 1.26.4"))


WRONG = {
    "dims": (("dims: [3]", "dims: [4]"), r"input 'x' has shape \[-1, 3\], the configuration says \[-1, 4\]"),
    "rank": (("dims: [3]", "dims: [3, 1]"), r"input 'x' has shape \[-1, 3\], the configuration says \[-1, 3, 1\]"),
    "batch": (
        ("max_batch_size: 64", "max_batch_size: 0"),
        r"input 'x' has shape \[-1, 3\], the configuration says \[3\]",
    ),
    "type": (("data_type: TYPE_FP32 dims", "data_type: TYPE_FP16 dims"), r"the configuration says TYPE_FP16"),
    "name": (('input { name: "x"', 'input { name: "z"'), r"unexpected input 'z', the model has \['x'\]"),
    "number": (
        ("output {", 'input { name: "w" data_type: TYPE_FP32 dims: [3] }\noutput {'),
        r"expected 1 inputs \['x'\]",
    ),
}


@pytest.mark.triton
def test_what_the_native_backend_would_refuse_is_refused(serve, admin, repository):
    """Dimensions, types, names and numbers must be the graph's: else it would not load on a GPU either."""
    for name in WRONG:
        repository.put(repository.scaled(1), name=name)
    for name, ((there, instead), _) in WRONG.items():
        config = repository.path / name / "config.pbtxt"
        text = config.read_text().split("model_warmup")[0] + "\n"  # it would be refused before the backend is asked
        assert there in text
        if name == "batch":
            text = text.split("dynamic_batching")[0] + "\n"
        config.write_text(text.replace(there, instead))
    client = admin(serve(repository.path, "--model-control-mode=explicit"))
    for name, (_, why) in WRONG.items():
        with pytest.raises(InferenceServerException, match=why):
            client.load_model(name)
    client.load_model("scaled")


@pytest.mark.triton
def test_a_command_runs_beside_a_server(installed, repository):
    process = launch("--models", repository.path, "--", "sh", "-c", "echo $SCAMTAP__ENGINE__URL; exit 3")
    out, err = process.communicate(timeout=110)
    assert process.returncode == 3, err
    assert out.startswith("triton://127.0.0.1:")


@pytest.mark.triton
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_leaves_nothing(installed, repository, until, number):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell has it for what runs in the background
    try:
        process = launch("--models", repository.path, "--any-port")
    finally:
        signal.signal(signal.SIGINT, before)
    line = process.stdout.readline()
    assert "tritonserver 24.10 on the CPU serves" in line, process.stderr.read()
    port = line.rsplit(":", 1)[1].strip()
    shm = f"scamtap_{process.pid}_{port}_*"
    assert list(Path("/dev/shm").glob(f"*{shm}"))
    process.send_signal(number)
    assert process.wait(90) == 0
    process.communicate()
    assert not list(Path("/dev/shm").glob(f"*{shm}"))
    until(lambda: not running(repository.path))


def running(models_dir):
    """Processes that name ``models_dir`` on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if os.fsencode(str(models_dir)) in words and path.parent.name != str(os.getpid()):
            found.append(path.parent.name)
    return found


@pytest.mark.triton
def test_it_ends_with_the_process_that_started_it(installed, repository, until):
    """Killed itself, the launcher cannot stop the server; the kernel tells it."""
    process = launch("--models", repository.path, "--any-port")
    assert "serves" in process.stdout.readline()
    process.kill()
    process.wait()
    process.communicate()
    until(lambda: not running(repository.path), timeout_s=30)


@pytest.mark.triton
def test_what_the_server_says_of_a_refusal_is_kept(repository, installed):
    (repository.path / "scaled" / "1" / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(
        EngineError, match=r"tritonserver ended with 1: failed to load 'scaled' version 1.*InvalidProtobuf"
    ):
        LocalTriton(repository.path)


@pytest.mark.triton
def test_ports_that_somebody_took_meanwhile_are_not_insisted_on(installed, repository, monkeypatch, until):
    """Between the search for free ports and the server's binding them lie seconds, on a busy machine many."""
    from inference.triton import server as module

    first, others = module.free_ports(), module.free_ports
    offered = [first]
    monkeypatch.setattr(module, "free_ports", lambda: offered.pop() if offered else others())
    with socket.create_server(("127.0.0.1", first.grpc)):
        with LocalTriton(repository.path) as server:
            assert server.ports != first
            assert server.is_ready()
        with pytest.raises(EngineError, match="tritonserver ended with 1"):
            LocalTriton(repository.path, ports=first)  # who names them gets no others
    until(lambda: not running(repository.path))

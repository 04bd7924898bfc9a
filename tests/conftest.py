"""What tests of the whole share: scripted models (``doubles``), the real ones (``models``), and the command line."""

import gc
import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from inference.errors import ScamTapError
from tests.thorough import SWITCH

ROOT = Path(__file__).resolve().parents[1]
DOUBLES = Path(__file__).with_name("service") / "doubles.py"
ENDPOINT = Path(__file__).with_name("opinion") / "endpoint.py"


def pytest_configure(config):
    """Who asks for slow tests gets every property on many cases."""
    chosen = config.option.markexpr
    if not chosen or "slow" in chosen.replace("not slow", ""):
        os.environ.setdefault(SWITCH, "1")


def pytest_collection_finish():
    """What is imported by now stays: no collection need look at it again, and tests that count objects do collect."""
    gc.collect()
    gc.freeze()


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scamtap_tests_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def doubles() -> ModuleType:
    """tests/service/doubles.py; test modules cannot import each other (import-mode=importlib)."""
    return _load(DOUBLES)


@pytest.fixture
def endpoint():
    """An OpenAI-compatible server on loopback that answers as a test says; see tests/opinion/endpoint.py."""
    with _load(ENDPOINT).Endpoint() as served:
        yield served


@pytest.fixture
def scripted(doubles, monkeypatch):
    """The service and the command line get the scripted models; gives the stages they use."""
    from inference.service import worker

    return doubles.install(monkeypatch.setattr, worker)


@pytest.fixture
def run(scripted, command):
    """``command`` with the scripted models."""
    return command


@pytest.fixture
def command(monkeypatch, capfd):
    """``command("replay", path)``: ``scamtap`` in this process: (exit code, standard output, standard error)."""

    from inference import cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["scamtap", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return ended.value.code or 0, out, err

    return run


@dataclass(frozen=True)
class Models:
    """The real models and settings they were loaded with."""

    settings: object
    stages: object
    parts: object


@pytest.fixture(scope="session")
def models():
    """The real models, loaded once; skips where they were not pulled and built."""
    from inference.config import Settings
    from inference.service.models import build_parts, build_stages

    settings = Settings()
    try:
        stages = build_stages(settings)
    except ScamTapError as error:
        pytest.skip(f"needs the models: {error}")
    yield Models(settings, stages, build_parts(settings, stages))
    stages.close()


@dataclass(frozen=True)
class Ran:
    """How a ``scamtap`` command in a process of its own ended."""

    exit_code: int
    out: str
    err: str


@pytest.fixture
def scamtap():
    """``scamtap(*arguments, scripted=True)``: run the command in a process of its own."""

    def run(*arguments, scripted: bool = True, timeout_s: float = 60, **more) -> Ran:
        program = [str(DOUBLES)] if scripted else ["-c", "from inference.cli import main; main()"]
        done = subprocess.run(
            [sys.executable, *program, *map(str, arguments)],
            capture_output=True,
            timeout=timeout_s,
            check=False,
            **more,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run

"""``make triton``: a server on the model repository until Ctrl-C; or, after ``--``, for as long as a command runs."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from inference.errors import EngineError
from inference.triton.server import VENV, LocalTriton, Ports, free_ports

DEFAULT_PORTS = Ports(http=8000, grpc=8001, metrics=8002)
ENGINE_VARIABLE = "SCAMTAP__ENGINE__URL"
MODELS_DIR = Path(__file__).resolve().parents[2] / "models"


def main(arguments: Sequence[str]) -> int:
    """Run it; returns the exit code, that of the command where there is one."""
    own, _, command = (list(arguments), "", []) if "--" not in arguments else _split(list(arguments))
    parser = argparse.ArgumentParser(prog="python -m inference.triton", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path(os.environ.get("SCAMTAP_MODELS", MODELS_DIR)))
    parser.add_argument("--venv", type=Path, default=VENV, help="where make triton-install put the server")
    parser.add_argument("--any-port", action="store_true", help="free ports instead of 8000 to 8002")
    parser.add_argument(
        "--flag", action="append", default=[], help="one of tritonserver's own, e.g. --flag=--log-verbose=1"
    )
    options = parser.parse_args(own)
    ports = free_ports() if options.any_port or command else DEFAULT_PORTS
    # Ctrl-C and SIGTERM end the wait below, and the server is stopped on the way out. Both are said here, since a shell
    # starts what runs in the background with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        with LocalTriton(options.models, venv=options.venv, ports=ports, flags=options.flag) as triton:
            if command:
                environment = {**os.environ, ENGINE_VARIABLE: triton.url}
                return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603
            print(f"tritonserver 24.10 on the CPU serves {options.models}: scamtap serve --engine {triton.url}")  # noqa: T201
            return triton.wait()
    except KeyboardInterrupt:
        return 0
    except EngineError as error:
        print(f"triton: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code


def _stop(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _split(arguments: list[str]) -> tuple[list[str], str, list[str]]:
    at = arguments.index("--")
    return arguments[:at], "--", arguments[at + 1 :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Compute the canonical hashes of an artefact anew, when the lock moves to other weights.

    python -m inference.weights.relock NAME RAW_DIR

reads raw files (the names that ``into`` gives them in ``lock.json``), writes ``NAME.tensors.json`` beside this file and
prints the ``tensors`` and ``files`` pins to put into ``lock.json``. Review what changed before committing it.
"""

import hashlib
import json
import sys
from pathlib import Path

from inference.errors import WeightsError
from inference.weights.canonical import cast, prepare
from inference.weights.lock import LOCK_DIR, TENSORS_FILE, load_lock
from inference.weights.safetensors import tensor_bytes, write_safetensors
from inference.weights.store import HashingWriter


class _Nowhere:
    def write(self, data: bytes, /) -> None:
        """Forget ``data``."""


def relock(name: str, raw: Path, lock_dir: Path = LOCK_DIR) -> dict[str, dict[str, int | str]]:
    """Write ``<name>.tensors.json`` into ``lock_dir`` and return the pins of the canonical files.

    Raises:
        WeightsError: the raw files are not readable by the artefact's recipe.
    """
    artefact = load_lock(lock_dir).artefact(name)
    material = prepare(artefact, raw)
    pins: dict[str, dict[str, int | str]] = {}
    for file_name, content in sorted(material.files.items()):
        data = content if isinstance(content, bytes) else content.read_bytes()
        pins[file_name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if artefact.dtype is None:
        return pins
    dtype = artefact.dtype
    tensors = {key: cast(load(), dtype) for key, load in sorted(material.tensors.items())}
    lines = [
        f'  {json.dumps(key)}: {{"shape": {json.dumps(tensor.shape)}, '
        f'"sha256": "{hashlib.sha256(tensor_bytes(tensor)).hexdigest()}"}}'
        for key, tensor in tensors.items()
    ]
    text = '{"format": 1, "tensors": {\n' + ",\n".join(lines) + "\n}}\n"
    (lock_dir / f"{name}.tensors.json").write_text(text, encoding="utf-8")
    writer = HashingWriter(_Nowhere())
    write_safetensors(writer, {key: tensor.shape for key, tensor in tensors.items()}, dtype, tensors.__getitem__)
    pins[TENSORS_FILE] = {"size": writer.size, "sha256": writer.digest.hexdigest()}
    return pins


def main(arguments: list[str]) -> int:
    """Run from the command line; returns the exit code."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m inference.weights.relock NAME RAW_DIR\n")
        return 2
    try:
        pins = relock(arguments[0], Path(arguments[1]))
    except WeightsError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(pins, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

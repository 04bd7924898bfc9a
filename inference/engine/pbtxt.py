"""``config.pbtxt``: what Triton must know of a model, written from its graph.

Kept by hand, names, types and dimensions would drift from the graph, and the server refuses what does not match to the
letter. What a stage wants to know of a model (precision, labels, whose head) goes along as parameters, so that
:class:`inference.engine.triton.TritonEngine` can tell as much of it as the engine in process::

    scamtap models config          # writes models/*/config.pbtxt

Dimensions called ``batch`` are Triton's own where they come first everywhere; the server then joins requests of equal
shapes. A vector with one value per row has no dimension left, which Triton cannot express: it is declared ``[1]`` with
a ``reshape``.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from inference.engine.repository import MODEL_FILE, find_versions, write_atomically
from inference.errors import EngineError

CONFIG_FILE = "config.pbtxt"
BACKEND = "onnxruntime"
BATCH = "batch"
MAX_BATCH_SIZE = 64
MAX_QUEUE_SIZE = 256
"""Requests of one model that wait in the server; the next one is refused, and shed by whoever sent it."""

QUEUE_TIMEOUT_US = 2_000_000
"""Waited longer than this, a request is refused: its segment's time is better spent on newer speech."""

QUEUE_DELAY_US = 2_000
"""How long a request waits for company of other workers; each worker gathers its own calls' for 10 ms before."""

IMAGE_MAX_OPSET = 21
"""Of ONNX Runtime 1.20 and later; the image has 1.27."""

TYPICAL_SIZES = {"samples": 16_000, "tokens": 32, "steps": 1, "past": 1, "time": 100}
"""Free dimensions of the warm-up request, which is also what a client asks a server that seems away."""

_TYPES = {
    TensorProto.BOOL: "TYPE_BOOL",
    TensorProto.FLOAT: "TYPE_FP32",
    TensorProto.FLOAT16: "TYPE_FP16",
    TensorProto.DOUBLE: "TYPE_FP64",
    **{getattr(TensorProto, f"{s}INT{b}"): f"TYPE_{s}INT{b}" for s in ("", "U") for b in (8, 16, 32, 64)},
}


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    type: str
    shape: tuple[int | str, ...]  # a str names a free dimension

    def dims(self, *, is_batched: bool) -> list[int]:
        """As Triton counts them: the batch left out, free ones -1."""
        shape = self.shape[1:] if is_batched else self.shape
        return [dim if isinstance(dim, int) else -1 for dim in shape]

    def sizes(self, *, is_batched: bool) -> list[int]:
        """A size for every dimension of one request; a vector without any has one value."""
        shape = self.shape[1:] if is_batched else self.shape
        return [dim if isinstance(dim, int) else TYPICAL_SIZES.get(dim, 1) for dim in shape] or [1]


@dataclass(frozen=True, slots=True)
class Graph:
    """One model of the repository, as Triton sees it."""

    name: str
    versions: tuple[int, ...]
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]
    metadata: Mapping[str, str]

    @property
    def is_batched(self) -> bool:
        """Whether every tensor's first dimension is the batch."""
        return all(tensor.shape[:1] == (BATCH,) for tensor in (*self.inputs, *self.outputs))


def write_configs(models_dir: Path) -> list[Path]:
    """Write the configuration of every model of the repository that has a graph; gives those that changed.

    Raises:
        EngineError: a graph cannot be read or is not one that Triton can serve.
        WeightsError: the folder cannot be written.
    """
    graphs, before = {}, {}
    for folder in sorted(models_dir.iterdir()):
        if versions := find_versions(folder):
            path = folder / CONFIG_FILE
            before[path] = path.read_text(encoding="utf-8") if path.is_file() else ""
            graphs[path] = read_graph(folder, served_versions(before[path], versions))
    is_for_gpu = any(graph.metadata.get("precision") == "fp16" for graph in graphs.values())
    changed = []
    for path, graph in graphs.items():
        text = model_config(graph, is_for_gpu=is_for_gpu)
        if text != before[path]:
            write_atomically(path, partial(Path.write_text, data=text, encoding="utf-8"))
            changed.append(path)
    return changed


def served_versions(config: str, versions: Sequence[int]) -> list[int]:
    """Which of ``versions`` the configuration so far says to serve; the newest where it says nothing that is there.

    A new version is served because somebody wrote its number into ``version_policy``, not because a folder appeared.
    """
    listed = re.search(r"versions: \[([\d, ]*)\]", config)
    chosen = {int(number) for number in listed[1].replace(" ", "").split(",") if number} if listed else set()
    return [version for version in versions if version in chosen] or [versions[-1]]


def read_graph(folder: Path, versions: Sequence[int]) -> Graph:
    """What Triton must know of the model in ``folder``, from its newest version.

    Args:
        folder: ``models/<name>``.
        versions: those to serve, ascending.

    Raises:
        EngineError: the graph cannot be read, or holds a type that Triton does not know.
    """
    path = folder / str(versions[-1]) / MODEL_FILE
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, ValueError, DecodeError) as error:
        raise EngineError(f"{path} is not an ONNX graph; run: scamtap models pull") from error
    return Graph(
        name=folder.name,
        versions=tuple(versions),
        inputs=_tensors(path, model.graph.input),
        outputs=_tensors(path, model.graph.output),
        metadata={prop.key: prop.value for prop in model.metadata_props},
    )


def model_config(graph: Graph, *, is_for_gpu: bool = False) -> str:
    """The text of config.pbtxt.

    Args:
        graph: the model.
        is_for_gpu: the repository is made for a GPU; what is int8 in it stays on the CPU, where its products are.
    """
    kind = "KIND_CPU" if is_for_gpu and graph.metadata.get("precision") == "int8" else "KIND_AUTO"
    return "".join(f"{line}\n" for line in _lines(graph, kind))


def _tensors(path: Path, infos: Sequence[onnx.ValueInfoProto]) -> tuple[_Tensor, ...]:
    tensors = []
    for info in infos:
        kind = info.type.tensor_type
        if kind.elem_type not in _TYPES:
            raise EngineError(f"{path}: '{info.name}' has a type that Triton cannot serve")
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in kind.shape.dim)
        tensors.append(_Tensor(info.name, _TYPES[kind.elem_type], shape))
    return tuple(tensors)


def _lines(graph: Graph, kind: str) -> Iterator[str]:
    is_batched = graph.is_batched
    yield "# Written from the graph by `scamtap models config`; of edits only the versions to serve stay."
    yield f"name: {_quoted(graph.name)}"
    yield f"backend: {_quoted(BACKEND)}"
    yield f"max_batch_size: {MAX_BATCH_SIZE if is_batched else 0}"
    for field, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        for tensor in tensors:
            dims = tensor.dims(is_batched=is_batched)
            shape = f"dims: {dims}" if dims else "dims: [1] reshape { shape: [] }"
            yield f"{field} {{ name: {_quoted(tensor.name)} data_type: {tensor.type} {shape} }}"
    yield f"instance_group {{ count: 1 kind: {kind} }}"  # AUTO: a GPU where there is one, else the CPU
    yield f"version_policy {{ specific {{ versions: {list(graph.versions)} }} }}"
    if is_batched:
        yield "dynamic_batching {"
        yield f"  max_queue_delay_microseconds: {QUEUE_DELAY_US}"
        yield "  default_queue_policy {"
        yield "    timeout_action: REJECT"
        yield f"    default_timeout_microseconds: {QUEUE_TIMEOUT_US}"
        yield "    allow_timeout_override: true"
        yield f"    max_queue_size: {MAX_QUEUE_SIZE}"
        yield "  }"
        yield "}"
    yield "model_warmup {"
    yield '  name: "one"'
    if is_batched:
        yield "  batch_size: 1"
    for tensor in graph.inputs:
        sizes = tensor.sizes(is_batched=is_batched)
        value = f"{{ data_type: {tensor.type} dims: {sizes} zero_data: true }}"
        yield f"  inputs {{ key: {_quoted(tensor.name)} value {value} }}"
    yield "}"
    for key, value in sorted({**graph.metadata, "intra_op_thread_count": "1"}.items()):
        yield f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"


def _quoted(text: str) -> str:
    """A protobuf text string; JSON's escapes are among its own."""
    return json.dumps(text, ensure_ascii=True)

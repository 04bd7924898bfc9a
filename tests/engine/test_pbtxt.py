"""config.pbtxt against the graphs it was written from, read as Triton reads it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from inference.engine.graph import GraphBuilder
from inference.engine.onnx import OnnxEngine
from inference.engine.pbtxt import BACKEND, IMAGE_MAX_OPSET, MAX_QUEUE_SIZE, write_configs
from inference.engine.repository import find_versions, write_model
from inference.errors import EngineError

MODELS = Path(__file__).resolve().parents[2] / "models"
SHIPPED = sorted(path.parent.name for path in MODELS.glob("*/config.pbtxt"))
NUMPY = {
    "TYPE_FP32": "float32",
    "TYPE_FP16": "float16",
    "TYPE_INT8": "int8",
    "TYPE_INT16": "int16",
    "TYPE_INT32": "int32",
    "TYPE_INT64": "int64",
}


def parse(path):
    return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())


def shapes(tensors, *, is_batched):
    """Name -> (NumPy type, shape as an engine gives it)."""
    found = {}
    for tensor in tensors:
        dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
        shape = ((None,) if is_batched else ()) + tuple(None if dim == -1 else dim for dim in dims)
        found[tensor.name] = (NUMPY[model_config_pb2.DataType.Name(tensor.data_type)], shape)
    return found


def vectors(precision="fp32", suffix="y"):
    """``x [batch, 4]``, one number a row out."""
    graph = GraphBuilder("fp16" if precision == "fp16" else "fp32")
    graph.input("x", graph.dtype, ["batch", 4])
    graph.output(suffix, graph.op("ReduceSum", "x", graph.ints(1), keepdims=0), graph.dtype, ["batch"])
    return graph.build({"precision": precision, "note": 'a "quoted" näme\n'})


def test_every_model_of_the_repository_is_configured():
    assert {"scam_intent", "speech", "speech_decoder", "speech_text", "vad"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_configuration_is_the_graphs(name):
    """Names, types, dimensions, metadata; and the graph is one that the GPU image runs."""
    if not find_versions(MODELS / name):
        pytest.skip("needs the models: scamtap models pull")
    config = parse(MODELS / name / "config.pbtxt")
    spec = OnnxEngine(MODELS).spec(name)
    is_batched = config.max_batch_size > 0
    for tensors, wanted in ((config.input, spec.inputs), (config.output, spec.outputs)):
        assert shapes(tensors, is_batched=is_batched) == {t.name: (t.dtype, t.shape) for t in wanted}
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    assert parameters == {**spec.metadata, "intra_op_thread_count": "1"}
    path = MODELS / name / str(spec.version) / "model.onnx"
    opsets = {opset.domain: opset.version for opset in onnx.load(path, load_external_data=False).opset_import}
    assert opsets[""] <= IMAGE_MAX_OPSET


@pytest.mark.parametrize("name", SHIPPED)
def test_every_configuration_says_how_it_is_served(name):
    config = parse(MODELS / name / "config.pbtxt")
    assert (config.name, config.backend) == (name, BACKEND)
    assert [model_config_pb2.ModelInstanceGroup.Kind.Name(g.kind) for g in config.instance_group] == ["KIND_AUTO"]
    assert list(config.version_policy.specific.versions) == [1]
    (warmup,) = config.model_warmup
    assert warmup.inputs.keys() == {tensor.name for tensor in config.input}
    if name == "vad":  # state has its batch second; it runs in the tap anyway
        assert config.max_batch_size == 0
        return
    policy = config.dynamic_batching.default_queue_policy
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.TimeoutAction.REJECT
    assert policy.default_timeout_microseconds > 0
    assert 0 < policy.max_queue_size <= MAX_QUEUE_SIZE


def test_one_value_a_row_is_declared_with_a_reshape(tmp_path):
    write_model(tmp_path, "m", vectors())
    write_configs(tmp_path)
    config = parse(tmp_path / "m" / "config.pbtxt")
    (output,) = config.output
    assert list(output.dims) == [1]
    assert output.HasField("reshape")
    assert list(output.reshape.shape) == []
    assert config.parameters["note"].string_value == 'a "quoted" näme\n'


def test_written_again_only_where_something_changed(tmp_path):
    write_model(tmp_path, "m", vectors())
    assert write_configs(tmp_path) == [tmp_path / "m" / "config.pbtxt"]
    assert write_configs(tmp_path) == []
    write_model(tmp_path, "m", vectors(suffix="z"))
    assert write_configs(tmp_path) == [tmp_path / "m" / "config.pbtxt"]


def test_a_new_version_is_served_when_somebody_says_so(tmp_path):
    write_model(tmp_path, "m", vectors())
    write_configs(tmp_path)
    path = tmp_path / "m" / "config.pbtxt"
    write_model(tmp_path, "m", vectors(suffix="z"), version=2)
    assert write_configs(tmp_path) == []
    path.write_text(path.read_text().replace("versions: [1]", "versions: [1, 2]"))
    assert write_configs(tmp_path) == [path]
    config = parse(path)
    assert list(config.version_policy.specific.versions) == [1, 2]
    assert config.output[0].name == "z"  # the newest is the one described


def test_in_a_repository_for_a_gpu_what_stayed_int8_is_kept_on_the_cpu(tmp_path):
    write_model(tmp_path, "a", vectors("fp16"))
    write_model(tmp_path, "b", vectors("int8"))
    write_configs(tmp_path)
    kinds = {name: parse(tmp_path / name / "config.pbtxt").instance_group[0].kind for name in "ab"}
    group = model_config_pb2.ModelInstanceGroup
    assert kinds == {"a": group.KIND_AUTO, "b": group.KIND_CPU}


def test_a_damaged_graph_is_refused_in_a_line(tmp_path):
    path = write_model(tmp_path, "m", vectors())
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(EngineError, match=r"m/1/model\.onnx is not an ONNX graph; run: scamtap models pull"):
        write_configs(tmp_path)


def test_a_type_that_triton_lacks_is_refused(tmp_path):
    tensor = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.COMPLEX64, ["batch"])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.COMPLEX64, ["batch"])
    write_model(tmp_path, "m", onnx.helper.make_model(onnx.helper.make_graph([node], "g", [tensor], [output])))
    with pytest.raises(EngineError, match="'x' has a type that Triton cannot serve"):
        write_configs(tmp_path)


def test_free_dimensions_are_free(tmp_path):
    graph = GraphBuilder("fp32")
    graph.input("x", np.float32, ["batch", "time", 3])
    graph.output("y", graph.op("Neg", "x"), np.float32, ["batch", "time", 3])
    write_model(tmp_path, "m", graph.build({}))
    write_configs(tmp_path)
    config = parse(tmp_path / "m" / "config.pbtxt")
    assert list(config.input[0].dims) == [-1, 3]
    assert list(config.model_warmup[0].inputs["x"].dims) == [100, 3]

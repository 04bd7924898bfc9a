"""What a Triton server says, read: configurations, failures. And what it would not take, refused before it is sent."""

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from inference.engine.base import TensorSpec
from inference.engine.triton_wire import Failure, describe, explain, failure_of, requests
from inference.errors import EngineError

CONFIG = """
name: "m" max_batch_size: 8
input { name: "x" data_type: TYPE_INT16 dims: [-1] } input { name: "n" data_type: TYPE_INT64 dims: [1] reshape { } }
output { name: "y" data_type: TYPE_FP16 dims: [4, -1] }
parameters { key: "precision" value { string_value: "fp16" } }
model_warmup { name: "one" batch_size: 1
  inputs { key: "x" value { data_type: TYPE_INT16 dims: [160] zero_data: true } }
  inputs { key: "n" value { data_type: TYPE_INT64 dims: [1] zero_data: true } } }
"""


def known(text=CONFIG, versions=("1", "10", "9")):
    return describe(text_format.Parse(text, model_config_pb2.ModelConfig()), versions)


def batch(**changes):
    return {"x": np.zeros((2, 5), np.int16), "n": np.zeros(2, np.int64), **changes}


def test_a_configuration_is_described_as_the_engine_in_process_would():
    spec = known().spec
    assert (spec.name, spec.version, spec.metadata) == ("m", 10, {"precision": "fp16"})
    assert spec.inputs == (TensorSpec("x", "int16", (None, None)), TensorSpec("n", "int64", (None,)))
    assert spec.outputs == (TensorSpec("y", "float16", (None, 4, None)),)


def test_the_canary_is_the_warm_up():
    warmup = known().warmup
    assert {name: (tensor.dtype.name, tensor.shape) for name, tensor in warmup.items()} == {
        "x": ("int16", (1, 160)),
        "n": ("int64", (1,)),
    }


def test_no_version_ready_is_said():
    with pytest.raises(EngineError, match="no version of model m ready"):
        known(versions=())


def test_a_type_of_text_is_refused():
    with pytest.raises(EngineError, match="'x' has type TYPE_INVALID"):
        known('name: "m" input { name: "x" dims: [1] }')


def test_one_value_a_row_is_sent_as_a_column():
    sent = {tensor.name(): list(tensor.shape()) for tensor in requests(known(), batch())}
    assert sent == {"x": [2, 5], "n": [2, 1]}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"z": np.zeros(1)}, r"unknown \['z'\]"),
        ({"x": np.zeros((2, 5), np.float32)}, "input x is float32, expected int16"),
        ({"x": [[1]]}, "input x is list"),
        ({"x": np.zeros(5, np.int16)}, r"input x has shape \(5,\)"),
    ],
)
def test_what_the_model_does_not_take_is_not_sent(wrong, why):
    with pytest.raises(EngineError, match=why):
        requests(known(), batch(**wrong))
    with pytest.raises(EngineError, match=r"missing \['n'\]"):
        requests(known(), {"x": np.zeros((2, 5), np.int16)})


@pytest.mark.parametrize(
    ("status", "message", "failure"),
    [
        ("UNAVAILABLE", "Socket closed", Failure.ABSENT),
        ("UNAVAILABLE", "failed to connect to all addresses", Failure.ABSENT),
        ("UNAVAILABLE", "Server is stopping, scheduler for model has stopped accepting requests", Failure.ABSENT),
        ("UNAVAILABLE", "[request id: x] Exceeds maximum queue size", Failure.FULL),
        ("UNAVAILABLE", "Request timeout expired", Failure.FULL),
        ("UNAVAILABLE", "This protocol is restricted, expecting header 'triton-grpc-protocol-key'", Failure.FAULT),
        ("NOT_FOUND", "Request for unknown model: 'm' version 1 is not found", Failure.GONE),
        ("UNAVAILABLE", "Request for unknown model: 'm' version 1 is not at ready state", Failure.GONE),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", Failure.SILENT),
        ("INVALID_ARGUMENT", "unexpected shape", Failure.FAULT),
        ("INTERNAL", "Stub process 'm_0_0' is not healthy.", Failure.FAULT),
        (None, None, Failure.FAULT),
    ],
)
def test_failures_by_what_can_be_done(status, message, failure):
    error = InferenceServerException(message, status and f"StatusCode.{status}")
    assert failure_of(error) is failure
    assert "\n" not in explain(error)
    assert len(explain(error)) < 200

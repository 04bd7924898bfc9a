"""The shipped voice network, run as audio is given it."""

import onnxruntime
import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def network():
    """models/vad as :data:`inference.audio.vad.Network`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(ROOT / "models/vad/1/model.onnx", options, ["CPUExecutionProvider"])
    return lambda frames, state: tuple(session.run(None, {"frames": frames, "state": state}))

"""Where the models run: URLs, refusals, precision, routing."""

import numpy as np
import pytest
from pydantic import ValidationError

from inference.engine.base import ModelSpec
from inference.engine.onnx import OnnxEngine
from inference.engine.open import EngineConfig, open_engine, require_precision
from inference.engine.routed import RoutedEngine
from inference.errors import EngineError

PLAIN = {"plaintext": True}


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("triton://127.0.0.1:8001", "dns:///127.0.0.1:8001"),
        ("triton://localhost", "dns:///localhost:8001"),
        ("triton://gpu.example:9000", "dns:///gpu.example:9000"),
        ("triton://[::1]:8001", "dns:///[::1]:8001"),
        ("triton://10.0.0.1,10.0.0.2:8003", "ipv4:10.0.0.1:8001,10.0.0.2:8003"),
        ("triton://[fd00::1],[fd00::2]:9", "ipv6:[fd00::1]:8001,[fd00::2]:9"),
    ],
)
def test_servers_as_grpc_names_them(url, target):
    assert EngineConfig(url=url, **PLAIN).target() == target


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8001", "127.0.0.1:8001", "triton://", "triton://:8001", "triton://h:port", "triton://u@h:1",
     "triton://a.example,b.example", "triton://10.0.0.1,[::1]", "triton://h:1/x"],
)  # fmt: skip
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ValidationError):
        EngineConfig(url=url, **PLAIN)


def test_voices_do_not_cross_a_network_in_the_clear_unasked():
    with pytest.raises(ValidationError, match="need tls, or plaintext: true"):
        EngineConfig(url="triton://10.0.0.1")
    with pytest.raises(ValidationError, match="need tls"):
        EngineConfig(url="triton://127.0.0.1,10.0.0.1")
    assert EngineConfig(url="triton://10.0.0.1", tls={}).tls is not None
    assert EngineConfig(url="triton://[::1]:8001").tls is None


def test_half_a_client_certificate_is_refused():
    with pytest.raises(ValidationError, match="go together"):
        EngineConfig(tls={"cert_path": "a.pem"})


def test_an_attempt_is_not_longer_than_all_attempts():
    with pytest.raises(ValidationError, match="attempt_timeout_s must not exceed timeout_s"):
        EngineConfig(timeout_s=1, attempt_timeout_s=2)


def test_a_missing_tls_file_is_named(tmp_path):
    config = EngineConfig(url="triton://10.0.0.1", tls={"ca_path": tmp_path / "none.pem"})
    with pytest.raises(EngineError, match=r"engine.tls: .*none.pem cannot be read \(No such file"):
        open_engine(config, tmp_path)


def test_without_a_url_the_models_run_here(tmp_path):
    assert isinstance(open_engine(EngineConfig(), tmp_path), OnnxEngine)


class Named:
    """An engine that answers with its name."""

    def __init__(self, name, precision="int8"):
        self.name, self.precision, self.is_closed = name, precision, False

    def infer(self, model, batch):
        return {"by": np.array([self.name])}

    def spec(self, model):
        return ModelSpec(self.name, 1, (), (), {"precision": self.precision})

    def close(self):
        self.is_closed = True


def test_listed_models_run_here_and_all_others_there():
    remote, local = Named("there"), Named("here")
    engine = RoutedEngine(remote, local, ("vad",))
    assert engine.infer("vad", {})["by"] == "here"
    assert engine.infer("speech", {})["by"] == "there"
    assert (engine.spec("vad").name, engine.spec("speech").name) == ("here", "there")
    engine.close()
    assert (remote.is_closed, local.is_closed) == (True, True)


def test_another_precision_than_asked_for_is_refused():
    require_precision(Named("a"), "speech", "int8")
    with pytest.raises(EngineError, match="model speech is fp16, and int8 was expected"):
        require_precision(Named("a", "fp16"), "speech", "int8")

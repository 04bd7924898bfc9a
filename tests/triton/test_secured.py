"""Who may ask a real server for what: restricted protocols, certificates."""

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from inference.errors import EngineError

pytestmark = pytest.mark.triton

X = {"x": np.ones((1, 3), np.float32)}
BRIEF = {"timeout_s": 1, "attempt_timeout_s": 0.5}


def test_control_is_refused_without_the_key(serve, connect, admin, repository):
    server = serve(repository.path, *repository.controlled)
    client, keyed = admin(server), {"headers": repository.admin}
    guarded = (
        lambda **more: client.load_model("scaled", **more),
        lambda **more: client.unload_model("scaled", **more),
        lambda **more: client.get_model_repository_index(**more),
        lambda **more: client.get_system_shared_memory_status(**more),
        lambda **more: client.get_inference_statistics(**more),
        lambda **more: client.get_trace_settings(**more),
        lambda **more: client.get_log_settings(**more),
    )
    for call in guarded:
        with pytest.raises(InferenceServerException, match="protocol is restricted"):
            call()
        with pytest.raises(InferenceServerException, match="protocol is restricted"):
            call(headers={"triton-grpc-protocol-admin-key": "wrong"})
    for call in (guarded[0], guarded[2], guarded[4]):
        call(**keyed)
    assert connect(server).infer("scaled", X)["y"][0, 0] == 1  # inference needs none


def test_files_cannot_be_loaded_where_control_is_off(serve, admin, repository):
    """Model control left open lets anyone run code on the server."""
    client = admin(serve(repository.path, "--model-control-mode=none"))
    with pytest.raises(InferenceServerException):
        client.load_model("evil", config='{"backend": "python"}', files={"file:1/model.py": b"raise SystemExit"})


def test_a_server_that_guards_inference_takes_our_header(serve, connect, repository):
    server = serve(repository.path, "--grpc-restricted-protocol=inference,model-config,metadata:tap-key=sesame")
    with pytest.raises(EngineError, match=r"server refused \(UNAVAILABLE: This protocol is restricted"):
        connect(server, **BRIEF).infer("scaled", X)
    engine = connect(server, headers={"triton-grpc-protocol-tap-key": "sesame"})
    assert engine.infer("scaled", X)["y"][0, 0] == 1


def test_mutual_tls(serve, connect, repository, certificates):
    def path(name):
        return certificates / name

    server = serve(
        repository.path,
        "--grpc-use-ssl=true",
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={path('server.pem')}",
        f"--grpc-server-key={path('server.key')}",
        f"--grpc-root-cert={path('ca.pem')}",
    )
    whole = {"ca_path": path("ca.pem"), "cert_path": path("client.pem"), "key_path": path("client.key")}
    assert connect(server, tls=whole).infer("scaled", X)["y"][0, 0] == 1
    assert connect(server, tls={**whole, "server_name": "server"}).infer("scaled", X)["y"][0, 0] == 1
    for tls in ({"ca_path": path("ca.pem")}, {**whole, "ca_path": path("other-ca.pem")}, None):
        with pytest.raises(EngineError, match=r"away for|no answer within"):
            connect(server, tls=tls, **BRIEF).infer("scaled", X)

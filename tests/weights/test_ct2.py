"""The CTranslate2 reader and the way back to Hugging Face's tensors."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.errors import WeightsError
from inference.weights.ct2 import read_ct2, to_hugging_face


@pytest.fixture
def read(tmp_path):
    def read_bytes(content: bytes):
        (tmp_path / "model.bin").write_bytes(content)
        return read_ct2(tmp_path / "model.bin")

    return read_bytes


def test_variables_come_back_and_an_alias_is_what_it_names(made, read):
    variables = made.ct2_variables()
    got = read(made.ct2_bytes(variables))
    assert got.keys() == variables.keys() | {"decoder/projection/weight"}
    for name, want in variables.items():
        np.testing.assert_array_equal(got[name], want, strict=True)
    np.testing.assert_array_equal(got["decoder/projection/weight"], variables["decoder/embeddings/weight"])
    assert not got["decoder/embeddings/weight"].flags.writeable


def test_fused_projections_split_into_hugging_face_tensors(made, read):
    variables = made.ct2_variables()
    want = made.hugging_face_tensors(variables)
    del want["proj_out.weight"]  # tied to the token embedding
    got = to_hugging_face(read(made.ct2_bytes(variables)))
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        np.testing.assert_array_equal(got[name](), tensor)


def test_a_key_bias_that_is_not_zero_is_not_dropped_silently(made, read):
    variables = made.ct2_variables()
    variables["encoder/layer_0/self_attention/linear_0/bias"][5] = 1
    with pytest.raises(WeightsError, match="encoder/layer_0/self_attention/linear_0/bias is not zero for the keys"):
        to_hugging_face(read(made.ct2_bytes(variables)))


def test_a_quantised_model_is_refused(made, read):
    variables = made.ct2_variables() | {"encoder/conv1/weight_scale": np.ones(4, np.float32)}
    with pytest.raises(WeightsError, match=r"quantised \(encoder/conv1/weight_scale\)"):
        to_hugging_face(read(made.ct2_bytes(variables)))


@pytest.mark.parametrize("name", ["decoder/embeddings/weight", "encoder/layer_norm/beta", "encoder/conv2/bias"])
def test_a_missing_variable_is_named(made, read, name):
    variables = read(made.ct2_bytes(made.ct2_variables()))
    del variables[name]
    with pytest.raises(WeightsError, match=f"lacks {name}"):
        to_hugging_face(variables)


def test_a_fused_projection_that_does_not_split_is_refused(made, read):
    variables = made.ct2_variables()
    variables["decoder/layer_0/attention/linear_1/weight"] = np.zeros((7, 4), np.float16)
    variables["decoder/layer_0/attention/linear_1/bias"] = np.zeros(7, np.float16)
    with pytest.raises(WeightsError, match="decoder/layer_0/attention/linear_1 does not split into 2"):
        to_hugging_face(read(made.ct2_bytes(variables)))


def text(value: bytes) -> bytes:
    return struct.pack("<H", len(value)) + value


HEAD = struct.pack("<I", 6) + text(b"WhisperSpec\0")


def one(name=b"x\0", rank=1, dims=(2,), code=4, num_bytes=4, data=b"\0" * 4) -> bytes:
    return text(name) + struct.pack(f"<B{len(dims)}IBI", rank, *dims, code, num_bytes) + data


NO_ALIAS = struct.pack("<I", 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\6\0", "truncated version at byte 0"),
        (struct.pack("<I", 5), "binary version 5, only 6 is read"),
        (struct.pack("<I", 7), "binary version 7, only 6 is read"),
        (struct.pack("<I", 6) + text(b"TransformerSpec\0"), "not a WhisperSpec"),
        (struct.pack("<I", 6) + b"\xff\xff", "truncated spec name"),
        (struct.pack("<I", 6) + text(b"WhisperSpec"), "spec name before byte 17 does not end with NUL"),
        (struct.pack("<I", 6) + text(b"\xc3\xa4\0"), "spec name before byte 9 is not ASCII"),
        (HEAD, "truncated revision and count"),
        (HEAD + struct.pack("<II", 3, 1 << 31), "announces 2147483648 variables"),
        (HEAD + struct.pack("<II", 3, 1), "truncated variable name length"),
        (HEAD + struct.pack("<II", 3, 1) + text(b"x\0"), "truncated rank"),
        (HEAD + struct.pack("<II", 3, 1) + one(rank=9, dims=()), "variable 'x' has rank 9"),
        (HEAD + struct.pack("<II", 3, 1) + one(code=5), "variable 'x' has unsupported dtype 5"),
        (HEAD + struct.pack("<II", 3, 1) + one(dims=(1 << 31,)), "has 4 bytes, not what its shape and dtype need"),
        (
            HEAD + struct.pack("<II", 3, 1) + one(dims=(0xFFFFFFFF,), num_bytes=0xFFFFFFFE),
            "not what its shape and dtype",
        ),
        (HEAD + struct.pack("<II", 3, 1) + one(data=b"\0"), "truncated variable data"),
        (HEAD + struct.pack("<II", 3, 2) + one() + one(), "variable 'x' is there twice"),
        (HEAD + struct.pack("<II", 3, 1) + one(), "truncated alias count"),
        (HEAD + struct.pack("<II", 3, 1) + one() + struct.pack("<I", 1 << 30), "announces 1073741824 aliases"),
        (HEAD + struct.pack("<III", 3, 0, 1) + text(b"a\0") + text(b"b\0"), "alias 'a' names no variable"),
        (HEAD + struct.pack("<II", 3, 1) + one() + NO_ALIAS + b"xy", "has 2 bytes after its end"),
    ],
)
def test_a_malformed_file_is_refused_by_the_exact_field(read, content, message):
    with pytest.raises(WeightsError, match=message) as error:
        read(content)
    assert "\n" not in str(error.value)


@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_truncated_and_mutated_files_are_read_in_bounds_or_refused(made, read, data):
    good = bytearray(made.ct2_bytes(made.ct2_variables()))
    for _ in range(data.draw(st.integers(0, 3), label="mutations")):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    size = data.draw(st.one_of(st.just(len(good)), st.integers(0, len(good))), label="size")
    try:
        tensors = to_hugging_face(read(bytes(good[:size])))
        for load in tensors.values():
            load().tobytes()
    except WeightsError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right

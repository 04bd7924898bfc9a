"""The reader of 4-bit E5 files, on a made one: what is in it comes back, and nothing else is believed."""

import functools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from inference.errors import WeightsError
from inference.weights.e5 import BLOCK, dequantise_q4, prune, read_e5, read_kept, write_kept
from tests.thorough import cases

WIDTH, INNER, LAYERS, POSITIONS = 32, 64, 1, 8
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁code", "co", "de", "▁read", "a", "▁码", "码"]
SCORES = [0.0, 0.0, 0.0, 0.0, -2.0, -5.0, -4.0, -4.0, -5.0, -6.0, -5.5, -6.0]


def q4(values: np.ndarray) -> bytes:
    out = b""
    for block in values.reshape(-1, BLOCK):
        scale = np.float16(np.abs(block).max() / 7 or 1)
        q = np.clip(np.rint(block / np.float32(scale)) + 8, 0, 15).astype(np.uint8)
        out += scale.tobytes() + (q[:16] | q[16:] << 4).tobytes()
    return out


@functools.cache
def made() -> tuple[bytes, dict[str, np.ndarray]]:
    """A whole file, and its tensors before they were quantised."""
    rng = np.random.default_rng(0)
    words = len(PIECES) + 2
    shapes: dict[str, tuple[tuple[int, ...], bool]] = {
        "emb.word": ((words, WIDTH), True),
        "emb.pos": ((POSITIONS, WIDTH), False),
        "emb.type": ((2, WIDTH), False),
        "emb.ln.w": ((WIDTH,), False),
        "emb.ln.b": ((WIDTH,), False),
    }
    for name, shape in {"q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "ao": (WIDTH, WIDTH)}.items():
        shapes |= {f"l0.{name}.w": (shape, True), f"l0.{name}.b": (shape[:1], False)}
    for name, shape in {"fi": (INNER, WIDTH), "fo": (WIDTH, INNER)}.items():
        shapes |= {f"l0.{name}.w": (shape, True), f"l0.{name}.b": (shape[:1], False)}
    for name in ("aln", "oln"):
        shapes |= {f"l0.{name}.w": ((WIDTH,), False), f"l0.{name}.b": ((WIDTH,), False)}
    tensors = {name: rng.normal(0, 1, shape).astype(np.float32) for name, (shape, _) in shapes.items()}
    blob = "".join(PIECES).encode()
    offsets = np.cumsum([0, *(len(piece.encode()) for piece in PIECES)]).astype("<u4")
    head = struct.pack("<4sI7ifi", b"E5S1", 1, WIDTH, LAYERS, 4, INNER, words, POSITIONS, 2, 1e-12, BLOCK)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(blob)) + offsets.tobytes()
    head += np.array(SCORES, "<f4").tobytes() + blob + struct.pack("<iI", 1, 9) + bytes(9)
    data = {name: q4(tensors[name]) if packed else tensors[name].tobytes() for name, (_, packed) in shapes.items()}
    length = len(head) + 4 + sum(2 + len(name) + 21 for name in data)
    directory = struct.pack("<i", len(data))
    for name, raw in data.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", shapes[name][1], tensors[name].size, length, len(raw))
        length += len(raw)
    return head + directory + b"".join(data.values()), tensors


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "e5-small-q4.bin"
    path.write_bytes(made()[0])
    return path


def test_what_is_in_the_file_comes_back(path: Path) -> None:
    file, tensors = read_e5(path), made()[1]
    assert list(file.pieces) == PIECES
    assert file.special == (1, 3, 0, 2)
    np.testing.assert_array_equal(file.tensors["embeddings.LayerNorm.weight"](), tensors["emb.ln.w"])
    query = file.tensors["encoder.layer.0.attention.self.query.weight"]()
    # A block's largest number may lie at -8 or at 7 sevenths of its scale: half a step wide, and a rounded scale.
    step = np.abs(tensors["l0.q.w"]).reshape(-1, BLOCK).max(axis=1) / 7
    assert (np.abs(query - tensors["l0.q.w"]).reshape(-1, BLOCK) <= 0.52 * step[:, None]).all()
    assert file.tensors["encoder.layer.0.intermediate.dense.weight"]().shape == (INNER, WIDTH)


def test_low_bits_come_before_high_ones() -> None:
    raw = np.frombuffer(np.float16(0.5).tobytes() + bytes([0xF0] + [0x88] * 15), np.uint8)
    values = dequantise_q4(raw)
    assert values[0] == -4.0
    assert values[16] == 3.5
    assert not values[1:16].any()


def test_a_pruned_vocabulary_spells_what_was_cut_out(path: Path) -> None:
    kept = [4, 6, 7, 8, 9, 11]  # without "▁code" and "▁码"
    tensors, text = prune(read_e5(path), kept)
    tokenizer = Tokenizer.from_str(text.decode())
    assert tokenizer.encode("read code码", add_special_tokens=False).tokens == ["▁read", "▁", "co", "de", "码"]
    assert tokenizer.encode("read").ids[0] == tokenizer.token_to_id("[CLS]") == 2
    words = tensors["embeddings.word_embeddings.weight"]()
    assert len(words) == 4 + len(kept)
    whole = read_e5(path).tensors["embeddings.word_embeddings.weight"]()
    np.testing.assert_array_equal(words[0], whole[1])  # padding first
    np.testing.assert_array_equal(words[4:], whole[kept])


def test_a_list_of_another_vocabulary_is_refused(path: Path) -> None:
    with pytest.raises(WeightsError, match="does not belong"):
        prune(read_e5(path), [4, 400])


@given(st.sets(st.integers(0, 3000), max_size=300))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_list_of_kept_pieces_comes_back(tmp_path: Path, kept: set[int]) -> None:
    path = tmp_path / "kept.txt"
    path.write_text(write_kept(sorted(kept)))
    assert read_kept(path) == sorted(kept)


@pytest.mark.parametrize("text", ["5 4", "1-3 2", "one", "4-"])
def test_a_damaged_list_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kept.txt"
    path.write_text(text)
    if text == "4-":  # as good as "4"
        assert read_kept(path) == [4]
        return
    with pytest.raises(WeightsError, match="reinstall"):
        read_kept(path)


@given(st.integers(0, len(made()[0]) - 1))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_ends_early_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "short.bin"
    path.write_bytes(made()[0][:length])
    with pytest.raises(WeightsError):
        read_e5(path)


@given(st.integers(0, 800), st.integers(0, 255))
@settings(deadline=None, max_examples=cases(120, 300), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_byte_that_flips_is_refused_or_reads_within_the_file(tmp_path: Path, at: int, value: int) -> None:
    content = bytearray(made()[0])
    content[at] = value
    path = tmp_path / "flipped.bin"
    path.write_bytes(content)
    try:
        file = read_e5(path)
    except WeightsError:
        return
    for load in file.tensors.values():
        load()

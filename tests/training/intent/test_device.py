"""What the encoder computes in on which processor."""

import pytest

torch = pytest.importorskip("torch")

from training.intent.device import precision  # noqa: E402

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("can", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ],
)
def test_bfloat16_only_where_the_processor_multiplies_it(monkeypatch, can, expected):
    monkeypatch.delenv("SCAMTAP_FLOAT32", raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can)
    assert precision(CPU) == expected


def test_float32_may_be_asked_for(monkeypatch):
    monkeypatch.setenv("SCAMTAP_FLOAT32", "1")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert precision(CPU) == torch.float32

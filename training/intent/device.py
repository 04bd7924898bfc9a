"""Where and with whom a model is trained: a GPU or the CPU; several processes where torchrun started them."""

import os
from collections.abc import Iterable

import torch
from torch import Tensor, distributed, nn

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
"""Capabilities of a CPU that multiplies bfloat16 itself."""


def best_device() -> torch.device:
    """The GPU of this process, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def precision(device: torch.device) -> torch.dtype:
    """What the encoder computes in: bfloat16 where a product of it is quick (most GPUs and newer CPUs), else float32.

    A CPU without instructions for it does what it is told, at an eightieth of its speed (AMD, AVX2, measured here).
    ``SCAMTAP_FLOAT32=1`` asks for float32 anywhere, to compare.
    """
    if os.environ.get("SCAMTAP_FLOAT32") == "1":
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    can = torch.cpu.get_capabilities()
    is_quick = torch.backends.mkldnn.enabled and any(can.get(name) for name in BF16_INSTRUCTIONS)
    return torch.bfloat16 if is_quick else torch.float32


class Ranks:
    """The processes that train one model together: each takes its share of every batch, gradients are summed.

    With one process nothing is sent. With several (torchrun sets ``WORLD_SIZE``) the result is that of one process, but
    for rounding and the dice of dropout, because losses are divided by what *all* processes count.
    """

    def __init__(self) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        self.size = distributed.get_world_size() if distributed.is_initialized() else 1
        self.rank = distributed.get_rank() if distributed.is_initialized() else 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """``values`` summed over all processes."""
        if self.size > 1:
            values = values.detach().clone()
            distributed.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make every process's gradients the sum of all."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:  # another process may have one
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)

    def close(self) -> None:
        """Leave the group."""
        if self.size > 1:
            distributed.destroy_process_group()

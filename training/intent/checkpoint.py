"""A run of training on disk, so that one that was killed goes on where it was: safetensors, never pickle."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from inference.errors import ConfigError

RNG = "rng"


def save_checkpoint(path: Path, network: nn.Module, optimizer: Optimizer, schedule: LambdaLR, step: int) -> None:
    """Write everything that the next step depends on, by a temporary file and rename: whole or not at all."""
    tensors = {f"network.{name}": value.contiguous() for name, value in network.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer.{number}.{key}"] = torch.as_tensor(value).contiguous()
    tensors[RNG] = torch.get_rng_state()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"step": str(step), "schedule": str(schedule.last_epoch)})
    temporary.replace(path)


def load_checkpoint(path: Path, network: nn.Module, optimizer: Optimizer, schedule: LambdaLR) -> int:
    """Restore what :func:`save_checkpoint` wrote; returns the steps done, 0 where there is no file.

    Raises:
        ConfigError: the file is damaged or of another network.
    """
    if not path.exists():
        return 0
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        weights = {n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")}
        network.load_state_dict(weights)
        held = optimizer.state_dict()
        states: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".")
                states.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({"state": states, "param_groups": held["param_groups"]})
        schedule.last_epoch = int(metadata["schedule"])
        for group, base, share in zip(optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
            group["lr"] = base * share(schedule.last_epoch)
        torch.set_rng_state(tensors[RNG])
        return int(metadata["step"])
    except (SafetensorError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: is no checkpoint of this run; remove it to begin anew") from error

"""A run of training on disk, so that one that was killed goes on where it was: safetensors, never pickle."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer

from inference.errors import ConfigError

RNG = "rng"


@dataclass(frozen=True, slots=True)
class Place:
    """How far a run is.

    Attributes:
        epoch: whole passes.
        batch: batches of the pass that it is in.
        step: batches in all.
        plan_sha256: of the pass that it is in: its calls, their order, the recipe.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    plan_sha256: str = ""


def save_checkpoint(path: Path, network: nn.Module, optimizer: Optimizer, place: Place) -> None:
    """Write everything that the next step depends on, by a temporary file and rename: whole or not at all."""
    tensors = {f"network.{name}": value.contiguous() for name, value in network.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer.{number}.{key}"] = torch.as_tensor(value).contiguous()
    tensors[RNG] = torch.get_rng_state()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={k: str(v) for k, v in asdict(place).items()})
    temporary.replace(path)


def load_checkpoint(path: Path, network: nn.Module, optimizer: Optimizer) -> Place | None:
    """Restore what :func:`save_checkpoint` wrote; returns how far it was, None where there is no file.

    Raises:
        ConfigError: the file is damaged or of another network.
    """
    if not path.exists():
        return None
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
        torch.set_rng_state(tensors[RNG])
        epoch, batch, step = (int(metadata[name]) for name in ("epoch", "batch", "step"))
        return Place(epoch, batch, step, metadata["plan_sha256"])
    except (SafetensorError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: is no checkpoint of this run; remove it to begin anew") from error

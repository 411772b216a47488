"""Resumable training state: an exponential moving average of weights, and atomic state files."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving average of a module's floating-point parameters and buffers.

    The effective decay grows as ``min(decay, (1 + n) / (10 + n))`` with the number of updates n, so that the
    average forgets the initial weights quickly (the warm-up commonly used with diffusion models).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"EMA decay must lie in [0, 1), got {decay}.")
        self.decay = decay
        self.updates = 0
        self.shadow = {name: value.detach().clone() for name, value in _floating(module).items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's present weights."""
        self.updates += 1
        weight = 1.0 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        values = _floating(module)
        torch._foreach_lerp_([self.shadow[name] for name in values], list(values.values()), weight)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Write the average into a module of the same structure."""
        for name, value in _floating(module).items():
            value.copy_(self.shadow[name])

    def state_dict(self) -> dict[str, Any]:
        """Everything :meth:`load_state_dict` needs."""
        return {"updates": self.updates, "shadow": self.shadow}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore an average saved by :meth:`state_dict`."""
        self.updates = state["updates"]
        for name, value in self.shadow.items():
            value.copy_(state["shadow"][name])


def _floating(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.data for name, value in module.state_dict().items() if value.is_floating_point()}


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state file atomically: a killed run leaves the previous file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(dict(state), partial)
    os.replace(partial, path)


def load_state(path: Path) -> dict[str, Any] | None:
    """Read a state file made by :func:`save_state`; ``None`` when there is none yet."""
    if not path.exists():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)

"""Optimisers and the learning-rate schedule shared by the recipes."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn

from opensora.training.muon import Muon

OptimizerName = Literal["adamw", "muon"]


class Optimizers:
    """One or two optimisers stepped together, with a common learning-rate factor.

    ``muon`` updates hidden matrices and convolutions with :class:`Muon` and every other parameter (embeddings, norms,
    biases, tables, layers that touch pixels) with AdamW; ``adamw`` updates all of them with AdamW.
    """

    def __init__(self, module: nn.Module, name: OptimizerName, lr: float, weight_decay: float) -> None:
        matrices = hidden_matrices(module) if name == "muon" else []
        chosen = {id(p) for p in matrices}
        others = [p for p in module.parameters() if p.requires_grad and id(p) not in chosen]
        self.members: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
        ]
        if matrices:
            self.members.append(Muon(matrices, lr=lr, weight_decay=weight_decay))
        self.lr = lr

    def step(self, lr_factor: float) -> None:
        """One update of every parameter at ``lr * lr_factor``; gradients are cleared afterwards."""
        for member in self.members:
            for group in member.param_groups:
                group["lr"] = self.lr * lr_factor
            member.step()
            member.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """States of the members, in a fixed order."""
        return [member.state_dict() for member in self.members]

    def load_state_dict(self, states: Iterable[dict[str, Any]]) -> None:
        """Restore states saved by :meth:`state_dict`."""
        for member, state in zip(self.members, states, strict=True):
            member.load_state_dict(state)


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """Weights of the linear and convolution layers with at least 12 inputs and outputs."""
    layers = (nn.Linear, nn.Conv2d, nn.Conv3d)
    weights = [m.weight for m in module.modules() if isinstance(m, layers)]
    return [w for w in weights if isinstance(w, nn.Parameter) and w.requires_grad and min(w.shape[:2]) >= 12]


def warmup_stable_decay(step: int, steps: int, warmup: int, decay_fraction: float) -> float:
    """Learning-rate factor in [0, 1]: linear warm-up, constant, then linear decay over the last part of the run.

    Args:
        step: index of the coming update, from 0.
        steps: updates of the whole run.
        warmup: updates of the warm-up.
        decay_fraction: share of ``steps``, in [0, 1], spent decaying to zero.
    """
    rise = min(1.0, (step + 1) / max(1, warmup))
    decay_steps = max(1, int(steps * decay_fraction))
    return rise * min(1.0, (steps - step) / decay_steps)

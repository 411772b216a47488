"""Optimisers and the learning-rate schedule shared by the recipes."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn

OptimizerName = Literal["adamw", "muon"]


class Optimizers:
    """One or two optimisers stepped together, with a common learning-rate factor.

    ``muon`` orthogonalises the updates of hidden matrices (Jordan et al. 2024; update size matched to AdamW's as in
    Liu et al. 2025) and leaves every other parameter (embeddings, norms, biases, tables, convolutions) to AdamW.
    """

    def __init__(self, module: nn.Module, name: OptimizerName, lr: float, weight_decay: float) -> None:
        matrices, others = (
            _split(module) if name == "muon" else ([], [p for p in module.parameters() if p.requires_grad])
        )
        self.members: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
        ]
        if matrices:
            self.members.append(
                torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            )
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


def _split(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Hidden weight matrices of ``nn.Linear`` layers, and everything else."""
    matrices = [m.weight for m in module.modules() if isinstance(m, nn.Linear) and min(m.weight.shape) >= 64]
    chosen = {id(p) for p in matrices}
    return matrices, [p for p in module.parameters() if p.requires_grad and id(p) not in chosen]


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

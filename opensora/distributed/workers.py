"""The processes of one run, started by ``torchrun`` or alone, and the little they tell each other."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Workers:
    """This process among its equals."""

    rank: int = 0
    """Number of this process, from 0."""
    count: int = 1
    """How many there are."""

    @classmethod
    def start(cls, patience: timedelta | None = None) -> "Workers":
        """Join the processes that ``torchrun`` started (its variables WORLD_SIZE, RANK ...), or be the only one.

        Args:
            patience: how long one waits for another; ``None`` for torch's own limits of 10 or 30 minutes.
        """
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(backend, timeout=patience)
        return cls(dist.get_rank(), count)

    @property
    def first(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def device(self) -> torch.device:
        """The GPU of this process (by torchrun's LOCAL_RANK), or the CPU."""
        if not torch.cuda.is_available():
            return torch.device("cpu")
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        return device

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its mean over all processes, in one message; a missing one counts as zero."""
        if self.count == 1:
            return
        chosen = [p for p in parameters if p.requires_grad]
        for p in chosen:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        gradients = [p.grad for p in chosen if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def agree(self, flag: bool) -> bool:
        """Whether the first process says so; the same answer everywhere."""
        if self.count == 1:
            return flag
        value = torch.tensor([float(flag)])
        dist.broadcast(value, 0)
        return bool(value.item())

    def stop(self) -> None:
        """Leave the group, together: who leaves while another still listens may abort it."""
        if self.count > 1 and dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()

"""Networks that lie in main memory and come to a device for their turn, so that less of its memory is needed.

Weights do not change while a clip is made: they are copied to the device, and when a turn ends the copies are dropped
and the originals, which never left main memory, are in their place again. Leaving costs nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Offload = Literal["none", "text", "all"]
"""Which networks leave the device between their turns: none, those that read the text, or all."""
OFFLOADS: tuple[Offload, ...] = ("none", "text", "all")
MAIN = torch.device("cpu")
"""Main memory."""


@dataclass(frozen=True)
class Places:
    """Where networks compute, and where they lie until then."""

    device: torch.device
    """Where all compute."""
    offload: Offload = "none"
    """Which lie in main memory."""

    def __post_init__(self) -> None:
        if self.offload not in OFFLOADS:
            raise ValueError(f"Got the offload {str(self.offload)[:40]!r}; choose one of {', '.join(OFFLOADS)}.")
        if self.offload != "none" and not leaves_memory(self.device):
            raise ValueError(f"Networks on {self.device} are in main memory already; leave the offload at none.")

    @property
    def text(self) -> torch.device:
        """Where text encoders lie."""
        return self.device if self.offload == "none" else MAIN

    @property
    def others(self) -> torch.device:
        """Where the denoiser and the autoencoder lie."""
        return MAIN if self.offload == "all" else self.device


def leaves_memory(device: torch.device) -> bool:
    """Whether a device has memory of its own, which a network in main memory does not take."""
    return device.type == "cuda"


@contextmanager
def on_device(networks: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """The networks with their weights on a device until the block ends, whatever ends it.

    Nothing may change the weights inside the block: it would be lost.
    """
    tensors = {id(tensor): tensor for network in networks for tensor in (*network.parameters(), *network.buffers())}
    kept = [(tensor, tensor.data) for tensor in tensors.values()]
    try:
        with torch.inference_mode(False):  # weights are no tensors of inference, whoever asks for the turn
            for tensor, data in kept:
                tensor.data = copied(data, device)
        yield
    finally:
        with torch.inference_mode(False):
            for tensor, data in kept:
                tensor.data = data
        if device.type == "cuda":
            torch.cuda.empty_cache()


def copied(data: Tensor, device: torch.device) -> Tensor:
    """The same numbers on a device, in the same memory format."""
    return data.to(device)

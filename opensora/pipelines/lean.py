"""How the same clip is made in less memory, for a request whose memory ran out; slower, the same to rounding."""

import ctypes
import dataclasses
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from opensora.acceleration.rows import one_by_one
from opensora.nn.causal_conv import CausalConv
from opensora.pipelines.plan import choose_device
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import GenerationError
from opensora.sentences import say, stage_named


class OutOfMemory(GenerationError):
    """The memory ran out in a stage."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage, say("failed.memory", stage=stage_named(stage)))


def offloaded(request: GenerationRequest) -> GenerationRequest:
    """The request with networks in main memory until their turn, where the device has a memory of its own."""
    if choose_device(request.device).type != "cuda":
        return request
    return dataclasses.replace(request, offload=True)


@contextmanager
def less_at_once(denoiser: nn.Module, vae: nn.Module) -> Iterator[None]:
    """Inside the block the rows of guidance are computed one after another, and so are the frames of convolutions.

    Args:
        denoiser: its calls may have several rows.
        vae: the autoencoder.
    """
    convolutions = [module for module in vae.modules() if isinstance(module, CausalConv)]
    before = [module.tile_size for module in convolutions]
    try:
        for module in convolutions:
            module.tile_size = 1
        with one_by_one(denoiser):
            yield
    finally:
        for module, size in zip(convolutions, before, strict=True):
            module.tile_size = size


def free_memory() -> None:
    """Give back what no network holds, after work that was broken off."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def trim() -> None:
    """Give the system back what the C library keeps of memory that was freed. Only glibc can be asked; there a worker
    grew from job to job."""
    if sys.platform == "linux":
        asked = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if asked is not None:
            asked(0)

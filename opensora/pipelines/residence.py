"""Which networks of a request lie in main memory until their stage, decided before they are loaded."""

from contextlib import AbstractContextManager, nullcontext

import torch

from opensora.acceleration.offload import OFFLOADS, Offload, leaves_memory, on_device
from opensora.pipelines.cost import Memory
from opensora.pipelines.families import family_of
from opensora.pipelines.memory import room
from opensora.pipelines.models import Models
from opensora.sentences import say

MARGIN = 1.1
"""How much more than counted has to be free, so that a network stays."""
LEAVING: dict[str, tuple[str, ...]] = {
    "none": (),
    "text": ("text",),
    "all": ("text", "reference", "sampling", "decoding"),
}
"""Stages whose networks leave the device when they end, by the plan's ``offload``."""


def choose_offload(wanted: bool | None, device: torch.device, memory: Memory) -> Offload:
    """Which networks are to lie in main memory.

    Args:
        wanted: what the request says; ``None`` takes as few away as the device's memory needs.
        device: where they compute.
        memory: what the request takes.
    """
    if not leaves_memory(device) or wanted is False:
        return "none"
    if wanted:
        return "all"
    here = room(device)
    for offload in OFFLOADS:
        if here is None or MARGIN * memory.peak(offload) <= here.free:
            return offload
    return "all"


def notes(wanted: bool | None, device: torch.device, offload: str) -> list[str]:
    """The sentence on a choice that was not made by the request, or that changes nothing."""
    if wanted and offload == "none":
        return [say("offload.nothing", device=device.type)]
    if wanted is None and offload == "text":
        return [say("offload.text")]
    if wanted is None and offload == "all":
        return [say("offload.all")]
    return []


def at_work(models: Models, stage: str) -> AbstractContextManager[None]:
    """The networks of a stage on the plan's device until the block ends, where they lie elsewhere until then."""
    plan = models.config.plan
    if stage not in LEAVING[plan.offload]:
        return nullcontext()
    own = {"reference": [models.vae], "sampling": [models.stdit], "decoding": [models.vae]}
    every = family_of(models.config.bundle).modules(models)
    texts = [network for network in every if network is not models.stdit and network is not models.vae]
    return on_device(own.get(stage, texts), torch.device(plan.device))

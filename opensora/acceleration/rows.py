"""A denoiser that computes the rows of a batch one after another: the same result to rounding, in less memory."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from opensora.nn.embed import repeat_rows


@contextmanager
def one_by_one(network: nn.Module) -> Iterator[None]:
    """Inside the block a call of the network with several rows is as many calls with one.

    Args:
        network: an MMDiT or STDiT3, whose arguments are tensors (R, ...) of which row b of the batch has row b % R, the
            first of them all rows; what is no tensor belongs to every row.
    """
    forward = network.forward
    signature = inspect.signature(forward)

    def in_rows(*args: Any, **kwargs: Any) -> Tensor:
        told = signature.bind(*args, **kwargs).arguments
        batch = len(next(iter(told.values())))
        results = [forward(**_row(told, batch, index)) for index in range(batch)]
        # Where processes share the rows, a call also gives back the row of every other process, whose rows lie apart.
        return torch.stack(results, dim=1).flatten(0, 1)

    network.forward = in_rows
    try:
        yield
    finally:
        network.forward = forward


def _row(told: dict[str, Any], batch: int, index: int) -> dict[str, Any]:
    row = {}
    for name, value in told.items():
        if isinstance(value, Tensor):
            rows = value[:batch] if name == "y_null" else value  # of which there may be more than needed
            value = repeat_rows(rows, batch, name)[index : index + 1]
        row[name] = value
    return row

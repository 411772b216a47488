"""Weights of one rotary layout as weights of the other.

Neighbouring channels (2i, 2i + 1) of a head turn together in FLUX.1, channels (i, i + K/2) in Open-Sora 2.0. Scores of
queries with keys do not change when the channels of both are put in another order, so the rows that project to them,
and their norms, can be reordered once: a network of the other layout then has the same function.

Legend: A heads, K width of a head, D = A * K width of the network.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from opensora.models.mmdit.config import MMDiTConfig

_FUSED = (".qkv.", ".linear1.")
_SEPARATE = (".q_proj.", ".k_proj.")
_NORMS = (".norm.query_norm.scale", ".norm.key_norm.scale")


def to_halves(x: Tensor) -> Tensor:
    """(..., K) with even channels before odd ones: neighbours are half an axis apart afterwards."""
    return torch.cat((x[..., 0::2], x[..., 1::2]), dim=-1)


def to_neighbours(x: Tensor) -> Tensor:
    """The inverse of :func:`to_halves`."""
    return torch.stack(x.chunk(2, dim=-1), dim=-1).flatten(-2)


def convert_rotary_layout(state: Mapping[str, Tensor], config: MMDiTConfig) -> dict[str, Tensor]:
    """The weights ``state`` of the network ``config`` for the other setting of its ``use_liger_rope``.

    Args:
        state: a whole state dict of MMDiT; its tensors are left as they are.
        config: what the weights are of now.

    Returns:
        A state dict with the same names, shapes and dtypes.
    """
    order = to_neighbours if config.use_liger_rope else to_halves
    dim, heads = config.hidden_size, (config.num_heads, config.head_dim)

    def reordered(rows: Tensor) -> Tensor:  # (parts * D, ...) -> the same, every head's rows in the other order
        return order(rows.unflatten(0, (-1, *heads)).movedim(2, -1)).movedim(-1, 2).flatten(0, 2)

    converted = dict(state)
    for name, value in state.items():
        if name.endswith(_NORMS):
            converted[name] = order(value)
        elif any(part in name for part in _SEPARATE):
            converted[name] = reordered(value)
        elif any(part in name for part in _FUSED):
            converted[name] = torch.cat((reordered(value[: 2 * dim]), value[2 * dim :]))
    return converted

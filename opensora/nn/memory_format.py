"""How the weights of convolutions lie in memory."""

import torch
from torch import nn


def convert(module: nn.Module, layout: torch.memory_format) -> None:
    """Lay out the weights of all convolutions of `module` in place.

    ``torch.channels_last_3d`` means ``torch.channels_last`` for 2-D convolutions, where ``nn.Module.to`` fails.
    """
    plane = torch.channels_last if layout == torch.channels_last_3d else layout
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            flat = isinstance(layer, nn.Conv2d)
            layer.weight.data = layer.weight.data.contiguous(memory_format=plane if flat else layout)

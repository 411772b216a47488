"""Weights of a new STDiT3: at first every block passes its input on and the output is zero."""

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from opensora.models.stdit.stdit3 import STDiT3


def initialize_weights(model: "STDiT3") -> None:
    """Fill ``model`` as diffusion transformers are usually started.

    Linear maps are Xavier-uniform without bias; embeddings of timestep, frame rate and captions are normal with
    deviation 0.02. Zero are: the modulation (so that gates are closed), the cross-attention's output, the embedding of
    given frames (so that a text-to-video network starts unchanged as an image-to-video one), and the last layer.
    """
    for linear in linears(model):
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
    for part in (model.t_embedder, model.fps_embedder, model.y_embedder):
        for linear in linears(part):
            nn.init.normal_(linear.weight, std=0.02)
    first = model.x_embedder.proj
    nn.init.xavier_uniform_(first.weight.view(first.out_channels, -1))
    zero = [*model.t_block.parameters(), *model.final_layer.parameters()]
    for name, parameter in model.named_parameters():
        conditions = name.startswith(("x_embedder_cond.", "x_embedder_cond_mask."))
        closed = name == "x_embedder.proj.bias" or name.endswith(("cross_attn.proj.weight", "scale_shift_table"))
        if conditions or closed:
            zero.append(parameter)
    for parameter in zero:
        nn.init.zeros_(parameter)


def linears(module: nn.Module) -> list[nn.Linear]:
    """All linear layers of a module."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]

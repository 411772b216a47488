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
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    projection = model.x_embedder.proj
    nn.init.xavier_uniform_(projection.weight.view(projection.out_channels, -1))
    for embedder in (model.t_embedder.mlp, model.fps_embedder.mlp, model.y_embedder.y_proj):
        for module in embedder.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
    for block in (*model.spatial_blocks, *model.temporal_blocks):
        nn.init.zeros_(block.scale_shift_table)
        nn.init.zeros_(block.cross_attn.proj.weight)
    nn.init.zeros_(projection.bias)
    for module in (model.t_block[1], model.final_layer.linear):
        nn.init.zeros_(module.weight)
    nn.init.zeros_(model.final_layer.scale_shift_table)
    for embedder in (model.x_embedder_cond.proj, model.x_embedder_cond_mask.proj):
        nn.init.zeros_(embedder.weight)
        nn.init.zeros_(embedder.bias)

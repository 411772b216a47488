"""Start of the training of a small Hunyuan autoencoder: as :mod:`opensora.training.vae_init`, a network that already
passes colours through."""

import torch
from torch import nn

from opensora.models.vae_hunyuan.blocks import Downsample, FrameCausalAttention, ResnetBlock, Upsample
from opensora.models.vae_hunyuan.coder import DownBlock, UpBlock
from opensora.models.vae_hunyuan.vae import AutoencoderKLCausal3D
from opensora.training.vae_init import (
    COLOURS,
    LATENT_SCALE,
    carry,
    check_widths,
    clear,
    colours_of_groups,
    latents_of_colours,
    lay_out,
)


def prepare_for_training(model: AutoencoderKLCausal3D) -> None:
    """Set the starting weights and lay them out for fast convolutions.

    Raises:
        ValueError: neighbouring levels have the same width, or fewer than three groups or four channels in one.
    """
    check_widths(model.config.block_out_channels, model.config.norm_num_groups)
    with torch.no_grad():
        for module in model.modules():
            _zero_branch(module)
        _pass_on(model.quant_conv)
        _pass_on(model.post_quant_conv)
        _encoder(model)
        _decoder(model)
    lay_out(model)


def _zero_branch(module: nn.Module) -> None:
    """Blocks begin as identities, or as their shortcut."""
    if isinstance(module, ResnetBlock):
        clear(module.conv2.conv)
    elif isinstance(module, FrameCausalAttention):
        for parameter in module.to_out.parameters():
            parameter.zero_()


def _pass_on(conv: nn.Conv3d) -> None:
    """A 1x1x1 convolution begins as the identity."""
    clear(conv)
    nn.init.dirac_(conv.weight)


def _shortcut(block: nn.Module) -> nn.Conv3d | None:
    """The 1x1x1 convolution where a level changes its width; ``None`` where it does not."""
    assert isinstance(block, DownBlock | UpBlock)
    first = block.resnets[0]
    assert isinstance(first, ResnetBlock)
    return None if first.conv_shortcut is None else first.conv_shortcut.conv


def _encoder(model: AutoencoderKLCausal3D) -> None:
    encoder, config = model.encoder, model.config
    carry(encoder.conv_in.conv, sources=COLOURS)
    for block in encoder.down_blocks:
        assert isinstance(block, DownBlock)
        shortcut = _shortcut(block)
        if shortcut is not None:
            carry(shortcut)
        for down in block.downsamplers:
            assert isinstance(down, Downsample)
            conv = down.conv.conv
            carry(conv, rows=(0.0, 0.5, 0.5) if conv.stride[1] == 2 else None)
    last = _shortcut(encoder.down_blocks[-1])
    assert last is not None, "the last level of the encoder changes its width"
    group = config.block_out_channels[-1] // config.norm_num_groups
    latents_of_colours(last, encoder.conv_out.conv, group, config.latent_channels)


def _decoder(model: AutoencoderKLCausal3D) -> None:
    decoder = model.decoder
    carry(decoder.conv_in.conv, sources=COLOURS, gain=1 / LATENT_SCALE)
    for block in decoder.up_blocks:
        assert isinstance(block, UpBlock)
        shortcut = _shortcut(block)
        if shortcut is not None:
            carry(shortcut)
        for up in block.upsamplers:
            assert isinstance(up, Upsample)
            carry(up.conv.conv, rows=(0.25, 0.5, 0.25) if up.factors[1] == 2 else None)
    last = _shortcut(decoder.up_blocks[-1])
    assert last is not None, "the last level of the decoder changes its width"
    colours_of_groups(last, decoder.conv_norm_out, decoder.conv_out.conv)

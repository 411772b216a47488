"""Start of the autoencoder's training: a network that already passes colours through, and learns the rest.

Every normalisation layer erases the mean and the size of what passes, so that a network with random weights spends its
first thousand updates on learning to carry a plain colour. Here the first six channels of every level carry R, G, B and
their negatives: averaged on the way down, repeated on the way up. Where a group normalisation lies on that way, a
constant in the group makes its scale nearly independent of the picture, and ``silu(x) - silu(-x) = x`` undoes the
nonlinearity. All other weights are random, and the residual branches start at zero.

Legend: c one of the three colours; its channel is c, that of its negative c + 3.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from opensora.models.vae_v13.blocks import CausalAttention, Downsample2D, Downsample3D, ResBlock, Upsample2D, Upsample3D
from opensora.models.vae_v13.coder import Level
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3
from opensora.training.group_norm import use_fast_group_norm

COLOURS = 3
CARRIED = 2 * COLOURS
STEADY = 3.0
"""The constant that steadies a group's scale; colours are within [-1, 1]."""
LATENT_SCALE = 2.0
"""Latents of colours at the start, per unit of colour."""
START_LOGVAR = -4.0


def prepare_for_training(model: OpenSoraVAE_V1_3) -> None:
    """Set the starting weights and lay them out for fast convolutions.

    Raises:
        ValueError: neighbouring levels have the same width, or fewer than three groups or four channels in one.
    """
    check_widths(model.config.widths, model.config.norm_groups)
    with torch.no_grad():
        for module in model.modules():
            _zero_branch(module)
        _encoder(model)
        _decoder(model)
    lay_out(model)


def check_widths(widths: Sequence[int], groups: int) -> None:
    """Raise ValueError unless colours can be carried through levels of these widths."""
    if any(a == b for a, b in pairwise(widths)) or groups < COLOURS or widths[0] < 4 * groups:
        raise ValueError(
            f"the widths are {tuple(widths)} in {groups} groups; training needs another width on every level, "
            f"{COLOURS} groups or more, and 4 channels or more in a group."
        )


def lay_out(model: nn.Module) -> None:
    """Put the weights of convolutions into the layout in which they train fast, and speed up normalisations."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d | nn.Conv2d):
            layout = torch.channels_last_3d if isinstance(module, nn.Conv3d) else torch.channels_last
            module.weight.data = module.weight.data.contiguous(memory_format=layout)
    use_fast_group_norm(model)


def _zero_branch(module: nn.Module) -> None:
    """Blocks begin as identities, or as their shortcut."""
    if isinstance(module, ResBlock):
        clear(module.conv2.conv)
    elif isinstance(module, CausalAttention):
        clear(module.proj_out.conv)


def clear(conv: nn.Conv3d | nn.Conv2d, rows: slice = slice(None)) -> None:
    """Set the weights and biases of some outputs to zero."""
    conv.weight[rows] = 0
    bias(conv)[rows] = 0


def bias(conv: nn.Conv3d | nn.Conv2d) -> Tensor:
    """Of a convolution that has one."""
    assert conv.bias is not None
    return conv.bias


def _levels(levels: nn.ModuleList) -> list[Level]:
    return [level for level in levels if isinstance(level, Level)]


def _shortcut(level: Level) -> nn.Conv3d | None:
    """The 1x1x1 convolution where a level changes its width; ``None`` where it does not."""
    block = level.block[0]
    assert isinstance(block, ResBlock)
    return None if block.nin_shortcut is None else block.nin_shortcut.conv


def _encoder(model: OpenSoraVAE_V1_3) -> None:
    encoder, config = model.encoder, model.config
    carry(encoder.conv_in.conv, sources=COLOURS)
    for level in _levels(encoder.down):
        shortcut = _shortcut(level)
        if shortcut is not None:
            carry(shortcut)
        if isinstance(level.downsample, Downsample2D):
            carry(level.downsample.conv, rows=(0.5, 0.5, 0.0))
        elif isinstance(level.downsample, Downsample3D):
            carry(level.downsample.conv.conv, rows=(0.0, 0.5, 0.5))
    last = _shortcut(_levels(encoder.down)[-1])
    assert last is not None, "the last level of the encoder changes its width"
    latents_of_colours(last, encoder.conv_out.conv, config.widths[-1] // config.norm_groups, config.z_channels)


def latents_of_colours(last: nn.Conv3d, out: nn.Conv3d, group: int, latents: int) -> None:
    """Let the first three of so many latents be the colours that ``last`` carries to the normalisation before ``out``,
    whose first group has ``group`` channels; all begin with a small variance."""
    constant(last, (CARRIED, CARRIED + 1), (STEADY, -STEADY))
    others = group - CARRIED - 2
    scale = ((CARRIED * 0.3 + 2 * STEADY**2 + others * 0.2) / group) ** 0.5
    clear(out, slice(COLOURS))
    for c in range(COLOURS):
        out.weight[c, c, -1, 1, 1] = LATENT_SCALE * scale
        out.weight[c, c + COLOURS, -1, 1, 1] = -LATENT_SCALE * scale
    bias(out)[latents:] = START_LOGVAR


def _decoder(model: OpenSoraVAE_V1_3) -> None:
    decoder = model.decoder
    carry(decoder.conv_in.conv, sources=COLOURS, gain=1 / LATENT_SCALE)
    behind_silu = False
    for level in reversed(_levels(decoder.up)):
        shortcut = _shortcut(level)
        if behind_silu:
            assert shortcut is not None, "levels of the decoder change their width"
            _recombine(shortcut)
        elif shortcut is not None:
            carry(shortcut)
        behind_silu = isinstance(level.upsample, Upsample3D)
        if isinstance(level.upsample, Upsample2D):
            carry(level.upsample.conv, rows=(0.25, 0.5, 0.25))
        elif isinstance(level.upsample, Upsample3D):
            _quiet(level.upsample.conv3d.norm2)
    last = _shortcut(_levels(decoder.up)[0])
    assert last is not None, "the last level of the decoder changes its width"
    colours_of_groups(last, decoder.norm_out, decoder.conv_out)


def _quiet(norm: nn.GroupNorm) -> None:
    """An upsampling block begins as ``silu(x) + x``."""
    norm.weight.zero_()
    norm.bias.zero_()


def colours_of_groups(last: nn.Conv3d, norm: nn.GroupNorm, out: nn.Conv3d) -> None:
    """Let the output be the colours that ``last`` carries: one in each of the first three groups of ``norm``, as
    (c, -c, constant, anything)."""
    group = norm.num_channels // norm.num_groups
    carried = last.weight[:CARRIED].clone()
    scale = ((2 * 0.3 + STEADY**2) / group - (STEADY / group) ** 2) ** 0.5
    for c in range(COLOURS):
        at = c * group
        last.weight[at], last.weight[at + 1] = carried[c], carried[c + COLOURS]
        bias(last)[at : at + 2] = 0
        constant(last, (at + 2,), (STEADY,))
        norm.bias[at : at + 2] = STEADY / group / scale  # back to the middle
        clear(out, slice(c, c + 1))
        out.weight[c, at, -1, 1, 1], out.weight[c, at + 1, -1, 1, 1] = scale, -scale


def carry(
    conv: nn.Conv3d | nn.Conv2d,
    sources: int = CARRIED,
    rows: tuple[float, ...] | None = None,
    gain: float = 1.0,
) -> None:
    """Let the first six outputs be the first six inputs, or the first three and their negatives; in space weighted by
    ``rows`` in both directions, in time the present frame."""
    clear(conv, slice(CARRIED))
    kernel = _kernel(conv, rows)
    for k in range(CARRIED):
        sign = 1.0 if sources == CARRIED or k < COLOURS else -1.0
        conv.weight[k, k % sources] = sign * gain * kernel


def _recombine(conv: nn.Conv3d) -> None:
    """Make c and -c of ``silu(c) + c`` and ``silu(-c) - c``, whose difference is 3c."""
    clear(conv, slice(CARRIED))
    for c in range(COLOURS):
        for k, sign in ((c, 1 / 3), (c + COLOURS, -1 / 3)):
            conv.weight[k, c], conv.weight[k, c + COLOURS] = sign, -sign


def constant(conv: nn.Conv3d, channels: tuple[int, ...], values: tuple[float, ...]) -> None:
    """Let some outputs have these values whatever goes in."""
    for channel, value in zip(channels, values, strict=True):
        conv.weight[channel] = 0
        bias(conv)[channel] = value


def _kernel(conv: nn.Conv3d | nn.Conv2d, rows: tuple[float, ...] | None) -> Tensor:
    """A kernel of the layer's size that keeps the present frame."""
    size = conv.weight.shape[-1]
    line = torch.zeros(size)
    if rows is None:
        line[size // 2] = 1
    else:
        line = torch.tensor(rows)
    plane = torch.outer(line, line)
    if conv.weight.ndim == 4:
        return plane
    kernel = torch.zeros(conv.weight.shape[2:])
    kernel[-1] = plane
    return kernel

"""Transformer blocks of MMDiT: text and video attend to each other as one sequence, text first.

Legend: B batch, L text tokens, N video tokens, M = L + N, A heads, K width of a head, D = A * K width of the network.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from opensora.models.mmdit.config import MMDiTConfig
from opensora.models.mmdit.layers import Modulation, QKNorm, StreamAttention
from opensora.nn.attention import Core, sequence_attention
from opensora.nn.norm import modulated_layer_norm
from opensora.nn.rope import Rotation


class DoubleStreamBlock(nn.Module):
    """Attention and perceptron with weights of their own for text and for video."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        args = (dim, config.num_heads, config.qkv_bias, config.fused_qkv)
        self.core: Core = sequence_attention
        self.img_mod = Modulation(dim, double=True)
        self.img_attn = StreamAttention(*args)
        self.img_mlp = _perceptron(dim, config.mlp_dim)
        self.txt_mod = Modulation(dim, double=True)
        self.txt_attn = StreamAttention(*args)
        self.txt_mlp = _perceptron(dim, config.mlp_dim)

    def forward(self, img: Tensor, txt: Tensor, vec: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
        """One block.

        Args:
            img: video tokens (B, N, D).
            txt: text tokens (B, L, D).
            vec: embedding of time and pooled text (B, D).
            rotation: rotary table of the M tokens.

        Returns:
            Both streams, video first.
        """
        img_mod, txt_mod = self.img_mod(vec), self.txt_mod(vec)
        txt_heads = self.txt_attn.heads(modulated_layer_norm(txt, *txt_mod[:2]))
        img_heads = self.img_attn.heads(modulated_layer_norm(img, *img_mod[:2]))
        q, k, v = (torch.cat(pair, dim=1) for pair in zip(txt_heads, img_heads, strict=True))  # (B, M, A, K)
        attended = self.core(q, k, v, rotation).flatten(2)  # (B, M, D)
        txt_attended, img_attended = attended.split((txt.shape[1], img.shape[1]), dim=1)
        img = _stream(img, img_mod, self.img_attn.proj(img_attended), self.img_mlp)
        txt = _stream(txt, txt_mod, self.txt_attn.proj(txt_attended), self.txt_mlp)
        return img, txt


def _perceptron(dim: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, dim))


def _stream(x: Tensor, modulation: Sequence[Tensor], attended: Tensor, mlp: nn.Module) -> Tensor:
    """Both residuals of one stream (B, tokens, D)."""
    _, _, gate_a, shift, scale, gate_m = modulation
    x = x + gate_a * attended
    return x + gate_m * mlp(modulated_layer_norm(x, shift, scale))


class SingleStreamBlock(nn.Module):
    """Attention and perceptron side by side, on text and video alike."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.num_heads = config.num_heads
        self.core: Core = sequence_attention
        self.fused_qkv = config.fused_qkv
        self.widths = (dim, config.mlp_dim)
        if config.fused_qkv:
            self.linear1 = nn.Linear(dim, 3 * dim + config.mlp_dim)
        else:
            self.q_proj = nn.Linear(dim, dim)
            self.k_proj = nn.Linear(dim, dim)
            self.v_mlp = nn.Linear(dim, dim + config.mlp_dim)
        self.linear2 = nn.Linear(dim + config.mlp_dim, dim)
        self.norm = QKNorm(config.head_dim)
        self.modulation = Modulation(dim, double=False)

    def forward(self, x: Tensor, vec: Tensor, rotation: Rotation) -> Tensor:
        """Tokens (B, M, D), text first, to (B, M, D); see :class:`DoubleStreamBlock` for the other arguments."""
        shift, scale, gate = self.modulation(vec)
        q, k, v, hidden = self.project(modulated_layer_norm(x, shift, scale))
        q, k = self.norm(q, k)
        attended = self.core(q, k, v, rotation).flatten(2)  # (B, M, D)
        return x + gate * self.linear2(torch.cat((attended, functional.gelu(hidden, approximate="tanh")), dim=-1))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, M, A, K), and the perceptron's hidden layer (B, M, mlp_dim)."""
        dim, hidden_dim = self.widths
        if self.fused_qkv:
            q, k, v, hidden = self.linear1(x).split((dim, dim, dim, hidden_dim), dim=-1)
        else:
            q, k = self.q_proj(x), self.k_proj(x)
            v, hidden = self.v_mlp(x).split((dim, hidden_dim), dim=-1)
        return *(part.unflatten(-1, (self.num_heads, -1)) for part in (q, k, v)), hidden

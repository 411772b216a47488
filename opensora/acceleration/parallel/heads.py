"""Attention over tokens that lie on several processes: between two exchanges each sees all tokens of some heads.

This is the all-to-all of DeepSpeed-Ulysses (Jacobs et al. 2023), with numbers of tokens and heads that need not divide.
It is put around an attention core, which stays as it is: what the core does with all tokens of a head (windows, masks,
softmax) is the same for a share of the heads.

Legend: B batch, F frames into which the tokens of a call fall (1 for a sequence), n tokens of a frame on this process,
N on all, A heads, a heads of this process, K width of a head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from opensora.distributed.group import Group, shares
from opensora.nn.attention import Core, Grid, grid_attention, sequence_attention
from opensora.nn.rope import Rotation, rotate


@dataclass
class TokenSplit:
    """Where the tokens of the current call are; the cores around which it was put read it."""

    group: Group = field(default_factory=Group)
    """The processes that share the tokens."""
    counts: Sequence[int] = ()
    """Tokens of a frame on each of them."""

    def around(self, core: Core) -> Core:
        """A core like ``core`` whose tokens are split.

        Raises:
            ValueError: an attention that is not one of :mod:`opensora.nn.attention`; it may have been split before.
        """
        for known, wrap in ((sequence_attention, self._sequence), (grid_attention, self._grid)):
            if core is known:
                return wrap(core)
        raise ValueError(f"got the attention core {core!r}; expected a network that is not parallel yet.")

    def _sequence(self, core: Core) -> Core:
        """Tokens turn by their places before they travel, and then their order does not matter."""

        def split(q: Tensor, k: Tensor, v: Tensor, rotation: Rotation | None = None) -> Tensor:
            if rotation is not None:
                q, k = rotate(q, rotation), rotate(k, rotation)
            return self._attend(core, (q, k, v), frames=1)

        return split

    def _grid(self, core: Core) -> Core:
        def split(
            q: Tensor, k: Tensor, v: Tensor, grid: Grid, window: Grid, rotation: Rotation | None = None
        ) -> Tensor:
            def whole(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                return core(q, k, v, grid, window, rotation)

            return self._attend(whole, (q, k, v), frames=grid[0])

        return split

    def _attend(self, core: Callable[..., Tensor], heads: Sequence[Tensor], frames: int) -> Tensor:
        """``core`` of queries, keys and values (B, F n, A, K), to (B, F n, A, K)."""
        if self.group.size == 1:
            return core(*heads)
        x = torch.stack([part.unflatten(1, (frames, -1)) for part in heads])  # (3, B, F, n, A, K)
        few = shares(x.shape[4], self.group.size)
        out = core(*self._all_tokens(x, few).flatten(2, 3))  # (B, F N, a, K)
        return self._all_heads(out.unflatten(1, (frames, -1)), few).flatten(1, 2)

    def _all_tokens(self, x: Tensor, few: Sequence[int]) -> Tensor:
        """(3, B, F, n, A, K) to (3, B, F, N, a, K)."""
        own = few[self.group.rank]
        shapes = [(*x.shape[:3], count, own, x.shape[5]) for count in self.counts]
        return torch.cat(self.group.exchange(x.split(list(few), dim=4), shapes), dim=3)

    def _all_heads(self, x: Tensor, few: Sequence[int]) -> Tensor:
        """(B, F, N, a, K) to (B, F, n, A, K)."""
        own = self.counts[self.group.rank]
        shapes = [(*x.shape[:2], own, count, x.shape[4]) for count in few]
        return torch.cat(self.group.exchange(x.split(list(self.counts), dim=2), shapes), dim=3)

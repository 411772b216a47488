"""Classifier-free guidance for text and image (Ho & Salimans 2022; Brooks et al. 2023) and its refinements.

Legend: B samples, C channels, T latent frames, H, W rows and columns.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

FLAW_MIX = 0.7
"""Share of the rescaled prediction in the flaw fix (Lin et al. 2023)."""


def oscillating(scale: float, step: int, start: int) -> float:
    """Guidance of a step when it oscillates: 1 on odd steps from ``start`` on, ``scale`` otherwise."""
    return 1.0 if step >= start and step % 2 == 1 else scale


def rescale_to_conditional(guided: Tensor, conditional: Tensor) -> Tensor:
    """Pull the spread of a guided prediction (B, ...) back to that of the conditional one ("flaw fix")."""
    dims = tuple(range(1, guided.ndim))
    ratio = conditional.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True)
    return guided * (FLAW_MIX * ratio + (1 - FLAW_MIX))


def image_weights(scale: float, initial: float, step: int, num_steps: int, frames: int) -> Tensor:
    """Image guidance per latent frame (1, 1, T, 1, 1): it falls over the steps from ``scale`` to ``initial``, and in
    each step rises from ``initial`` at the first frame to that value at the last."""
    now = float(torch.linspace(scale, initial, num_steps)[step])
    return torch.linspace(initial, now, frames).view(1, 1, -1, 1, 1)


@dataclass(frozen=True)
class StepGuidance:
    """Guidance of one step, after oscillation."""

    text: float
    image: float | Tensor | None
    """``None`` when no image is given; a tensor (1, 1, T, 1, 1) varies over frames."""

    @property
    def image_is_one(self) -> bool:
        """Whether the image row cancels."""
        return isinstance(self.image, float) and self.image == 1.0

    def rows(self) -> tuple[str, ...]:
        """The network rows whose weight is not zero, in the order of guidance batches.

        ``full`` sees text and image, ``image`` the image and the null text, ``null`` neither.
        """
        if self.image is None:
            return ("full",) if self.text == 1.0 else ("full", "null")
        return tuple(name for name in ("full", "image", "null") if self._weight(name))

    def _weight(self, name: str) -> bool:
        """Whether a row of image-and-text guidance contributes."""
        if name == "full":
            return self.text != 0.0
        if name == "null":
            return not self.image_is_one
        return isinstance(self.image, Tensor) or self.image != self.text

    def combine(self, rows: dict[str, Tensor]) -> Tensor:
        """Guided velocity of the rows that :meth:`rows` names.

        Text: ``null + g (full - null)``. Image and text: ``null + g_i (image - null) + g_t (full - image)``.
        """
        if set(rows) == {"full"}:
            return rows["full"]
        if self.image is None:
            return rows["null"] + self.text * (rows["full"] - rows["null"])
        image = self.image.to(next(iter(rows.values()))) if isinstance(self.image, Tensor) else self.image
        if set(rows) == {"full", "image", "null"}:
            guided = rows["null"] + image * (rows["image"] - rows["null"])
            return guided + self.text * (rows["full"] - rows["image"])
        weights = {"full": self.text, "image": image - self.text, "null": 1.0 - image}
        return sum((weights[name] * row for name, row in rows.items()), torch.zeros_like(rows["full"]))

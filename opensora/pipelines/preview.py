"""Small pictures of forming frames: a linear map from latents to colours, fitted once for an autoencoder.

Legend: C latent channels, T latent frames, H, W latent rows and columns.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FILE = "preview.json"
"""Name of the map beside an autoencoder's weights."""


@dataclass(frozen=True)
class Preview:
    """``rgb = weight @ latent + bias`` with colours in [-1, 1]."""

    weight: tuple[tuple[float, ...], ...]
    """(3, C)."""
    bias: tuple[float, ...]
    """(3,)."""

    @classmethod
    def load(cls, folder: Path, channels: int) -> "Preview | None":
        """The map in the folder of an autoencoder with so many latent channels; ``None`` where there is none.

        Raises:
            ValueError: the file is damaged, or of another autoencoder.
        """
        path = (folder if folder.is_dir() else folder.parent) / FILE
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            weight = tuple(tuple(float(v) for v in row) for row in values["weight"])
            bias = tuple(float(v) for v in values["bias"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{FILE} beside the autoencoder cannot be read; make it again or delete it.") from error
        if [len(row) for row in weight] != [channels] * 3 or len(bias) != 3:
            raise ValueError(
                f"{FILE} beside the autoencoder needs a weight of 3 rows of {channels} numbers and a bias of 3; "
                "make it again or delete it."
            )
        if not all(map(math.isfinite, (*bias, *(value for row in weight for value in row)))):
            raise ValueError(f"{FILE} beside the autoencoder holds values that are not numbers; make it again.")
        return cls(weight, bias)

    def save(self, folder: Path) -> None:
        """Write the map beside an autoencoder."""
        text = json.dumps({"weight": self.weight, "bias": self.bias}, indent=1)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    def frames(self, latents: Tensor) -> np.ndarray:
        """Normalised latents (B, C, T, H, W) -> uint8 (T, H, W, 3); several that are made together are a sheet in rows,
        black where there is none."""
        z = latents.detach().float().cpu()
        weight, bias = torch.tensor(self.weight), torch.tensor(self.bias)
        rgb = to_uint8(torch.einsum("kc,bcthw->bthwk", weight, z) + bias)
        columns = math.ceil(math.sqrt(len(rgb)))
        rows = math.ceil(len(rgb) / columns)
        whole = torch.zeros(rows * columns, *rgb.shape[1:], dtype=torch.uint8)
        whole[: len(rgb)] = rgb
        sheet = whole.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4, 5)  # (T, rows, H, columns, W, 3)
        return sheet.flatten(3, 4).flatten(1, 2).numpy()


def fit(latents: Tensor, pixels: Tensor) -> Preview:
    """The best linear map for clips of one window.

    Args:
        latents: normalised (B, C, T', H', W').
        pixels: in [-1, 1], (B, 3, T, H, W) with T = 4 T' - 3.
    """
    b, c, t, h, w = latents.shape
    groups = [pixels[:, :, :1].mean(2), *(pixels[:, :, 4 * i - 3 : 4 * i + 1].mean(2) for i in range(1, t))]
    small = torch.nn.functional.adaptive_avg_pool2d(torch.stack(groups, 2).float().flatten(0, 1), (h, w))
    target = small.view(b, 3, t, h, w).permute(0, 2, 3, 4, 1).reshape(-1, 3)
    source = latents.float().permute(0, 2, 3, 4, 1).reshape(-1, c)
    design = torch.cat([source, torch.ones(len(source), 1)], dim=1).double()
    solution = torch.linalg.lstsq(design, target.double()).solution  # (C + 1, 3)
    rows = solution.T.tolist()
    return Preview(tuple(tuple(row[:-1]) for row in rows), tuple(row[-1] for row in rows))


def to_uint8(rgb: Tensor) -> Tensor:
    """Colours in [-1, 1] to whole numbers from 0 to 255."""
    return ((rgb.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)

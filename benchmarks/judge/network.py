"""Fully connected networks of the judge: numpy to use them, torch (in ``calibrate``) to fit them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]
CALIBRATION = Path(__file__).parent / "calibration.npz"


@dataclass(frozen=True)
class Network:
    """Standardised input, then layers with ReLU between them."""

    mean: Array
    scale: Array
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    def logits(self, x: Array) -> Array:
        """(N, inputs) -> (N, classes)."""
        x = (x - self.mean) / self.scale
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                x = np.maximum(x, 0)
            x = x @ weight + bias
        return x

    def probabilities(self, x: Array) -> Array:
        """(N, inputs) -> (N, classes), rows sum to one."""
        logits = self.logits(x)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return shares / shares.sum(axis=-1, keepdims=True)

    def arrays(self, name: str) -> dict[str, Array]:
        """The parameters by file key, in half precision."""
        named = {f"{name}.mean": self.mean, f"{name}.scale": self.scale}
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            named |= {f"{name}.weight{layer}": weight, f"{name}.bias{layer}": bias}
        return {key: value.astype(np.float16) for key, value in named.items()}


def load(name: str, path: Path = CALIBRATION) -> Network:
    """The calibrated network of this name (``pixels`` or ``shape``)."""
    with np.load(path) as file:
        layers = sum(key.startswith(f"{name}.weight") for key in file.files)
        return Network(
            mean=file[f"{name}.mean"].astype(np.float32),
            scale=file[f"{name}.scale"].astype(np.float32),
            weights=tuple(file[f"{name}.weight{i}"].astype(np.float32) for i in range(layers)),
            biases=tuple(file[f"{name}.bias{i}"].astype(np.float32) for i in range(layers)),
        )

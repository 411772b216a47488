"""Fit the judge's two networks on rendered ground truth that went through blur, noise and resampling.

``python -m benchmarks.judge.calibrate`` writes ``calibration.npz`` again from the same seeds. It knows nothing of any
generator: only what the world looks like, and that pictures may be soft.
"""

import argparse
import time
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.judge import pixels, shape, subjects
from benchmarks.judge.degrade import degrade
from benchmarks.judge.network import CALIBRATION, Network
from opensora.datasets.world.render import subject_masks
from opensora.datasets.world.scene import random_scene, render
from opensora.datasets.world.spec import COLOURS, KINDS, SceneSpec

Array: TypeAlias = NDArray[np.floating[Any]]
SIZES = ((144, 256), (144, 256), (144, 256), (256, 144), (192, 192), (144, 192), (168, 216))
FRAMES, FPS = 13, 6
_SHARE = 500


def example(index: int, stream: int) -> tuple[SceneSpec, NDArray[np.uint8], Array]:
    """Scene, degraded clip and the subjects' masks (S, T, H, W) at the judge's working size."""
    rng = np.random.default_rng((2024, stream, index))
    height, width = SIZES[int(rng.integers(len(SIZES)))]
    count, seed = int(rng.choice(3, p=(0.12, 0.72, 0.16))), int(rng.integers(2**31))
    scene = random_scene(rng, count=count)
    clip = render(scene, height, width, FRAMES, fps=FPS, seed=seed)
    if rng.random() < 0.85:
        clip = degrade(clip, rng)
    masks = subject_masks(scene, height, width, FRAMES, fps=FPS, seed=seed)
    scale = pixels.WORKING / min(height, width)
    size = (round(width * scale), round(height * scale))
    small = [[cv2.resize(m, size, interpolation=cv2.INTER_AREA) for m in subject] for subject in masks]
    return scene, clip, np.array(small, np.float32).reshape(len(masks), FRAMES, size[1], size[0])


def pixel_samples(index: int, stream: int) -> tuple[Array, NDArray[np.int64]]:
    """Features (N, F) and classes (N,) of random pixels of an example, about half of them on subjects."""
    rng = np.random.default_rng((2025, stream, index))
    scene, clip, masks = example(index, stream)
    given = pixels.features(pixels.working_lab(clip))
    total = masks.sum(axis=0) if len(masks) else np.zeros(given.shape[:3], np.float32)
    labels = np.zeros(given.shape[:3], np.int64)
    for subject, mask in zip(scene.subjects, masks, strict=True):
        labels[mask > 0.5] = 1 + COLOURS.index(subject.colour)
    clear = (total < 0.3) | (total > 0.7)
    behind = clear & (labels == 0)
    stands_out = np.abs(given[..., 12]) > 0.08  # lighter or darker than its surroundings: clouds, snow caps, windows
    chosen = []
    for where, most in ((clear & (labels > 0), _SHARE), (behind, _SHARE // 2), (behind & stands_out, _SHARE // 2)):
        places = np.flatnonzero(where)
        chosen.append(rng.choice(places, min(most, len(places)), replace=False))
    picked = np.concatenate(chosen)
    return given.reshape(-1, given.shape[-1])[picked], labels.ravel()[picked]


def shape_samples(index: int, stream: int, network: Network) -> tuple[Array, NDArray[np.int64]]:
    """Descriptors (N, D) and kinds (N,) of the regions that the pixel network finds on whole subjects."""
    scene, clip, masks = example(index, stream)
    found = pixels.probabilities(pixels.working_lab(clip), network)
    given, kinds = [], []
    for frame in range(FRAMES):
        for blob in subjects.blobs(found[frame]):
            for subject, mask in zip(scene.subjects, masks[:, frame], strict=True):
                overlap = np.minimum(blob.mask, mask).sum() / np.maximum(blob.mask, mask).sum()
                if overlap > 0.6 and not blob.touches:
                    given.append(shape.describe(blob.mask))
                    kinds.append(KINDS.index(subject.kind))
    return np.array(given, np.float32).reshape(-1, shape.RINGS * shape.HARMONICS), np.array(kinds, np.int64)


def fit(x: Array, labels: NDArray[np.int64], classes: int, hidden: int, steps: int, noise: float) -> Network:
    """A network with one hidden layer of ``hidden`` units, by Adam on cross entropy with input noise."""
    torch.manual_seed(0)
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-3
    data, target = torch.from_numpy(((x - mean) / scale).astype(np.float32)), torch.from_numpy(labels)
    model = nn.Sequential(nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, classes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        rows = torch.randint(len(data), (2048,), generator=generator)
        given = data[rows] + noise * torch.randn(len(rows), data.shape[1], generator=generator)
        loss = nn.functional.cross_entropy(model(given), target[rows], label_smoothing=0.02)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    layers = [m for m in model if isinstance(m, nn.Linear)]
    return Network(
        mean=mean,
        scale=scale,
        weights=tuple(m.weight.detach().numpy().T for m in layers),
        biases=tuple(m.bias.detach().numpy() for m in layers),
    )


def calibrate(path: Path, clips: int) -> None:
    """Fit both networks on ``clips`` rendered clips and write them."""
    start = time.monotonic()
    x, labels = (np.concatenate(part) for part in zip(*(pixel_samples(i, 0) for i in range(clips)), strict=True))
    print(f"{len(x)} pixels after {time.monotonic() - start:.0f} s", flush=True)
    network = fit(x, labels, len(pixels.CLASSES), hidden=128, steps=4000, noise=0.03)
    print(f"pixels right: {(network.logits(x).argmax(1) == labels).mean():.4f}", flush=True)
    parts = [shape_samples(i, 1, network) for i in range(clips)]
    x, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    outlines = fit(x, labels, len(KINDS), hidden=40, steps=2500, noise=0.1)
    print(f"{len(x)} shapes right: {(outlines.logits(x).argmax(1) == labels).mean():.4f}", flush=True)
    np.savez_compressed(path, **network.arrays("pixels"), **outlines.arrays("shape"))
    print(f"wrote {path.name}, {path.stat().st_size} bytes, after {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, default=800, help="rendered clips for each network")
    parser.add_argument("--output", type=Path, default=CALIBRATION, help="where the parameters go")
    arguments = parser.parse_args()
    calibrate(arguments.output, arguments.clips)

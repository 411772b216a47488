"""Cache of encoded, captioned clips: the autoencoder and the renderer run once per clip, not once per update.

A bucket is one clip shape. Its clips are numbered; shard k of a bucket holds clips k*S ... (k+1)*S - 1, so that a cache
that was cut off continues, and two processes may fill different buckets at once.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from opensora.datasets.world.scene import SceneSpec, caption, heldout, random_scene, render
from opensora.datasets.world.spec import STRENGTHS
from opensora.models.text.prompts_v2 import spoken
from opensora.models.vae_hunyuan.vae import AutoencoderKLCausal3D
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3
from opensora.training.vae import to_pixels

log = logging.getLogger(__name__)

SHARD_CLIPS = 32
MOTION_SCORES = dict(zip(STRENGTHS, (1, 2, 3, 5, 6, 7), strict=True))
"""2.0's motion score of every strength of the world; 4 lies between two of them."""


@dataclass(frozen=True)
class LatentBucket:
    """Clips of one shape."""

    frames: int
    """Frames of a clip, 16k+1 for 1.3 and 4k+1 for 2.0; 1 for images."""
    height: int
    """Pixels, a multiple of 16."""
    width: int
    """Pixels, a multiple of 16."""
    clips: int
    """Clips to render, a multiple of the shard size (32)."""
    of: int | None = None
    """Frames of the clip whose beginning this is: a picture that a clip starts from leaves its subject room to move."""
    subjects: int | None = None
    """Subjects of every scene, 0 to 2; ``None`` draws their number, mostly one."""

    @property
    def name(self) -> str:
        """Folder of the bucket."""
        length = f"{self.frames}" if self.of is None else f"{self.frames}of{self.of}"
        name = f"{length}x{self.height}x{self.width}"
        return name if self.subjects is None else f"{name}-{self.subjects}"


@dataclass(frozen=True)
class CaptionedLatents:
    """All cached clips of a bucket."""

    z: Tensor
    """(N, C, T, H, W) bfloat16 latents, normalised."""
    captions: list[list[str]]
    """Several captions of every clip."""


Wording = Literal["1.3", "2.0"]
"""Generation whose way of saying scores captions follow."""
MOTION_SAID = 0.8
"""Share of 2.0's captions that say the motion score."""


def clip_and_captions(
    bucket: LatentBucket, index: int, seed: int, captions: int, wording: Wording = "1.3"
) -> tuple[np.ndarray, list[str]]:
    """Clip ``index`` of a bucket, uint8 (T, H, W, 3), with several captions; held-out combinations never occur."""
    scene, rng = scene_at(bucket, index, seed)
    frames = bucket.of or bucket.frames
    clip = render(scene, bucket.height, bucket.width, frames, fps=24, seed=int(rng.integers(2**31)), kept=bucket.frames)
    texts = [caption_of(scene, rng, wording, moves=frames > 1) for _ in range(captions)]
    return clip, texts


def scene_at(bucket: LatentBucket, index: int, seed: int) -> tuple[SceneSpec, np.random.Generator]:
    """Scene of clip ``index`` of a bucket, and the generator that draws the rest of it."""
    rng = np.random.default_rng((seed, crc32(bucket.name.encode()), index))
    return scene_of(bucket, rng), rng


def scene_of(bucket: LatentBucket, rng: np.random.Generator) -> SceneSpec:
    """A scene for a bucket; held-out combinations never occur."""
    fixed = {} if bucket.subjects is None else {"count": bucket.subjects}
    scene = random_scene(rng, **fixed)
    while heldout(scene):
        scene = random_scene(rng, **fixed)
    return scene


def caption_of(scene: SceneSpec, rng: np.random.Generator, wording: Wording, moves: bool) -> str:
    """A caption in English or Korean."""
    language: Literal["en", "ko"] = "ko" if rng.random() < 0.3 else "en"
    if wording == "1.3":
        return caption(scene, rng, language)
    text = caption(scene, rng, language, scores=False)
    told = scene.subjects and rng.random() < MOTION_SAID
    score = MOTION_SCORES[scene.subjects[0].strength] if told else None
    return spoken(text, fps=24 if moves else None, motion_score=score)


@torch.inference_mode()
def fill(
    vae: OpenSoraVAE_V1_3 | AutoencoderKLCausal3D,
    bucket: LatentBucket,
    directory: Path,
    seed: int,
    captions: int = 6,
    start: int = 0,
    every: int = 1,
    wording: Wording = "1.3",
) -> None:
    """Encode the clips of a bucket that are not cached yet: every ``every``-th shard from ``start``."""
    folder = directory / bucket.name
    folder.mkdir(parents=True, exist_ok=True)
    dtype = next(vae.parameters()).dtype
    for shard in range(start, bucket.clips // SHARD_CLIPS, every):
        path = folder / f"{shard:05d}.safetensors"
        if path.exists():
            continue
        latents, texts = [], []
        for index in range(shard * SHARD_CLIPS, (shard + 1) * SHARD_CLIPS):
            clip, lines = clip_and_captions(bucket, index, seed, captions, wording)
            pixels = to_pixels(clip[None]).to(next(vae.parameters()).device, dtype)
            latents.append(vae.encode(pixels)[0].to(torch.bfloat16).cpu())
            texts.append(lines)
        partial = path.with_suffix(".partial")
        save_file({"z": torch.stack(latents).contiguous()}, partial, metadata={"captions": json.dumps(texts)})
        partial.rename(path)
        log.info("latents %s: %d of %d clips", bucket.name, (shard + 1) * SHARD_CLIPS, bucket.clips)


def load(bucket: LatentBucket, directory: Path) -> CaptionedLatents:
    """All cached clips of a bucket so far.

    Raises:
        ValueError: no shard is cached yet.
    """
    latents, captions = [], []
    for path in sorted((directory / bucket.name).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            latents.append(file.get_tensor("z"))
            captions.extend(json.loads(file.metadata()["captions"]))
    if not latents:
        raise ValueError(f"no latents of bucket {bucket.name} are cached: run scripts/diffusion/encode.py first.")
    return CaptionedLatents(torch.cat(latents), captions)

"""Open-Sora 2.0: an MMDiT, the Hunyuan autoencoder, T5 for the details of a text and CLIP for the whole of it.

Legend: C latent channels, T, H, W latent frames, rows and columns; N video tokens, L text tokens, D width. Latents are
normalised float32 (1, C, T, H, W).
"""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from opensora.acceleration.offload import Places
from opensora.checkpoint import identity
from opensora.checkpoint.layout import read_object
from opensora.models.autoencoder import read_config
from opensora.models.mmdit.config import OPEN_SORA_2, MMDiTConfig
from opensora.models.mmdit.mmdit import MMDiT
from opensora.models.text.conditioner import HFEmbedder
from opensora.models.text.embedding_cache import CachedEmbedder
from opensora.models.text.precision import QUANTISED, TextSettings, loading_settings
from opensora.models.vae_hunyuan.vae import AutoencoderKLCausal3D
from opensora.nn.memory_format import convert
from opensora.pipelines import cost
from opensora.pipelines.bundle import FOLDERS, Bundle
from opensora.pipelines.checks import check_latents, features_failed, watch
from opensora.pipelines.cost import Memory, Shape
from opensora.pipelines.families.v1 import no_bar
from opensora.pipelines.models import Clip, Models, Networks, PipelineConfig
from opensora.pipelines.pixels import encode_frames, to_frames
from opensora.pipelines.preview import Preview
from opensora.pipelines.reporter import Reporter
from opensora.pipelines.text_cache import text_cache
from opensora.sampling.denoise import SamplingOption, sample_video
from opensora.sampling.given_frames import TEXT_ONLY
from opensora.sampling.latents import draw_noise
from opensora.sentences import say

log = logging.getLogger(__name__)

CLIP_TOKENS = 77
"""Tokens that CLIP reads of a text."""
VALUES = ("img", "cond", "txt", "y_vec")
"""What the network is told in its own dtype; times and places stay in float32."""


class TextEncoders:
    """What ``build_models`` returns as ``text_encoder`` for 2.0."""

    def __init__(self, t5: CachedEmbedder, clip: CachedEmbedder) -> None:
        self.t5, self.clip = t5, clip

    def embedders(self) -> list[HFEmbedder]:
        """Both, T5 first."""
        return [self.t5.embedder, self.clip.embedder]


class V2:
    """Generation 2.0 as the pipeline sees it; what FLUX.1 does in another way is overridden there."""

    published: MMDiTConfig = OPEN_SORA_2
    vae_type: Any = AutoencoderKLCausal3D

    def load(self, bundle: Bundle, places: Places, dtype: torch.dtype, text: TextSettings, optimize: bool) -> Networks:
        start = time.perf_counter()
        files = bundle.weights()
        assert files.clip is not None, "a bundle of 2.0 has a CLIP encoder"
        mmdit = MMDiT.from_pretrained(files.stdit, dtype=dtype, default=self.published, **bundle.published("stdit"))
        vae = self.vae_type.from_pretrained(files.vae, **bundle.published("vae"))
        hashes = {role: identity.fingerprint(path) for role, path in files.paths().items()}
        encoders = _encoders(files.text, files.clip, hashes, bundle.card.text_tokens, text, places)
        mmdit = mmdit.to(places.others).requires_grad_(False)
        vae = vae.to(places.others, dtype).requires_grad_(False)
        _check_together(mmdit, vae, encoders)
        if optimize and places.device.type != "mps":  # where it was never tried
            convert(vae, torch.channels_last_3d)
        log.info("%s loaded for %s in %.1f s", bundle.card.name, places.device, time.perf_counter() - start)
        return Networks(vae, encoders, mmdit, hashes)

    def skeleton(self, bundle: Bundle) -> nn.Module:
        with torch.device("meta"):
            return MMDiT(self.configs(bundle)[0])

    def condition_frame_length(self, vae: Any) -> int:
        return 0

    def scheduler(self, config: PipelineConfig, steps: int, guidance: float) -> SamplingOption:
        oscillating = config.use_oscillation_guidance
        return SamplingOption(
            num_steps=steps,
            guidance=guidance,
            guidance_img=config.image_cfg_scale,
            text_osci=oscillating,
            image_osci=oscillating,
            scale_temporal_osci=config.scale_image_weight,
            flow_shift=config.bundle.card.time_shift,
        )

    def modules(self, models: Models) -> list[nn.Module]:
        return [models.stdit, models.vae, *(embedder.hf_module for embedder in models.text_encoder.embedders())]

    def encode_texts(self, models: Models, texts: list[str]) -> None:
        for text in dict.fromkeys([*texts, ""]):
            pooled = models.text_encoder.clip([text])
            features = models.text_encoder.t5([text], added_tokens=0, seq_align=1)
            if not bool(torch.isfinite(pooled).all() and torch.isfinite(features).all()):
                raise features_failed()

    def cut_texts(self, models: Models, texts: list[str]) -> list[tuple[int, int]]:
        t5 = models.text_encoder.t5.embedder  # CLIP's share is the gist, which a text's beginning tells
        counts = (len(t5.tokenizer(text)["input_ids"]) for text in dict.fromkeys(texts))
        return [(count, t5.max_length) for count in counts if count > t5.max_length]

    def encode_reference(self, models: Models, frames: np.ndarray) -> Tensor:
        return encode_frames(models, frames)

    def denoise(self, models: Models, clip: Clip, seed: int, reporter: Reporter, preview: Preview | None) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        patch = models.stdit.config.patch_size
        frames = models.vae.get_latent_size((clip.parts[0].frames, None, None))[0]
        per_token = patch * models.vae.patch_size[1]
        size = (models.vae.latent_channels, frames, clip.height, clip.width)
        z = draw_noise(1, *size, generator, patch, per_token).to(models.config.plan.device)
        option = replace(self.scheduler(models.config, clip.steps, clip.guidance), guidance_img=clip.image_guidance)
        dtype = next(models.stdit.parameters()).dtype

        def network(**told: Tensor) -> Tensor:
            out: Tensor = models.stdit(**{name: x.to(dtype) if name in VALUES else x for name, x in told.items()})
            return out.float()

        result = sample_video(
            network,
            models.text_encoder.t5,
            models.text_encoder.clip,
            z,
            [clip.texts[0]],
            option,
            negatives=None if clip.negative is None else [clip.negative[0]],
            cond_type=clip.cond_type or TEXT_ONLY,
            references=[[latents[0] for latents in clip.references]] if clip.references else (),
            patch_size=patch,
            on_step=watch(reporter, preview),
        )
        check_latents(result, "sampling", say("what.denoised"))
        return result

    def count_pieces(self, models: Models, latents: int) -> int:
        return 1

    def decode(self, models: Models, latents: Tensor, frames: int) -> Iterator[np.ndarray]:
        pixels = models.vae.decode(latents.to(next(models.vae.parameters()).dtype))
        yield to_frames(pixels[:, :, :frames])

    def sampling_flops(self, bundle: Bundle, shape: Shape, steps: int, given: bool) -> float:
        config, vae = self.configs(bundle)
        size = latent_size(vae, shape)
        option = SamplingOption(num_steps=steps, text_osci=bundle.card.oscillating_guidance)
        kind = bundle.card.cond_types[0] if given else TEXT_ONLY
        rows = sum(len(option.step_guidance(step, kind, size[0]).rows()) for step in range(steps))
        return rows * forward_flops(config, size, bundle.card.text_tokens) * shape.videos

    def decoding_flops(self, bundle: Bundle, shape: Shape) -> float:
        vae = self.configs(bundle)[1]
        size = latent_size(vae, shape)
        probe = (min(2, size[0]), 8, 8)
        return decoding_flops(self.vae_type, vae, probe) / math.prod(probe) * math.prod(size) * shape.videos

    def memory(self, bundle: Bundle, shape: Shape, bytes_each: int, given: bool) -> Memory:
        config, vae = self.configs(bundle)
        tokens = math.prod(latent_size(vae, shape)) // config.patch_size**2 + bundle.card.text_tokens
        rows = 3 if given else 2
        published = () if bundle.preset is None else bundle.preset.components
        return Memory(
            text=sum(c.bytes for c in published if c.role in ("text", "clip")),
            denoiser=bytes_each * cost.parameters(MMDiT, config),
            autoencoder=bytes_each * cost.parameters(self.vae_type, vae),
            sampling=int(rows * tokens * config.hidden_size * (config.mlp_ratio + 10) * bytes_each),
            decoding=3 * self.widest(vae, shape) * bytes_each,
            clips=cost.clip_bytes(shape, 6),
        )

    def widest(self, vae: Any, shape: Shape) -> int:
        """Numbers in the decoder's widest activation, of one tile."""
        tile = min(shape.height, vae.sample_size) * min(shape.width, vae.sample_size) * shape.frames
        numbers: int = vae.block_out_channels[0] * tile
        return numbers

    def configs(self, bundle: Bundle) -> tuple[MMDiTConfig, Any]:
        """Configurations of a bundle's networks, read from its folder, or the published ones."""
        return _configs(self.published, self.vae_type.config_type, bundle.folder)


def _clip_tokens(folder: Path) -> int:
    """Tokens that a CLIP encoder reads: as many as the published one, or as many places as it has."""
    places = read_object(folder / "config.json")
    text = places.get("text_config") or places
    return min(CLIP_TOKENS, int(text.get("max_position_embeddings", CLIP_TOKENS)))


@lru_cache(maxsize=16)
def _configs(published: MMDiTConfig, vae_type: type[Any], folder: Path | None) -> tuple[MMDiTConfig, Any]:
    if folder is None:
        return published, vae_type()
    return (
        MMDiTConfig.from_file(folder / FOLDERS["stdit"] / "config.json"),
        read_config(vae_type, folder / FOLDERS["vae"] / "config.json"),
    )


def latent_size(vae: Any, shape: Shape) -> tuple[int, int, int]:
    """Latents (T, H, W) of a clip."""
    time, rows, columns = vae.patch_size
    return (shape.parts[0].frames - 1) // time + 1, shape.height // rows, shape.width // columns


def forward_flops(config: MMDiTConfig, size: tuple[int, int, int], text_tokens: int) -> float:
    """Operations of one row of the network at latents (T, H, W); one multiply-add is two."""
    n = math.prod(size) // config.patch_size**2 + text_tokens
    d = config.hidden_size
    linear = 2 * n * d * d * (4 + 2 * config.mlp_ratio)
    return (config.depth + config.depth_single_blocks) * (linear + 4 * n * n * d)


@lru_cache(maxsize=16)
def decoding_flops(vae_type: type[Any], config: Any, size: tuple[int, int, int]) -> float:
    """Operations of decoding latents (T, H, W), counted on a network without memory."""
    with torch.device("meta"):
        network = vae_type(config).eval()
        latents = torch.empty(1, network.latent_channels, *size)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.decode(latents)
    return float(counter.get_total_flops())


def _encoders(
    t5: Path, clip: Path, hashes: dict[str, str], tokens: int, text: TextSettings, places: Places
) -> TextEncoders:
    """Both text encoders; CLIP, a fortieth of T5's size, is not quantised."""
    device = places.device
    gist = "bf16" if text.precision in QUANTISED else text.precision
    with no_bar():
        details = HFEmbedder(t5, tokens, hf_module="T5EncoderModel", **text.loading(device))
        whole = HFEmbedder(clip, _clip_tokens(clip), hf_module="CLIPTextModel", **loading_settings(gist, device))
    return TextEncoders(
        CachedEmbedder(details.to(places.text), text_cache(t5, hashes["text"], text.precision, device)),
        CachedEmbedder(whole.to(places.text), text_cache(clip, hashes["clip"], gist, device)),
    )


def _check_together(mmdit: MMDiT, vae: Any, encoders: TextEncoders) -> None:
    """Refuse networks that were not made for each other."""
    config, (t5, clip) = mmdit.config, encoders.embedders()
    told = (
        ("latent channels", config.in_channels // config.patch_size**2, vae.latent_channels, "autoencoder"),
        ("text features", config.context_in_dim, t5.hf_module.config.d_model, "T5 encoder"),
        ("pooled text features", config.vec_in_dim, clip.hf_module.config.hidden_size, "CLIP encoder"),
    )
    for what, taken, made, maker in told:
        if taken != made:
            raise ValueError(
                f"The denoiser takes {taken} {what}, the {maker} makes {made}; these weights do not belong together."
            )

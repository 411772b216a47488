"""Open-Sora 1.2 and 1.3: a STDiT3, its autoencoder and T5, sampled by :class:`RFLOW`.

Legend: C latent channels, T, H, W latent frames, rows and columns. Latents are normalised float32 (1, C, T, H, W).
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers.utils import logging as transformers_log

from opensora.acceleration.offload import Places
from opensora.checkpoint import identity
from opensora.checkpoint.layout import LayoutError, read_object
from opensora.models import zoo
from opensora.models.autoencoder import read_config as read_config_v2
from opensora.models.reranker import Reranker
from opensora.models.stdit.config import STDiT3Config
from opensora.models.stdit.stdit3 import STDiT3
from opensora.models.stdit.stdit3_v12 import STDiT3V12
from opensora.models.text.precision import TextSettings
from opensora.models.text.t5 import T5Encoder
from opensora.models.vae_v12 import windows as vae_v12
from opensora.models.vae_v12.config import VAEv12Config
from opensora.models.vae_v12.vae import OpenSoraVAE_V1_2
from opensora.models.vae_v13.config import VAEv13Config
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3, read_config
from opensora.models.vae_v13.windows import latent_frames
from opensora.pipelines import cost
from opensora.pipelines.bundle import FOLDERS, Bundle
from opensora.pipelines.checks import check_latents, features_failed, watch
from opensora.pipelines.cost import Memory, Shape
from opensora.pipelines.models import Clip, Models, Networks, PipelineConfig
from opensora.pipelines.parts import CONDITION_FRAMES, Part
from opensora.pipelines.pixels import count_windows, decode, encode_frames, to_frames
from opensora.pipelines.preview import Preview
from opensora.pipelines.reporter import Reporter
from opensora.pipelines.text_cache import text_cache
from opensora.sampling.conditions import prep_ref_and_mask, prep_ref_and_update_mask_in_loop
from opensora.sampling.rectified_flow import RFLOW
from opensora.sentences import say

log = logging.getLogger(__name__)

PICTURE = Part(frames=1, condition=0, kept=1)
"""The run that makes a picture of a text."""


class V13:
    """Open-Sora 1.3 as the pipeline sees it; what 1.2 does in another way is overridden there."""

    name: Literal["1.2", "1.3"] = "1.3"
    stdit_type: Any = STDiT3
    vae_type: Any = OpenSoraVAE_V1_3

    def load(self, bundle: Bundle, places: Places, dtype: torch.dtype, text: TextSettings, optimize: bool) -> Networks:
        start, device = time.perf_counter(), places.device
        files = bundle.weights()
        stdit = self.stdit_type.from_pretrained(files.stdit, dtype=dtype, **bundle.published("stdit"))
        vae = self.vae_type.from_pretrained(files.vae, **bundle.published("vae"))
        with no_bar():
            text_encoder = T5Encoder.from_pretrained(
                files.text, max_length=stdit.config.model_max_length, settings=text, device=places.text
            )
        stdit = stdit.to(places.others).requires_grad_(False)
        vae = vae.to(places.others, dtype).requires_grad_(False)
        _check_together(stdit, vae, text_encoder)
        if optimize and device.type != "mps":  # where it was never tried
            vae = vae.to(memory_format=torch.channels_last_3d)
        text_encoder.y_embedder = stdit.y_embedder
        hashes = {role: identity.fingerprint(path) for role, path in files.paths().items()}
        text_encoder.cache = text_cache(files.text, hashes["text"], text.precision, device)
        log.info("%s loaded for %s in %.1f s", bundle.card.name, device, time.perf_counter() - start)
        reranker = None if files.reranker is None else Reranker.from_pretrained(files.reranker).requires_grad_(False)
        return Networks(vae, text_encoder, stdit, hashes, reranker)

    def skeleton(self, bundle: Bundle) -> nn.Module:
        with torch.device("meta"):
            return self.stdit_type(self.configs(bundle)[0])

    def condition_frame_length(self, vae: Any) -> int:
        latents: int = vae.get_latent_size((CONDITION_FRAMES, None, None))[0]
        return latents

    def scheduler(self, config: PipelineConfig, steps: int, guidance: float) -> RFLOW:
        return RFLOW(
            num_sampling_steps=steps,
            cfg_scale=guidance,
            use_oscillation_guidance=config.use_oscillation_guidance,
            use_flaw_fix=config.use_flaw_fix,
            scale_image_weight=config.scale_image_weight,
            fixed_shift=config.bundle.card.time_shift,
            family=self.name,
        )

    def modules(self, models: Models) -> list[nn.Module]:
        return [models.stdit, models.vae, models.text_encoder.t5.model]

    def encode_texts(self, models: Models, texts: list[str]) -> None:
        for text in dict.fromkeys(texts):
            if not bool(torch.isfinite(models.text_encoder.encode([text])["y"]).all()):
                raise features_failed()

    def cut_texts(self, models: Models, texts: list[str]) -> list[tuple[int, int]]:
        tokenizer, most = models.text_encoder.t5.embedder.tokenizer, models.text_encoder.max_length
        counts = (len(tokenizer(text)["input_ids"]) for text in dict.fromkeys(texts))
        return [(count, most) for count in counts if count > most]

    def encode_reference(self, models: Models, frames: np.ndarray) -> Tensor:
        return encode_frames(models, frames)

    def denoise(self, models: Models, clip: Clip, seed: int, reporter: Reporter, preview: Preview | None) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if clip.picture_first:
            picture = self._picture(models, clip, PICTURE, generator, reporter, preview)
            clip = dataclasses.replace(clip, references=(picture,), cond_type="i2v_head")
        elif len(clip.parts) == 1 and clip.parts[0].frames == 1 and not clip.references:
            return self._picture(models, clip, clip.parts[0], generator, reporter, preview)
        joined: list[Tensor] = []
        for index, part in enumerate(clip.parts):
            before = joined[-1] if joined else None
            joined.append(self._run(models, clip, index, part, before, generator, watch(reporter, preview)))
        overlap = models.config.condition_frame_length
        return torch.cat([latents[:, :, overlap if i else 0 :] for i, latents in enumerate(joined)], dim=2)

    def _picture(
        self,
        models: Models,
        clip: Clip,
        part: Part,
        generator: torch.Generator,
        reporter: Reporter,
        preview: Preview | None,
    ) -> Tensor:
        """Latents of a picture of the text alone: of several that are made together the one that fits it best, or the
        one that is asked for, which then is made alone."""
        count = models.config.bundle.card.picture_candidates
        pictures = self._run(models, clip, 0, part, None, generator, watch(reporter, preview), count, clip.candidate)
        if count == 1 or clip.candidate is not None:
            return pictures
        text = models.text_encoder.encode([clip.texts[0]])
        scores = models.config.reranker(
            pictures[:, :, 0].float().cpu(), text["y"][:, 0].float().cpu(), text["mask"].cpu()
        )
        best = int(scores[0].argmax())
        reporter.kept.append(best + 1)
        return pictures[best : best + 1]

    def _run(
        self,
        models: Models,
        clip: Clip,
        index: int,
        part: Part,
        before: Tensor | None,
        generator: torch.Generator,
        on_step: Callable[[int, int, Tensor], None],
        count: int = 1,
        only: int | None = None,
    ) -> Tensor:
        """Latents of one part, given those of the part before; ``count`` different ones, made together, or ``only`` one
        of these."""
        config, device = models.config, torch.device(models.config.plan.device)
        size = models.vae.get_latent_size((part.frames, clip.height, clip.width))
        shape = (1, models.vae.latent_channels, *size)
        z = torch.cat([torch.randn(shape, generator=generator) for _ in range(count)]).to(device)
        z = z if only is None else z[only : only + 1]
        cond, given = _given(models, clip, index, before, z)
        cond_mask = torch.zeros_like(z)
        cond_mask[:, :, given] = 1
        by_image = bool(given) and models.stdit.config.embeds_given_frames and "i2v" in config.bundle.card.modes
        joins = None
        if given and not by_image:  # a network without image conditions has clean frames among its own
            joins = 1 - cond_mask[:, 0, :, 0, 0]
            z = torch.where(cond_mask.bool(), cond, z)
        told = clip.fps if part.frames > 1 else config.bundle.card.image_fps
        result = self.scheduler(config, clip.steps, clip.guidance).sample(
            models.stdit,
            models.text_encoder,
            z,
            z_cond=cond if by_image else None,
            z_cond_mask=cond_mask if by_image else None,
            prompts=[clip.texts[index]] * len(z),
            device=device,
            additional_args={"height": clip.height, "width": clip.width, "num_frames": part.frames, "fps": told},
            progress=False,
            mask=joins,
            mask_index=given if by_image else None,
            image_cfg_scale=clip.image_guidance if by_image else None,
            neg_prompts=None if clip.negative is None else [clip.negative[index]] * len(z),
            use_sdedit=by_image and config.use_sdedit,
            use_oscillation_guidance_for_image=by_image and config.use_oscillation_guidance,
            on_step=on_step,
            generator=generator,
        )
        result = torch.where(cond_mask.bool(), cond, result)  # what was given is kept
        check_latents(result, "sampling", say("what.denoised"))
        return result

    def count_pieces(self, models: Models, latents: int) -> int:
        return count_windows(models.vae, latents)

    def decode(self, models: Models, latents: Tensor, frames: int) -> Iterator[np.ndarray]:
        return decode(models.vae, latents, frames)

    def sampling_flops(self, bundle: Bundle, shape: Shape, steps: int, given: bool) -> float:
        stdit, vae = self.configs(bundle)
        scheduler = RFLOW(
            num_sampling_steps=steps,
            use_oscillation_guidance=bundle.card.oscillating_guidance,
            scale_image_weight=bundle.card.scale_image_guidance,
        )
        sizes = partial(self.latent_size, vae, shape=shape)
        first = _picture_first(bundle, shape, given)
        total = cost.sampling_flops(stdit, sizes, shape, scheduler, given or first)
        if first:
            picture = dataclasses.replace(shape, parts=(PICTURE,))
            each = cost.sampling_flops(stdit, sizes, picture, scheduler, False)
            return total + shape.pictures * each
        return total * shape.pictures

    def decoding_flops(self, bundle: Bundle, shape: Shape) -> float:
        return cost.decoding_flops(self.configs(bundle)[1], shape)

    def memory(self, bundle: Bundle, shape: Shape, bytes_each: int, given: bool) -> Memory:
        stdit, vae = self.configs(bundle)
        given = given or len(shape.parts) > 1 or _picture_first(bundle, shape, given)
        rows = 3 if stdit.embeds_given_frames and given else 2 * shape.pictures
        window = min(shape.frames, vae.micro_frame_size or shape.frames)
        return Memory(
            text=4 * text_parameters(bundle),
            denoiser=bytes_each * cost.parameters(self.stdit_type, stdit),
            autoencoder=bytes_each * cost.parameters(self.vae_type, vae),
            sampling=cost.sampling_bytes(stdit, partial(self.latent_size, vae, shape=shape), shape, bytes_each, rows),
            decoding=3 * self.widest(vae) * window * shape.height * shape.width * bytes_each,
            clips=cost.clip_bytes(shape, 2),
        )

    def latent_size(self, vae: Any, frames: int, shape: Shape) -> tuple[int, int, int]:
        """Latents (T, H, W) of a run."""
        return latent_frames(frames, vae), shape.height // 8, shape.width // 8

    def widest(self, vae: Any) -> int:
        """Channels of the decoder where it is as large as the pixels."""
        channels: int = vae.ch
        return channels

    def configs(self, bundle: Bundle) -> tuple[STDiT3Config, Any]:
        """Configurations of a bundle's networks, read from its folder or from the table of presets."""
        name = None if bundle.preset is None else bundle.preset.name
        return _configs(self.stdit_type.config_type, self.vae_config, bundle.folder, name)

    @staticmethod
    def vae_config(source: Path | Mapping[str, Any]) -> Any:
        """Configuration of the autoencoder, from a file or from fields."""
        return read_config(source) if isinstance(source, Path) else VAEv13Config(**source)


class V12(V13):
    """Open-Sora 1.2: given frames stand clean among the others, and windows of 17 frames know nothing of each other."""

    name = "1.2"
    stdit_type = STDiT3V12
    vae_type = OpenSoraVAE_V1_2

    def count_pieces(self, models: Models, latents: int) -> int:
        return len(vae_v12.latent_windows(latents, models.vae.config))

    def decode(self, models: Models, latents: Tensor, frames: int) -> Iterator[np.ndarray]:
        config, missing = models.vae.config, frames
        counts = vae_v12.decoded_frames(latents.shape[2], None, config)
        for (start, stop), count in zip(vae_v12.latent_windows(latents.shape[2], config), counts, strict=True):
            pixels = models.vae.decode(latents[:, :, start:stop].to(next(models.vae.parameters()).dtype), count)
            yield to_frames(pixels[:, :, :missing])
            missing -= min(missing, count)
        assert missing == 0, f"{latents.shape[2]} latent frames decode to {frames - missing}, not {frames} frames"

    def decoding_flops(self, bundle: Bundle, shape: Shape) -> float:
        vae = self.configs(bundle)[1]
        size = vae.micro_frame_size or shape.frames
        windows = [min(size, shape.frames - start) for start in range(0, shape.frames, size)]
        rows, columns = shape.height // 8, shape.width // 8
        return sum(_flops_v12(vae, frames, rows, columns) for frames in windows) * shape.videos

    def latent_size(self, vae: Any, frames: int, shape: Shape) -> tuple[int, int, int]:
        return vae_v12.latent_frames(frames, vae), shape.height // 8, shape.width // 8

    def widest(self, vae: Any) -> int:
        channels: int = vae.spatial.block_out_channels[0]
        return channels

    @staticmethod
    def vae_config(source: Path | Mapping[str, Any]) -> Any:
        return read_config_v2(VAEv12Config, source) if isinstance(source, Path) else VAEv12Config(**source)


@lru_cache(maxsize=16)
def _flops_v12(vae: VAEv12Config, frames: int, rows: int, columns: int) -> float:
    """Operations of decoding one window, counted on a network without memory."""
    with torch.device("meta"):
        network = OpenSoraVAE_V1_2(vae).eval()
        latents = torch.empty(1, network.latent_channels, vae_v12.latent_frames(frames, vae), rows, columns)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.decode(latents, frames)
    return float(counter.get_total_flops())


def _given(models: Models, clip: Clip, index: int, before: Tensor | None, z: Tensor) -> tuple[Tensor, list[int]]:
    """Latents like the noise ``z``, zero but for the frames that a part is given, and which frames these are."""
    refs = [[latents[0] for latents in clip.references]] if clip.references else []
    kind, overlap = clip.cond_type, models.config.condition_frame_length
    if before is None:
        return prep_ref_and_mask(kind, overlap, refs, z.shape, len(clip.parts), z.device, z.dtype)
    last = index == len(clip.parts) - 1
    return prep_ref_and_update_mask_in_loop(kind, overlap, before, refs, z.shape, last, z.device, z.dtype)


def _picture_first(bundle: Bundle, shape: Shape, given: bool) -> bool:
    """Whether the first frame of a clip is made by a run of its own."""
    return bundle.card.picture_first and not given and shape.frames > 1


def _check_together(stdit: STDiT3, vae: Any, text_encoder: T5Encoder) -> None:
    """Refuse networks that were not made for each other."""
    if stdit.config.in_channels != vae.latent_channels:
        raise ValueError(
            f"The denoiser takes {stdit.config.in_channels} latent channels, the autoencoder makes "
            f"{vae.latent_channels}; these weights do not belong together."
        )
    width = text_encoder.t5.model.config.d_model
    if stdit.config.caption_channels != width:
        raise ValueError(
            f"The denoiser reads text features of width {stdit.config.caption_channels}, the text encoder makes "
            f"{width}; these weights do not belong together."
        )


@lru_cache(maxsize=16)
def _configs(
    stdit_type: type[STDiT3Config],
    vae_config: Callable[[Path | Mapping[str, Any]], Any],
    folder: Path | None,
    preset: str | None,
) -> tuple[STDiT3Config, Any]:
    if folder is not None and (folder / FOLDERS["stdit"] / "config.json").is_file():
        stdit = stdit_type.from_file(folder / FOLDERS["stdit"] / "config.json")
        return stdit, vae_config(folder / FOLDERS["vae"] / "config.json")
    fields: dict[str, dict[str, Any]] = {"stdit": {}, "vae": {}}
    if preset is not None:
        for component in zoo.PRESETS[preset].components:
            fields.setdefault(component.role, {}).update(component.config)
    return stdit_type.from_dict(fields["stdit"]), vae_config(fields["vae"])


def text_parameters(bundle: Bundle) -> int:
    """Numbers in the T5 encoder's weights."""
    if bundle.preset is not None and not bundle.preset.bundled:
        return next(c.parameters for c in bundle.preset.components if c.role == "text")
    path = Path() if bundle.folder is None else bundle.folder / FOLDERS["text"] / "config.json"
    if not path.is_file():
        return 0
    t5 = read_object(path)
    names = ("d_model", "d_kv", "num_heads", "vocab_size", "num_layers", "d_ff")
    if wrong := [name for name in names if not isinstance(t5.get(name), int)]:
        raise LayoutError(f"{FOLDERS['text']}/config.json needs whole numbers for {', '.join(wrong)}.")
    width, inner = t5["d_model"], t5["d_kv"] * t5["num_heads"]
    return t5["vocab_size"] * width + t5["num_layers"] * width * (4 * inner + 3 * t5["d_ff"])


@contextmanager
def no_bar() -> Iterator[None]:
    """Keep the loader of transformers from drawing a bar of its own; stages are reported by the pipeline."""
    shown = transformers_log.is_progress_bar_enabled()
    transformers_log.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_log.enable_progress_bar()

"""Networks, loaded once: a second request for the same weights loads nothing, another choice releases them."""

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from transformers.utils import logging as transformers_log

from opensora.checkpoint import identity
from opensora.models.stdit.stdit3 import STDiT3
from opensora.models.text.t5 import T5Encoder
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3
from opensora.pipelines.bundle import Bundle, find_bundle
from opensora.pipelines.parts import CONDITION_FRAMES
from opensora.pipelines.plan import ExecutionPlan, choose_device, choose_dtype, device_name, dtype_name, versions
from opensora.sampling.rectified_flow import RFLOW

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PipelineConfig:
    """How a mode and a resolution of a bundle are sampled."""

    bundle: Bundle
    """Weights, lengths and defaults."""
    mode: str
    """``t2v``, ``i2v`` or ``t2i``."""
    resolution: str
    """Row of the table of sizes."""
    plan: ExecutionPlan
    """Where and how it is computed."""
    num_sampling_steps: int
    """Denoising steps."""
    cfg_scale: float
    """Text guidance."""
    image_cfg_scale: float
    """Image guidance."""
    use_oscillation_guidance: bool
    """Whether text guidance oscillates, and image guidance with given frames."""
    use_flaw_fix: bool
    """Whether the spread of guided predictions is pulled back."""
    scale_image_weight: bool
    """Whether image guidance falls over the steps and grows over the frames."""
    use_sdedit: bool
    """Whether given frames follow the noise schedule."""
    condition_frame_length: int
    """Latent frames that a part of a clip starts from."""

    def scheduler(self, steps: int | None = None, guidance: float | None = None) -> RFLOW:
        """The scheduler, with other steps or guidance where given."""
        return RFLOW(
            num_sampling_steps=self.num_sampling_steps if steps is None else steps,
            cfg_scale=self.cfg_scale if guidance is None else guidance,
            use_oscillation_guidance=self.use_oscillation_guidance,
            use_flaw_fix=self.use_flaw_fix,
            scale_image_weight=self.scale_image_weight,
            fixed_shift=self.bundle.card.time_shift,
        )


class Models(NamedTuple):
    """Everything that a generation needs."""

    vae: OpenSoraVAE_V1_3
    text_encoder: T5Encoder
    stdit: STDiT3
    scheduler: RFLOW
    config: PipelineConfig


class _Networks(NamedTuple):
    vae: OpenSoraVAE_V1_3
    text_encoder: T5Encoder
    stdit: STDiT3
    weights: dict[str, str]


_Key = tuple[str, str, torch.dtype, torch.dtype, bool]


class _Shelf:
    """Holds the networks of one key; a second key takes their place."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: _Key | None = None
        self._networks: _Networks | None = None

    def get(self, key: _Key, load: Callable[[], _Networks]) -> _Networks:
        """The networks of a key; threads that ask at once wait for one load."""
        with self._lock:
            if self._key != key or self._networks is None:
                self._drop()
                self._networks = load()
                self._key = key
            return self._networks

    def holds(self, key: _Key) -> bool:
        """Whether nothing has to be loaded for a key."""
        return self._key == key and self._networks is not None

    def clear(self) -> None:
        """Release what is held."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._networks is None:
            return
        self._key = self._networks = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        elif torch.backends.mps.is_available():
            torch.mps.empty_cache()


_SHELF = _Shelf()


def build_models(
    mode: str,
    resolution: str | None,
    enable_optimization: bool = False,
    *,
    model: str | Path | Bundle | None = None,
    device: str | None = None,
    dtype: str | None = None,
    text_dtype: str = "fp32",
) -> Models:
    """The networks for a mode and a resolution, ready to run, loaded at most once.

    Args:
        mode: ``t2v``, ``i2v`` or ``t2i``.
        resolution: row of the table of sizes, such as ``144p``; ``None`` for the weights' own.
        enable_optimization: turn on what makes it faster and leaves the output as it is (to rounding).
        model: name of a preset, ``Path`` of a bundle's folder, or a :class:`Bundle`; ``None`` for the first preset that
            can do it.
        device: such as ``cpu`` or ``cuda:0``; ``None`` for the best of this machine.
        dtype: of the denoiser and the autoencoder, ``bf16`` or ``fp32``; ``None`` for what suits the device.
        text_dtype: of the text encoder.

    Raises:
        ValueError: no such weights, weights that are not here or damaged, or no such device; a sentence says what to
            do.
    """
    bundle = model if isinstance(model, Bundle) else find_bundle(model, mode, resolution)
    place = choose_device(device)
    kind, text_kind = choose_dtype(dtype, place), choose_dtype(text_dtype, place)
    key = (bundle.key, str(place), kind, text_kind, enable_optimization)
    networks = _SHELF.get(key, lambda: _load(bundle, place, kind, text_kind, enable_optimization))
    plan = ExecutionPlan(
        device=str(place),
        device_name=device_name(place),
        dtype=dtype_name(kind),
        text_dtype=dtype_name(text_kind),
        backend=f"torch sdpa, {'cudnn' if place.type == 'cuda' else 'oneDNN' if place.type == 'cpu' else 'mps'}",
        threads=torch.get_num_threads(),
        batch=1,
        optimized=enable_optimization,
        versions=versions(),
        weights=networks.weights,
    )
    config = _config(bundle, mode, resolution, plan, networks.vae)
    return Models(networks.vae, networks.text_encoder, networks.stdit, config.scheduler(), config)


def is_built(bundle: Bundle, device: str | None, dtype: str | None, optimized: bool, text_dtype: str = "fp32") -> bool:
    """Whether :func:`build_models` would load nothing."""
    place = choose_device(device)
    kinds = choose_dtype(dtype, place), choose_dtype(text_dtype, place)
    return _SHELF.holds((bundle.key, str(place), *kinds, optimized))


def release_models() -> None:
    """Give back the memory of the networks that are held."""
    _SHELF.clear()


def _config(
    bundle: Bundle, mode: str, resolution: str | None, plan: ExecutionPlan, vae: OpenSoraVAE_V1_3
) -> PipelineConfig:
    card = bundle.card
    condition = vae.get_latent_size((CONDITION_FRAMES, None, None))[0]
    assert condition is not None
    return PipelineConfig(
        bundle=bundle,
        mode=mode,
        resolution=resolution or bundle.default_resolution(),
        plan=plan,
        num_sampling_steps=card.default_steps,
        cfg_scale=card.default_guidance,
        image_cfg_scale=card.default_image_guidance,
        use_oscillation_guidance=card.oscillating_guidance,
        use_flaw_fix=card.flaw_fix and mode != "i2v",
        scale_image_weight=card.scale_image_guidance,
        use_sdedit=card.sdedit,
        condition_frame_length=condition,
    )


def _load(
    bundle: Bundle, device: torch.device, dtype: torch.dtype, text_dtype: torch.dtype, optimize: bool
) -> _Networks:
    start = time.perf_counter()
    places = bundle.weights()
    stdit = STDiT3.from_pretrained(places.stdit, dtype=dtype, **bundle.published("stdit"))
    vae = OpenSoraVAE_V1_3.from_pretrained(places.vae, **bundle.published("vae"))
    with _no_bar():
        text_encoder = T5Encoder.from_pretrained(
            places.text, max_length=stdit.config.model_max_length, dtype=text_dtype, device=str(device)
        )
    stdit = stdit.to(device).requires_grad_(False)
    vae = vae.to(device, dtype).requires_grad_(False)
    _check_together(stdit, vae, text_encoder)
    if optimize and device.type != "mps":  # where it was never tried
        vae = vae.to(memory_format=torch.channels_last_3d)
    text_encoder.y_embedder = stdit.y_embedder
    hashes = {role: identity.fingerprint(path) for role, path in places._asdict().items()}
    log.info("%s loaded on %s in %.1f s", bundle.card.name, device, time.perf_counter() - start)
    return _Networks(vae, text_encoder, stdit, hashes)


@contextmanager
def _no_bar() -> Iterator[None]:
    """Keep the loader of transformers from drawing a bar of its own; stages are reported by the pipeline."""
    shown = transformers_log.is_progress_bar_enabled()
    transformers_log.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_log.enable_progress_bar()


def _check_together(stdit: STDiT3, vae: OpenSoraVAE_V1_3, text_encoder: T5Encoder) -> None:
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

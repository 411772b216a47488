"""Networks, loaded once: a second request for the same weights loads nothing, another choice releases them."""

import gc
import os
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch

from opensora.acceleration.offload import Offload, Places
from opensora.acceleration.parallel.network import parallelize
from opensora.acceleration.parallel.tiles import parallelize_tiles
from opensora.acceleration.shardformer.apply import decided, wanted
from opensora.distributed.group import Group
from opensora.distributed.processors import usable_processors
from opensora.models.text.precision import QUANTISED, TextSettings, check_precision
from opensora.pipelines.bundle import Bundle, find_bundle
from opensora.pipelines.families import family_of
from opensora.pipelines.families.base import Family
from opensora.pipelines.models import Models, Networks, PipelineConfig
from opensora.pipelines.plan import ExecutionPlan, choose_device, choose_dtype, device_name, dtype_name, versions

_Key = tuple[str, Places, torch.dtype, TextSettings, bool, int]


class _Shelf:
    """Holds the networks of one key; a second key takes their place."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: _Key | None = None
        self._networks: Networks | None = None

    def get(self, key: _Key, load: Callable[[], Networks]) -> Networks:
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
    shardformer: str | None = None,
    offload: Offload = "none",
    group: Group | None = None,
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
        text_dtype: precision of the text encoder: ``fp32``, ``bf16``, or by bitsandbytes ``int8`` or ``nf4`` (4 bits).
        shardformer: colossalai's policy for T5: ``on``, ``auto`` where it can be used, or ``off``; the same numbers.
            ``None`` for what ``OPENSORA_SHARDFORMER`` says, ``auto`` where it says nothing.
        offload: networks that lie in main memory until :func:`opensora.pipelines.residence.at_work` brings them to the
            device: ``none``, ``text`` for the text encoders, or ``all``.
        group: processes that make every clip together, all of which call this; ``None`` for this one alone.

    Raises:
        ValueError: no such weights, weights that are not here or damaged, or no such device; a sentence says what to
            do.
    """
    bundle = model if isinstance(model, Bundle) else find_bundle(model, mode, resolution)
    place = choose_device(device)
    _keep_to_processors()
    if offload != "none" and text_dtype in QUANTISED:
        raise ValueError(f"A text encoder in {text_dtype} stays on its device; choose fp32 or bf16 to offload it.")
    check_precision(text_dtype, place)
    places = Places(place, offload)
    kind, text = choose_dtype(dtype, place), _text_settings(text_dtype, shardformer)
    group = group or Group()
    key = (bundle.key, places, kind, text, enable_optimization, group.size)
    family = family_of(bundle)
    networks = _SHELF.get(key, lambda: _divided(family.load(bundle, places, kind, text, enable_optimization), group))
    plan = ExecutionPlan(
        device=str(place),
        device_name=device_name(place),
        dtype=dtype_name(kind),
        text_dtype=text_dtype,
        backend=f"torch sdpa, {'cudnn' if place.type == 'cuda' else 'oneDNN' if place.type == 'cpu' else 'mps'}",
        threads=torch.get_num_threads(),
        batch=1,
        optimized=enable_optimization,
        versions=versions(
            *(["bitsandbytes"] if text_dtype in QUANTISED else []),
            *(["colossalai"] if text.shardformer == "on" else []),
        ),
        weights=networks.weights,
        processes=group.size,
        offload=offload,
        shardformer=text.shardformer,
    )
    config = _config(bundle, family, mode, resolution, plan, networks)
    scheduler = family.scheduler(config, config.num_sampling_steps, config.cfg_scale)
    return Models(networks.vae, networks.text_encoder, networks.stdit, scheduler, config)


def is_built(
    bundle: Bundle,
    device: str | None,
    dtype: str | None,
    optimized: bool,
    offload: Offload = "none",
    text_dtype: str = "fp32",
) -> bool:
    """Whether :func:`build_models` would load nothing."""
    place = choose_device(device)
    key = (bundle.key, Places(place, offload), choose_dtype(dtype, place), _text_settings(text_dtype), optimized, 1)
    return _SHELF.holds(key)


def _text_settings(precision: str, shardformer: str | None = None) -> TextSettings:
    """How the text encoder is loaded; ``auto`` is decided here, so that the plan can say what was used.

    Raises:
        ValueError: no such setting, or ``on`` where colossalai cannot be used.
    """
    setting = shardformer or wanted()
    if setting == "auto" and precision in QUANTISED:  # the policy is tried on an encoder that is not quantised
        setting = "off"
    return TextSettings(precision, decided(setting))


def release_models() -> None:
    """Give back the memory of the networks that are held."""
    _SHELF.clear()


@lru_cache(maxsize=1)
def _keep_to_processors() -> None:
    """No more threads than a container leaves processors, once; a number that the environment names is kept."""
    most = usable_processors()
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > most:
        torch.set_num_threads(most)


def _divided(networks: Networks, group: Group) -> Networks:
    """Networks whose work the processes of a group share."""
    if group.size > 1:
        parallelize(networks.stdit, group)
        parallelize_tiles(networks.vae, group)
    return networks


def _config(
    bundle: Bundle, family: Family, mode: str, resolution: str | None, plan: ExecutionPlan, networks: Networks
) -> PipelineConfig:
    card = bundle.card
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
        condition_frame_length=family.condition_frame_length(networks.vae),
        reranker=networks.reranker,
    )

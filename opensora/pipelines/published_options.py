"""Command lines as users of the public Open-Sora code write them, in the names of this package."""

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import PurePath
from types import MappingProxyType

from opensora.config import ConfigError
from opensora.pipelines.request import GenerationRequest

PUBLISHED_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "num_frames": "length",
        "num_sampling_steps": "steps",
        "num_steps": "steps",
        "cfg_scale": "guidance",
        "guidance_scale": "guidance",
        "image_cfg_scale": "image_guidance",
        "guidance_img": "image_guidance",
        "neg_prompt": "negative_prompt",
        "num_sample": "num_videos",
        "loop": "loops",
        "aes": "aesthetic_score",
    }
)
"""Settings of the public code that have another name here."""
SECTIONS = ("sampling_option",)
"""Parts of the public configurations whose settings are plain settings here."""
PICTURE_FIRST, PAINTER = "use_t2i2v", "flux.1-dev"
"""The public code's switch for a picture that is painted first, and the weights that it paints with."""
SWITCHES = ("offload", PICTURE_FIRST)
"""Options that are on where no value follows them."""
SCRIPT_OPTIONS = ("prompt", "prompt_file", "dataset.data_path", "ref", "image", "save_dir", "verbose")
"""Options of the script itself, besides those of a request."""
_WEIGHTS = "It belongs to the weights; choose them with --model, or in a config file."
ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("model.from_pretrained", "ckpt_path", "ae.from_pretrained"), _WEIGHTS),
        **dict.fromkeys(
            ("text_osci", "image_osci", "scale_temporal_osci", "shift", "flow_shift", "method", "temporal_reduction"),
            _WEIGHTS,
        ),
        **dict.fromkeys(("is_causal_vae", "patch_size", "condition_frame_length"), _WEIGHTS),
        "fps_save": "Clips have the frame rate of their weights.",
        "fps": "Clips have the frame rate of their weights.",
        "batch_size": "Clips are made one after another; --num-sample says how many.",
        "plugin": "Processes share the work by themselves; torchrun says how many there are.",
        "plugin_config": "Processes share the work by themselves; torchrun says how many there are.",
        "refine_prompt": "Use `python -m opensora generate --refine-prompt`, or the page.",
        "llm_refine": "Use `python -m opensora generate --refine-prompt`, or the page.",
        "mask_strategy": "Say where a reference goes with --cond_type.",
    }
)
"""Options of the public code that are none here, with what to do instead."""
VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".gif")
"""Files that are clips by their name, where the cond type does not say what a reference is."""


def overrides(arguments: list[str], base: GenerationRequest) -> list[str]:
    """``name=value``, ``--name value`` and ``--name=value`` as ``name=value`` with the names of this package.

    Args:
        arguments: what the script itself does not know.
        base: the config file's request.

    Raises:
        ConfigError: an option that there is not, with the nearest one, or one without a value.
    """
    found, rest = [], list(arguments)
    while rest:
        text = rest.pop(0)
        dashed = text.startswith("--")
        key, equals, value = text.removeprefix("--").partition("=")
        key = key.replace("-", "_")
        for section in SECTIONS:
            key = key.removeprefix(f"{section}.")
        if dashed and not equals:
            if key in SWITCHES and (not rest or rest[0].startswith("--")):
                value = "true"
            elif not rest:
                raise ConfigError(f"Got the option {text} without a value.")
            else:
                value = rest.pop(0)
        if dashed or equals:
            _require_known(key, dashed)
        found += _override(key, value, base) if dashed or equals else [text]
    return found


def _override(key: str, value: str, base: GenerationRequest) -> list[str]:
    """One option in the names of this package; nothing where the config file has it so already."""
    if key == PICTURE_FIRST:
        if value.lower() not in ("true", "false"):
            raise ConfigError(f"Got --{PICTURE_FIRST} {value[:40]}; expected True or False.")
        wanted = value.lower() == "true"
        same = wanted == (base.picture_model is not None)
        return [] if same else [f"picture_model={PAINTER if wanted else 'none'}"]
    if key == "cond_type" and value == "t2v":  # the public name of no condition
        value = "none"
    return [f"{PUBLISHED_NAMES.get(key, key)}={value}"]


def _require_known(key: str, dashed: bool) -> None:
    """Refuse an option that there is not."""
    fields = [field.name for field in dataclasses.fields(GenerationRequest)]
    known = [*fields, *PUBLISHED_NAMES, PICTURE_FIRST]
    if key in known:
        return
    shown = f"--{key}" if dashed else key
    if key in ELSEWHERE:
        raise ConfigError(f"There is no option {shown} here. {ELSEWHERE[key]}")
    near = difflib.get_close_matches(key, [*known, *SCRIPT_OPTIONS, *ELSEWHERE], n=1, cutoff=0.5)
    hint = f" Did you mean {'--' if dashed else ''}{near[0]}?" if near else f" There are {', '.join(known)}."
    raise ConfigError(f"There is no option {shown[:60]}.{hint}")


def references(ref: str, cond_type: str | None) -> dict[str, str]:
    """Fields of a request for what the public code calls ``ref``: files with ``;`` between them.

    Raises:
        ConfigError: more than two files, a second clip, or none.
    """
    files = [file.strip() for file in ref.split(";") if file.strip()]
    if not files:
        raise ConfigError("Got an empty reference; name a file, or leave it out.")
    by_name = cond_type is None and PurePath(files[0]).suffix.lower() in VIDEO_SUFFIXES
    if by_name or (cond_type is not None and cond_type.startswith("v2v")):
        if len(files) > 1:
            raise ConfigError(f"Got {len(files)} reference clips; give one.")
        return {"reference_video": files[0]}
    if len(files) > 2:
        raise ConfigError(f"Got {len(files)} reference images; give the first, or the first and the last.")
    return dict(zip(("reference_image", "last_image"), files, strict=False))

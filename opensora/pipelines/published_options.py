"""Command lines as users of the public Open-Sora code write them, in the names of this package."""

from pathlib import PurePath

from opensora.config import ConfigError

PUBLISHED_NAMES = {
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
}
"""Settings of the public code that have another name here."""
SECTIONS = ("sampling_option",)
"""Parts of the public configurations whose settings are plain settings here."""
VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".gif")
"""Files that are clips by their name, where the cond type does not say what a reference is."""


def overrides(arguments: list[str]) -> list[str]:
    """``name=value``, ``--name value`` and ``--name=value`` as ``name=value`` with the names of this package.

    Raises:
        ConfigError: an option without a value.
    """
    found, rest = [], list(arguments)
    while rest:
        text = rest.pop(0)
        if text.startswith("--") and "=" not in text:
            if not rest:
                raise ConfigError(f"Got the option {text} without a value.")
            text = f"{text}={rest.pop(0)}"
        key, equals, value = text.removeprefix("--").partition("=")
        key = key.replace("-", "_")
        for section in SECTIONS:
            key = key.removeprefix(f"{section}.")
        found.append(f"{PUBLISHED_NAMES.get(key, key)}{equals}{value}")
    return found


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

"""LoRA files that whoever runs the server put into a folder; visitors and programs choose them by name, never by path.

The environment variable ``OPENSORA_LORA_DIR`` names the folder; ``app.py --lora-dir`` sets it for the server and its
workers. A LoRA is a safetensors file in it, or a folder that peft wrote.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from opensora.checkpoint.lora import WEIGHTS, LoraError, open_lora, seems_for
from opensora.pipelines.errors import RequestError, shown
from opensora.pipelines.loras import Named
from opensora.sentences import say

VARIABLE = "OPENSORA_LORA_DIR"
NETWORK_OF = {"1.2": "STDiT3", "1.3": "STDiT3", "2.0": "MMDiT", "flux": "MMDiT"}
"""How the denoiser of a generation is called where a LoRA is recognised by the names of its layers."""


@dataclass(frozen=True)
class Listed:
    """A LoRA of the folder."""

    name: str
    """What it is chosen by."""
    path: Path
    """Its file or folder. A path of this machine: not for a page."""
    network: str | None
    """What it seems to be for; ``None`` where that is not known, or the file is damaged."""

    def suits(self, family: str) -> bool:
        """Whether it seems to be for the denoiser of a generation."""
        return self.network is not None and self.network.startswith(NETWORK_OF[family])


def listed() -> list[Listed]:
    """The LoRAs of the folder by name; none where no folder is named or it cannot be read."""
    named = os.environ.get(VARIABLE)
    if not named:
        return []
    try:
        entries = sorted(Path(named).iterdir())
    except OSError:
        return []
    found = []
    for path in entries:
        weights = path / WEIGHTS if path.is_dir() else path
        if not path.name.startswith(".") and weights.suffix == ".safetensors" and weights.is_file():
            state = weights.stat()
            found.append(Listed(path.name, path, _network(path, state.st_mtime_ns, state.st_size)))
    return found


def chosen(entries: Any) -> Named:
    """The files of chosen names with their strengths.

    Args:
        entries: names, or ``{"name": …, "strength": …}``; the strength is 1 where none is said. Strengths are checked
            with the request.

    Raises:
        RequestError: a name that is not listed, or something else than names.
    """
    if not isinstance(entries, list | tuple):
        raise RequestError("loras", say("loras.names", got=shown(entries)))
    if not entries:
        return ()
    here = {lora.name: lora.path for lora in listed()}
    if not here:
        raise RequestError("loras", say("loras.none"))
    done: list[tuple[str | Path, float]] = []
    for entry in entries:
        told = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(told, dict) or not isinstance(told.get("name"), str) or set(told) - {"name", "strength"}:
            raise RequestError("loras", say("lora.named", got=shown(entry), form='{"name": "…", "strength": 1}'))
        if told["name"] not in here:
            raise RequestError("loras", say("lora.absent", got=shown(told["name"]), choices=", ".join(here)))
        done.append((here[told["name"]], told.get("strength", 1.0)))
    return tuple(done)


def told_of(loras: Named) -> list[dict[str, Any]]:
    """The LoRAs of a request by name, without where they are."""
    return [{"name": Path(file).name, "strength": strength} for file, strength in loras]


def with_strengths(names: Sequence[str], text: str) -> list[dict[str, Any]]:
    """Names with the strengths that were typed beside them, in the same order; 1 where none is left.

    Raises:
        RequestError: a strength is no number, or there are more of them than names.
    """
    words = text.replace(",", " ").replace(";", " ").split()
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise RequestError("loras", say("strengths.form", got=shown(text))) from None
    if len(numbers) > len(names):
        raise RequestError("loras", say("strengths.many", count=len(numbers), loras=len(names)))
    numbers += [1.0] * (len(names) - len(numbers))
    return [{"name": name, "strength": number} for name, number in zip(names, numbers, strict=True)]


def recorded(entries: Any) -> Named | None:
    """The files of LoRAs that a finished clip's settings name, where all of them are in the folder and unchanged.

    Args:
        entries: ``loras`` of the settings: names, strengths and hashes, from a file that may come from anywhere.
    """
    here = {lora.name: lora.path for lora in listed()}
    found: list[tuple[str | Path, float]] = []
    if not isinstance(entries, list):
        return None
    for entry in entries:
        told = entry if isinstance(entry, dict) else {}
        path, strength = here.get(str(told.get("name"))), told.get("strength")
        if path is None or not isinstance(strength, int | float):
            return None
        weights = path / WEIGHTS if path.is_dir() else path
        with weights.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != told.get("sha256"):
                return None
        found.append((path, float(strength)))
    return tuple(found)


@lru_cache(maxsize=256)
def _network(path: Path, changed: int, size: int) -> str | None:
    """What a LoRA seems to be for; its header is read again when it has changed."""
    try:
        return seems_for(open_lora(path).layers)
    except LoraError:
        return None

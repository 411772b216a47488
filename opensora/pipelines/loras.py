"""LoRA files of a request: which are named, checked before anything is loaded, and worn while a clip is made."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opensora.checkpoint.lora import LoraError, open_lora
from opensora.pipelines.errors import RequestError, shown
from opensora.sentences import say

if TYPE_CHECKING:
    from opensora.checkpoint.lora_weights import Lora
    from opensora.pipelines.bundle import Bundle
    from opensora.pipelines.models import Models

MAX_LORAS = 8
"""LoRAs of one request."""
MAX_STRENGTH = 10
"""Largest strength, in either direction."""

Named = tuple[tuple[str | Path, float], ...]
"""Files or folders with their strengths."""


def parse(option: str) -> tuple[str | Path, float]:
    """``FILE`` or ``FILE:STRENGTH`` of a command line; the strength is 1 where none is written."""
    file, colon, strength = option.rpartition(":")
    try:
        return (Path(file), float(strength)) if colon and file else (Path(option), 1.0)
    except ValueError:  # a colon in the file's name
        return Path(option), 1.0


def checked(loras: Any) -> Named:
    """The same with every file's header read and every strength a float; reads no tensor.

    Raises:
        RequestError: no such file, a damaged one, or no pairs of a file and a strength.
    """
    if not isinstance(loras, tuple | list):
        raise RequestError("loras", say("loras.form", got=shown(loras)))
    if len(loras) > MAX_LORAS:
        raise RequestError("loras", say("loras.many", count=len(loras), most=MAX_LORAS))
    done = []
    for entry in loras:
        if not (isinstance(entry, tuple | list) and len(entry) == 2 and isinstance(entry[0], str | Path)):
            raise RequestError("loras", say("lora.form", got=shown(entry)))
        file, strength = Path(entry[0]), entry[1]
        number = isinstance(strength, int | float) and not isinstance(strength, bool)
        if not number or not -MAX_STRENGTH <= strength <= MAX_STRENGTH:
            raise RequestError(
                "loras",
                say("lora.strength", got=shown(strength), file=file.name[:80], most=MAX_STRENGTH),
            )
        with _sentences():
            open_lora(file)
        done.append((file, float(strength)))
    return tuple(done)


def load(loras: Named, bundle: "Bundle") -> "list[Lora]":
    """The tensors of a request's LoRAs.

    Raises:
        RequestError: one is damaged, or does not fit the bundle's denoiser.
    """
    if not loras:
        return []
    from opensora.checkpoint.lora_weights import load_lora, require_fit
    from opensora.pipelines.families import family_of

    network = family_of(bundle).skeleton(bundle)
    read = []
    with _sentences():
        for name, strength in loras:
            file = open_lora(Path(name))
            require_fit(network, file)
            read.append(load_lora(file, strength))
    return read


def require_for(loras: Named, bundle: "Bundle") -> None:
    """Refuse LoRAs for another network than a bundle's denoiser; reads no tensor.

    Raises:
        RequestError: lists what does not fit.
    """
    if not loras:
        return
    from opensora.checkpoint.lora_weights import require_fit
    from opensora.pipelines.families import family_of

    network = family_of(bundle).skeleton(bundle)
    with _sentences():
        for name, _ in loras:
            require_fit(network, open_lora(Path(name)))


@contextmanager
def worn(models: "Models", loras: "Sequence[Lora]") -> "Iterator[Models]":
    """The networks with LoRAs, and a plan that names their sha256, until the block ends.

    The networks that are kept for the next request never have any: nothing else is needed to tell builds apart.
    """
    from opensora.checkpoint.lora_weights import wearing

    weights = {f"lora {number}": lora.sha256 for number, lora in enumerate(loras, start=1)}
    plan = replace(models.config.plan, weights=models.config.plan.weights | weights)
    with wearing(models.stdit, loras):
        yield models._replace(config=replace(models.config, plan=plan))


def record(loras: "Sequence[Lora]") -> dict[str, list[dict[str, Any]]]:
    """What a result's settings say of them; nothing where there are none."""
    told = [{"name": lora.file.name, "strength": lora.strength, "sha256": lora.sha256} for lora in loras]
    return {"loras": told} if told else {}


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn what is wrong with a file into an error of the request."""
    try:
        yield
    except LoraError as error:
        raise RequestError("loras", str(error)) from None

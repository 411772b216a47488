"""A request as JSON and, for the pictures and clips that it was given, files beside it. Nothing is ever unpickled."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from opensora.jobs.places import sync, write
from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import GenerationRequest
from opensora.sentences import say


def pack(request: GenerationRequest, folder: Path) -> dict[str, Any]:
    """JSON values of a validated request; what it was given is written into the folder."""
    values = {f.name: getattr(request, f.name) for f in dataclasses.fields(request)}
    packed = {name: _packed(name, value, folder) for name, value in values.items() if value is not None}
    sync(folder)
    return packed


def unpack(packed: dict[str, Any], folder: Path) -> GenerationRequest:
    """The request again.

    Raises:
        RequestError: it is from a version with other settings, or what it was given is no longer there.
    """
    try:
        return GenerationRequest(**{name: _unpacked(name, value, folder) for name, value in packed.items()})
    except (TypeError, KeyError):
        raise RequestError("request", say("job.settings")) from None
    except (OSError, ValueError) as error:
        raise RequestError("request", say("job.given")) from error


def outline(packed: dict[str, Any]) -> GenerationRequest:
    """The request without what it was given, for lists; never fails."""
    known = {field.name for field in dataclasses.fields(GenerationRequest)}
    plain: dict[str, Any] = {k: v for k, v in packed.items() if k in known and isinstance(v, str | int | float)}
    return GenerationRequest(**{"prompt": "", **plain})


def _packed(name: str, value: Any, folder: Path) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return {"path": str(value.absolute())}
    if isinstance(value, tuple | list):
        return [_packed(name, entry, folder) for entry in value]
    if isinstance(value, Image.Image):
        data = io.BytesIO()
        value.save(data, "PNG", compress_level=1)
        write(folder / f"{name}.png", data.getvalue(), durable=True)
        return {"given": "picture"}
    if isinstance(value, np.ndarray):
        data = io.BytesIO()
        np.savez_compressed(data, frames=value)
        write(folder / f"{name}.npz", data.getvalue(), durable=True)
        return {"given": "clip"}
    assert isinstance(value, str | int | float), f"{name} is {type(value).__name__}, which no job can keep"
    return value


def _unpacked(name: str, value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return tuple(_unpacked(name, entry, folder) for entry in value)
    if not isinstance(value, dict):
        return value
    if "path" in value:
        return Path(value["path"])
    if value["given"] == "picture":
        with Image.open(folder / f"{name}.png", formats=["PNG"]) as picture:
            picture.load()
            return picture.copy()
    with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
        return arrays["frames"]

"""From a finished file back to its request, and a second run that says whether it gives the same bytes.

The file holds settings, plan, versions, hashes of weights and the pictures that it began with. What is not in it (a
folder of weights that no preset names, LoRA files, a given clip) has to be supplied again and is checked by its hash.
"""

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opensora.checkpoint.lora import open_lora
from opensora.datasets import confined
from opensora.models import zoo
from opensora.pipelines import embedded
from opensora.pipelines.errors import RequestError, shown
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import PICTURE
from opensora.sentences import named, say

GIVEN = ("reference_image", "last_image", "reference_video")
"""Fields of a request that are pictures or clips."""
APART = ("model", "picture_model", "loras", "dtype", "text_dtype", "device", *GIVEN)
"""Fields of a request that a file does not name as the request did."""
DERIVED = (
    "fps",
    "height",
    "loras",
    "mode",
    "model",
    "num_frames",
    "parts",
    "picture_candidates",
    "picture_first",
    "picture_model",
    "picture_sha256",
    "picture_steps",
    "pictures_kept",
    "reference_sha256",
    "second_reference_sha256",
    "texts",
    "width",
)
"""Settings in a file that follow from the request, or stand for fields of :data:`APART`."""
LARGEST_SIDE = 16384
"""Pixels of a clip's side that a file may claim."""


@dataclass(frozen=True)
class Need:
    """Something that a file does not hold and that its request cannot do without."""

    field: str
    """Field of the request."""
    sha256: tuple[str, ...]
    """Hashes of what has to be supplied, in order; empty where the plan has those of the weights."""
    text: str
    """A sentence for people."""


@dataclass(frozen=True)
class Recorded:
    """What a file says of itself."""

    request: GenerationRequest
    """The request, complete but for what it needs."""
    record: dict[str, Any] = field(repr=False)
    """Everything that the file says: ``program``, ``settings``, ``plan``, ``pixels_sha256``."""
    needs: tuple[Need, ...] = ()
    """What has to be supplied."""
    shows: str = ""
    """``PICTURE`` of :mod:`opensora.pipelines.result` for the picture that a clip was made of, else nothing."""


def read_settings(source: str | Path | bytes) -> Recorded:
    """The request of an MP4, PNG or WebM file that this program wrote, and all that the file says.

    Args:
        source: a file, or its bytes. It may come from anywhere: what is read is bounded, and nothing else is opened.

    Raises:
        ValueError: the file is foreign, damaged, or from a version with other settings; a sentence for people.
    """
    record = confined.read_settings(source)
    name = say("the.file") if isinstance(source, bytes) else Path(source).name
    settings, plan = record.get("settings"), record.get("plan")
    program = record.get("program")
    if not (isinstance(program, str) and program.startswith("opensora ") and isinstance(settings, dict)):
        raise ValueError(say("file.settings", file=name))
    if not isinstance(plan, dict):
        raise ValueError(say("file.plan", file=name))
    known = {f.name for f in dataclasses.fields(GenerationRequest)}
    if strange := sorted(shown(key) for key in settings if key not in known and key not in DERIVED):
        raise ValueError(say("file.newer", file=name, program=program[:40], setting=strange[0]))
    for key, value in settings.items():
        if key in known and key not in APART and not isinstance(value, str | int | float | None):
            raise ValueError(say("file.value", file=name, got=shown(value), field=named(key)))
    values, needs = _values(settings, plan, {f for f in known if f not in APART})
    for key, told in _given(record, settings).items():
        values[key] = embedded.unpack(told, _side(settings, "width"), _side(settings, "height"))
        if values[key] is None:
            needs.append(_need_given(key, told))
    try:
        request = GenerationRequest(**values)
    except TypeError:
        raise ValueError(say("file.prompt", file=name)) from None
    return Recorded(request, record, tuple(needs), PICTURE if record.get("shows") == PICTURE else "")


def supply(recorded: Recorded, **values: Any) -> GenerationRequest:
    """The whole request, with what the file does not hold.

    Args:
        values: fields of a request; those that the file needs, or replacements of what it holds. LoRAs may be files
            alone: their strengths are known.

    Raises:
        RequestError: something is missing, or is not what the clip was made with.
    """
    values = {
        name: value
        for name, value in values.items()
        if value is not None and not (isinstance(value, tuple) and not value)
    }
    wanted = {need.field: need for need in recorded.needs}
    for need in recorded.needs:
        if need.field not in values:
            raise RequestError(need.field, need.text)
    if "loras" in values:
        values["loras"] = _checked_loras(values["loras"], recorded)
    request = dataclasses.replace(recorded.request, **values)
    if not any(name in wanted for name in GIVEN):
        return request
    request = request.validated()
    for name, frames in embedded.by_field(request.references()).items():
        if name in wanted and (made := embedded.sha256(frames)) not in wanted[name].sha256:
            expected = wanted[name].sha256[0][:12]
            raise RequestError(name, say("given.other", field=named(name), got=made[:12], hash=expected))
    return request


def _values(settings: dict[str, Any], plan: dict[str, Any], plain: set[str]) -> tuple[dict[str, Any], list[Need]]:
    """Fields of the request but for what is given, and what cannot be told of them."""
    values = {name: value for name, value in settings.items() if name in plain}
    needs: list[Need] = []
    for name in ("model", "picture_model"):
        if (model := settings.get(name)) is None:
            continue
        values[name] = str(model)
        if model not in zoo.PRESETS:
            needs.append(Need(name, (), say("need.weights", got=shown(model), field=named(name))))
    if "picture_model" in values:  # what the picture was for the video is no setting of the request
        values.pop("cond_type", None)
        if settings.get("picture_steps", settings.get("steps")) != settings.get("steps"):
            values["steps"] = None  # each model took its own
    if isinstance(plan.get("dtype"), str):
        values["dtype"] = plan["dtype"]
    if plan.get("text_dtype", "fp32") != "fp32":  # nothing was said where it is the usual one
        values["text_dtype"] = plan["text_dtype"]
    if loras := settings.get("loras"):
        needs.append(_need_loras(loras))
    return values, needs


def _need_loras(loras: Any) -> Need:
    entries = loras if isinstance(loras, list) else []
    if not entries or not all(isinstance(e, dict) and isinstance(e.get("strength"), int | float) for e in entries):
        raise ValueError(say("file.value", file=say("the.file"), got=shown(loras), field="LoRAs"))
    names = ", ".join(f"{str(e.get('name'))[:80]} (sha256 {str(e.get('sha256'))[:12]}…)" for e in entries)
    return Need("loras", tuple(str(e.get("sha256")) for e in entries), say("need.loras", loras=names))


def _given(record: dict[str, Any], settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the file says of pictures and clips that were given, by field; files of 0.1 name hashes alone."""
    told = record.get("given")
    if isinstance(told, dict):
        return {name: told[name] for name in GIVEN if isinstance(told.get(name), dict)}
    if "picture_model" in settings or "reference_sha256" not in settings:
        return {}
    kind = str(settings.get("cond_type"))
    first = "reference_video" if kind.startswith("v2v") else "last_image" if kind == "i2v_tail" else "reference_image"
    names = (first, "last_image") if "second_reference_sha256" in settings else (first,)
    hashes = (settings["reference_sha256"], settings.get("second_reference_sha256"))
    return {name: {"sha256": digest} for name, digest in zip(names, hashes, strict=False)}


def _need_given(name: str, told: dict[str, Any]) -> Need:
    digest = str(told.get("sha256"))
    return Need(name, (digest,), say("need.given", field=named(name), hash=digest[:12]))


def _checked_loras(loras: Any, recorded: Recorded) -> tuple[tuple[Path, float], ...]:
    """Files with the recorded strengths, after a look at their hashes."""
    entries = recorded.record["settings"].get("loras") or []
    files = [Path(entry[0] if isinstance(entry, tuple | list) else entry) for entry in loras]
    if len(files) != len(entries):
        raise RequestError("loras", say("loras.count", got=len(files), count=len(entries)))
    for file, entry in zip(files, entries, strict=True):
        try:
            digest = hashlib.sha256(open_lora(file).path.read_bytes()).hexdigest()
        except (OSError, ValueError) as error:
            raise RequestError("loras", str(error)) from None
        if digest != entry.get("sha256"):
            raise RequestError(
                "loras",
                say(
                    "lora.other",
                    file=file.name,
                    got=digest[:12],
                    hash=str(entry.get("sha256"))[:12],
                    lora=str(entry.get("name"))[:80],
                ),
            )
    return tuple((file, float(entry["strength"])) for file, entry in zip(files, entries, strict=True))


def _side(settings: dict[str, Any], name: str) -> int:
    side = settings.get(name)
    if not isinstance(side, int) or not 0 < side <= LARGEST_SIDE:
        raise ValueError(say("file.value", file=say("the.file"), got=shown(side), field=named(name)))
    return side

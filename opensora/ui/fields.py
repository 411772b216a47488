"""The inputs of the page: their names, what becomes of them, and how they follow the model that is chosen."""

from typing import Any

import gradio as gr

from opensora.models import zoo
from opensora.pipelines import lora_folder
from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import (
    DYNAMIC,
    MAX_GUIDANCE,
    MAX_LOOPS,
    MAX_STEPS,
    MAX_VIDEOS,
    GenerationRequest,
)
from opensora.sentences import named, say
from opensora.ui import choices
from opensora.ui.words import ENGLISH, Words

FIELDS = (
    "prompt",
    "reference_image",
    "last_image",
    "reference_video",
    "lead_video",
    "circle",
    "easy",
    "model",
    "resolution",
    "aspect_ratio",
    "length",
    "motion_score",
    "camera_motion",
    "aesthetic_score",
    "steps",
    "guidance",
    "image_guidance",
    "negative_prompt",
    "seed",
    "num_videos",
    "loops",
    "candidate",
    "picture_model",
    "dtype",
    "offload",
    "text_dtype",
    "loras",
    "lora_strengths",
)
"""Names of the inputs, in the order in which the page hands them over."""

FOLLOWING = (
    "resolution",
    "aspect_ratio",
    "steps",
    "guidance",
    "image_guidance",
    "length",
    "camera_motion",
    "aesthetic_score",
    "loops",
    "reference_image",
    "last_image",
    "reference_video",
    "lead_video",
    "circle",
    "easy",
    "candidate",
    "picture_model",
    "loras",
    "lora_strengths",
)
"""Inputs that follow the model."""

GIVEN = ("reference_image", "last_image", "reference_video", "lead_video")
"""Inputs that are pictures and clips."""
PLAIN = tuple(name for name in FIELDS if name not in (*GIVEN, "circle"))
"""Inputs that are text and numbers: what a preset holds."""

SLOTS = {
    "extend": "reference_video",
    "first_image": "reference_image",
    "last_image": "last_image",
    "lead": "lead_video",
}
"""The condition strip in time: what an offer calls a slot, and its input."""

REACH = {
    "steps": (100, MAX_STEPS),
    "guidance": (20, MAX_GUIDANCE),
    "image_guidance": (20, MAX_GUIDANCE),
    "num_videos": (4, MAX_VIDEOS),
    "loops": (8, MAX_LOOPS),
}
"""Where the sliders end, and where they do when a file or the job of a program has more than that."""
OFFLOAD = {"": None, "on": True, "off": False}
"""Choices of the page, as a request has them."""


def request_of(values: tuple[Any, ...] | list[Any]) -> GenerationRequest:
    """Values of the inputs -> request.

    Raises:
        RequestError: a value is no number where it has to be one, or two things are given that exclude each other.
    """
    fields = dict(zip(FIELDS, values, strict=True))
    video, cond_type = fields["reference_video"], None
    if fields["lead_video"] is not None:
        if video is not None:
            raise RequestError("reference_video", say("clip.both"))
        video, cond_type = fields["lead_video"], "v2v_tail_easy" if fields["easy"] else "v2v_tail"
    elif video is not None and fields["easy"]:
        cond_type = "v2v_head_easy"
    last = fields["last_image"]
    if fields["circle"]:
        if fields["reference_image"] is None or last is not None:
            raise RequestError("last_image", say("circle"))
        last = fields["reference_image"]
    return GenerationRequest(
        prompt=fields["prompt"] or "",
        reference_image=fields["reference_image"],
        last_image=last,
        reference_video=video,
        cond_type=cond_type,
        **{k: fields[k] for k in ("model", "resolution", "aspect_ratio", "length")},
        motion_score=_score(int, fields["motion_score"]),
        aesthetic_score=_score(float, fields["aesthetic_score"]),
        camera_motion=fields["camera_motion"] or None,
        picture_model=fields["picture_model"] or None,
        dtype=fields["dtype"] or None,
        offload=next((known for word, known in OFFLOAD.items() if fields["offload"] == word), fields["offload"]),
        text_dtype=fields["text_dtype"] or None,
        loras=lora_folder.chosen(
            lora_folder.with_strengths(names, fields["lora_strengths"] or "")
            if isinstance(names := fields["loras"] or [], list)
            else names
        ),
        steps=whole("steps", fields["steps"]),
        guidance=fields["guidance"],
        image_guidance=fields["image_guidance"],
        negative_prompt=fields["negative_prompt"] or "",
        seed=whole("seed", fields["seed"]),
        num_videos=whole("videos", fields["num_videos"]) or 1,
        loops=whole("loops", fields["loops"]) or 1,
        candidate=whole("candidate", fields["candidate"]),
    )


def values_of(request: GenerationRequest, seed: int | None = None) -> dict[str, Any]:
    """Plain values of the inputs for a validated request; pictures and clips as they are in it.

    Args:
        seed: that was really used.
    """
    values: dict[str, Any] = {name: getattr(request, name, None) for name in FIELDS}
    for name in ("motion_score", "aesthetic_score"):
        score = values[name]
        values[name] = "" if score is None else score if isinstance(score, str) else f"{score:g}"
    for name in ("camera_motion", "picture_model", "dtype", "text_dtype"):
        values[name] = values[name] or ""
    values["candidate"] = "" if request.candidate is None else str(request.candidate)
    values["offload"] = next(word for word, offload in OFFLOAD.items() if offload is request.offload)
    strengths = [strength for _, strength in request.loras]
    values["loras"] = [lora["name"] for lora in lora_folder.told_of(request.loras)]
    values["lora_strengths"] = ", ".join(f"{x:g}" for x in strengths) if set(strengths) - {1} else ""
    values["seed"] = "" if seed is None else str(seed)
    return values | _placed(request)


def _placed(request: GenerationRequest) -> dict[str, Any]:
    """What of a strip's inputs a validated request has: each picture and clip in the place where it is used."""
    kind, clip = request.cond_type or "", request.reference_video
    images = [image for image in (request.reference_image, request.last_image) if image is not None]
    placed = dict.fromkeys(GIVEN) | {"circle": False, "easy": kind.endswith("_easy")}
    if kind.startswith("v2v"):
        return placed | {"lead_video" if "tail" in kind else "reference_video": clip}
    if images and kind != "i2v_tail":
        placed["reference_image"] = images[0]
    if images and kind == "i2v_loop":
        return placed | ({"circle": True} if len(images) == 1 else {"last_image": images[1]})
    return placed | ({"last_image": images[-1]} if images and kind == "i2v_tail" else {})


def starting(model: str) -> dict[str, Any]:
    """Values of the inputs on a new page with a model."""
    return (
        {"prompt": "", "negative_prompt": "", "seed": "", "num_videos": 1, "motion_score": "", "model": model}
        | {name: update["value"] for name, update in of_model(ENGLISH, model).items() if "value" in update}
        | {"loops": 1, "camera_motion": "", "aesthetic_score": "", "picture_model": "", "circle": False}
        | {
            "easy": False,
            "candidate": "",
            "dtype": "",
            "offload": "",
            "text_dtype": "",
            "loras": [],
            "lora_strengths": "",
        }
    )


def filled(w: Words, values: dict[str, Any]) -> dict[str, Any]:
    """Updates of all inputs that bring them to these values; choices follow the model, and odd values are offered."""
    updates = of_model(w, values["model"])
    offered = {name: {"choices": told} for name, told in worded(w, values).items() if name != "model"}
    ends = {name: {"maximum": most if (values[name] or 0) > usual else usual} for name, (usual, most) in REACH.items()}
    known = [value for _, value in updates["loras"]["choices"]]
    updates["loras"]["choices"] += [(name, name) for name in values["loras"] or [] if name not in known]
    changes = {name: {**updates.get(name, {}), **offered.get(name, {}), **ends.get(name, {})} for name in FIELDS}
    return {
        name: gr.update(**{**change, "value": values[name]}) if change else values[name]
        for name, change in changes.items()
    }


def of_model(w: Words, name: str) -> dict[str, dict[str, Any]]:
    """What changes in each input of :data:`FOLLOWING`."""
    resolution = zoo.PRESETS[name].resolutions[0]
    own, offer = choices.defaults(name), choices.offer(name)
    updates: dict[str, dict[str, Any]] = {
        "resolution": {"choices": choices.resolutions(name), "value": resolution},
        "aspect_ratio": {"choices": choices.ratios(w, name, resolution), "value": "16:9"},
        "steps": {"value": own.steps},
        "guidance": {"value": own.guidance},
        "image_guidance": {"value": own.image_guidance},
        "length": {"choices": choices.lengths(w, offer.frames), "value": offer.length},
    }
    shown = (
        ("camera_motion", offer.camera, ""),
        ("aesthetic_score", offer.aesthetic, ""),
        ("loops", offer.loops, 1),
        ("reference_image", offer.first_image, None),
        ("last_image", offer.last_image, None),
        ("reference_video", offer.extend, None),
        ("lead_video", offer.lead, None),
        ("circle", offer.circle, False),
        ("easy", offer.easy, False),
        ("candidate", offer.candidates > 1, ""),
        ("picture_model", offer.picture, ""),
    )
    for field, is_offered, nothing in shown:
        updates[field] = {"visible": is_offered} | ({} if is_offered else {"value": nothing})
    fit, here = choices.loras(name), bool(lora_folder.listed())
    updates["loras"] = {"choices": fit, "value": [], "visible": here, "interactive": bool(fit)}
    updates["lora_strengths"] = {"value": "", "visible": here, "interactive": bool(fit)}
    assert tuple(updates) == FOLLOWING
    return updates


def worded(w: Words, values: dict[str, Any]) -> dict[str, list[choices.Choice]]:
    """Choices of the inputs whose labels are words of a language.

    Args:
        values: of the inputs; one that is not offered otherwise, such as a length that came from a file, is a choice.
    """
    model, resolution = values["model"], values["resolution"]
    offered = {
        "model": choices.models(w),
        "aspect_ratio": choices.ratios(w, model, resolution),
        "length": choices.lengths(w, choices.offer(model).frames),
        "motion_score": choices.motions(w),
        "camera_motion": choices.cameras(w),
        "aesthetic_score": choices.aesthetics(w),
        "candidate": choices.candidates(w, model),
        "picture_model": choices.pictures(w),
        "dtype": choices.dtypes(w),
        "offload": choices.offloads(w),
        "text_dtype": choices.text_dtypes(w),
    }
    for name, told in offered.items():
        if (value := values[name]) is not None and value not in [known for _, known in told]:
            told.append((str(value), value))
    return offered


def _score(kind: type[int] | type[float], value: Any) -> Any:
    """A score that was chosen; what is no number is left to the request, which says so."""
    if value is None or value == "" or value == DYNAMIC:
        return value or None
    try:
        return kind(value)
    except (ValueError, TypeError):
        return value


def whole(name: str, value: Any) -> int | None:
    """A whole number that was typed or chosen; ``None`` where nothing was.

    Raises:
        RequestError: it is no whole number.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = int(value) if isinstance(value, str) else value
        if number != int(number):
            raise ValueError
    except (ValueError, OverflowError, TypeError):
        told = {"field": named(name), "got": value[:40] if isinstance(value, str) else type(value).__name__}
        raise RequestError(name, say("number.seed" if name == "seed" else "number.typed", **told)) from None
    return int(number)

"""What programs may ask for: the fields of a request, as JSON and for people who read the interface.

Values are not checked here but by :class:`opensora.pipelines.request.GenerationRequest`, which is the one validator.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from opensora.jobs.record import Priority
from opensora.pipelines import lora_folder
from opensora.pipelines.bundle import MAX_CANDIDATES
from opensora.pipelines.errors import RequestError, shown
from opensora.pipelines.loras import MAX_LORAS, MAX_STRENGTH
from opensora.pipelines.request import (
    CAMERA_MOTIONS,
    DTYPES,
    MAX_PROMPT,
    MAX_SECONDS,
    MAX_SEED,
    MAX_VIDEOS,
    TEXT_DTYPES,
    GenerationRequest,
)

_TEXT: dict[str, Any] = {"type": ["string", "null"]}
_PRIORITIES = tuple(priority.word for priority in reversed(Priority))
_SCALE: dict[str, Any] = {"type": ["number", "null"], "minimum": 0, "maximum": 100}

FIELDS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "prompt": {
            "type": "string",
            "maxLength": MAX_PROMPT,
            "description": "What to show. `|0| … |1| …` gives every loop its own text.",
        },
        "model": {**_TEXT, "description": "Name of a model, such as `tiny`; null: the first that can do the rest."},
        "resolution": {**_TEXT, "description": "Such as `144p` or `256px`; null: the model's own."},
        "aspect_ratio": {**_TEXT, "description": "Width:height; null: 16:9, or the closest to the given image."},
        "length": {
            "type": ["string", "integer"],
            "default": "2s",
            "description": "Seconds (`2s`) or frames (`49f` or 49), from one frame, a picture, to 15 seconds.",
        },
        "motion_score": {
            "type": ["integer", "string", "null"],
            "description": "1 (very low) to 7 (extremely high), or `dynamic`: as a language model reads the text.",
        },
        "aesthetic_score": {"type": ["number", "null"], "minimum": 0, "maximum": 10, "description": "Beauty."},
        "camera_motion": {**_TEXT, "enum": [*CAMERA_MOTIONS, None], "description": "How the camera moves."},
        "steps": {"type": ["integer", "null"], "minimum": 1, "maximum": 1000, "description": "Denoising steps."},
        "guidance": {**_SCALE, "description": "How closely the text is followed; 1 is freely."},
        "image_guidance": {**_SCALE, "description": "How closely a given image is followed."},
        "negative_prompt": {"type": "string", "default": "", "maxLength": MAX_PROMPT, "description": "What to avoid."},
        "seed": {
            "type": ["integer", "null"],
            "minimum": 0,
            "maximum": MAX_SEED,
            "description": "The same seed makes the same clip; null: random, and told afterwards in `settings`.",
        },
        "num_videos": {
            "type": "integer",
            "default": 1,
            "minimum": 1,
            "maximum": MAX_VIDEOS,
            "description": "Clips to make, each with the next seed.",
        },
        "candidate": {
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": MAX_CANDIDATES,
            "description": "Which of the pictures that some models make first is kept; null: the one that fits best.",
        },
        "loops": {
            "type": "integer",
            "default": 1,
            "minimum": 1,
            "maximum": 2 * MAX_SECONDS,
            "description": "Parts of the clip; each continues the one before.",
        },
        "cond_type": {**_TEXT, "description": "Where a given image or clip goes, such as `i2v_head` or `i2v_loop`."},
        "picture_model": {**_TEXT, "description": "Weights that paint the prompt first, such as `flux.1-dev`."},
        "dtype": {**_TEXT, "enum": [*DTYPES, None], "description": "Precision; null: what suits the machine."},
        "text_dtype": {
            **_TEXT,
            "enum": [*TEXT_DTYPES, None],
            "description": "Precision of the T5 encoder, `nf4` in 4 bits; null: fp32.",
        },
        "loras": {
            "type": "array",
            "default": [],
            "maxItems": MAX_LORAS,
            "items": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"},
                    "strength": {"type": "number", "default": 1, "minimum": -MAX_STRENGTH, "maximum": MAX_STRENGTH},
                },
            },
            "description": "LoRAs of the server, which `GET /v1/loras` lists; they add up.",
        },
        "offload": {
            "type": ["boolean", "null"],
            "description": "Keep networks on a GPU only while they are needed; null: where its memory is short.",
        },
    }
)
"""Fields that are sent as JSON; as in GenerationRequest."""
UPLOADS: Mapping[str, str] = MappingProxyType(
    {
        "reference_image": "Picture that the clip starts from.",
        "last_image": "Picture that the clip ends with.",
        "reference_video": "Clip that is continued.",
    }
)
"""Files that are sent as parts of a multipart body."""
CLOSED: Mapping[str, str] = MappingProxyType(
    {
        **{name: f"Send the file itself as the part {name} of a multipart/form-data body." for name in UPLOADS},
        "device": "The server chooses the device.",
    }
)
"""Fields of GenerationRequest that no program can set by JSON, and why: none may name a file or an address."""


def parse(fields: Any, **files: Any) -> GenerationRequest:
    """JSON values -> request, not yet validated.

    Args:
        fields: what was sent.
        files: pictures and clips by field.

    Raises:
        RequestError: it is no object, or has fields that there are not.
    """
    if not isinstance(fields, dict):
        raise RequestError("body", f'Got {shown(fields)}; expected a JSON object such as {{"prompt": "a boat"}}.')
    for name in fields:
        if name in CLOSED:
            raise RequestError(name, f"{name} cannot be set here. {CLOSED[name]}")
        if name not in FIELDS:
            raise RequestError(name[:80], f"There is no field {shown(name)}; the fields are {', '.join(FIELDS)}.")
    if "prompt" not in fields:
        raise RequestError("prompt", "The prompt is missing; describe what the clip should show.")
    if "loras" in fields:
        fields = {**fields, "loras": lora_folder.chosen(fields["loras"])}
    return GenerationRequest(**fields, **files)


def priority(value: Any) -> Priority:
    """The priority that a program asked for.

    Raises:
        RequestError: there is none of that name.
    """
    if value not in _PRIORITIES:
        raise RequestError("priority", f"Got the priority {shown(value)}; choose one of {', '.join(_PRIORITIES)}.")
    return Priority.of(value)


def body_schema() -> dict[str, Any]:
    """JSON schema of the body that asks for a clip."""
    return {
        "type": "object",
        "required": ["prompt"],
        "additionalProperties": False,
        "properties": {
            **FIELDS,
            "priority": {
                "type": "string",
                "enum": list(_PRIORITIES),
                "default": Priority.NORMAL.word,
                "description": "Which of your own waiting videos is made first; others wait no longer by it.",
            },
            "webhook_url": {
                **_TEXT,
                "description": "Told when the job has ended; its host has to be one that the server was started with.",
            },
        },
        "example": {"prompt": "a red ball rolls to the right over a green meadow", "length": "17f", "seed": 7},
    }


def multipart_schema() -> dict[str, Any]:
    """Schema of the body that brings files along."""
    files = {name: {"type": "string", "format": "binary", "description": text} for name, text in UPLOADS.items()}
    request = {"type": "string", "description": "The JSON object of the other form of this call."}
    return {"type": "object", "required": ["request"], "properties": {"request": request, **files}}

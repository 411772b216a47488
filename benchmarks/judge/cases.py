"""The committed prompts and seeds."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.judge.score import Expected
from opensora.datasets.world.scene import SceneSpec, render

PROMPTS = Path(__file__).parents[1] / "adherence_prompts.json"
REFERENCE_SIZE = (144, 256)
"""Height and width of the reference images."""


@dataclass(frozen=True)
class Case:
    """One prompt with its seed and what it asks for."""

    name: str
    prompt: str
    seed: int
    expected: Expected
    tags: tuple[str, ...]
    scene: SceneSpec | None = None
    """Image-to-video: the scene whose first frame is the reference image."""
    render_seed: int = 0

    def reference(self) -> NDArray[np.uint8] | None:
        """The reference image, uint8 (144, 256, 3), or None for text-to-video."""
        if self.scene is None:
            return None
        return render(self.scene, *REFERENCE_SIZE, 49, seed=self.render_seed)[0]


def _case(values: dict[str, Any]) -> Case:
    reference = values.get("reference")
    return Case(
        name=values["id"],
        prompt=values["prompt"],
        seed=values["seed"],
        expected=Expected(
            tuple((s["kind"], s["colour"], s["motion"]) for s in values["subjects"]), values.get("camera")
        ),
        tags=tuple(values["tags"]),
        scene=SceneSpec.from_dict(reference["scene"]) if reference else None,
        render_seed=reference["render_seed"] if reference else 0,
    )


@dataclass(frozen=True)
class Suite:
    """All cases and the settings they are generated with."""

    settings: dict[str, Any]
    text_to_video: tuple[Case, ...]
    image_to_video: tuple[Case, ...]


def load_suite(path: Path = PROMPTS) -> Suite:
    """Read the prompts file."""
    values = json.loads(path.read_text(encoding="utf-8"))
    return Suite(
        settings=values["settings"],
        text_to_video=tuple(map(_case, values["text_to_video"])),
        image_to_video=tuple(map(_case, values["image_to_video"])),
    )

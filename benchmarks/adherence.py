"""How well the bundled checkpoint does what prompts say, judged from decoded pixels alone.

``python benchmarks/adherence.py`` generates every committed prompt once, with its committed seed and the page's default
settings, and judges the frames. ``--self-check`` judges rendered ground truth instead, against its own captions and
against shuffled ones. See README.md in this folder.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that the file also runs as a script

from benchmarks.judge import sheet
from benchmarks.judge.cases import Case, Suite, load_suite
from benchmarks.judge.degrade import degrade
from benchmarks.judge.score import Expected, Tally, compare, expected_of, psnr, shuffled, table, total
from benchmarks.judge.verdict import Verdict, look
from opensora.datasets.textures import random_image
from opensora.datasets.world.scene import random_scene, render

Generate = Callable[[Case, dict[str, Any]], tuple[NDArray[np.uint8], float]]
"""Makes the clip of a case under settings: frames uint8 (T, H, W, 3) and their rate."""
FLOORS = {"colour": 0.85, "shape": 0.70, "direction": 0.80, "first frame dB": 25.0, "autoencoder dB": 27.0}


@dataclass(frozen=True)
class Outcome:
    """One generated and judged clip."""

    case: Case
    clip: NDArray[np.uint8]
    verdict: Verdict
    tally: Tally
    seconds: float
    first_frame: float | None
    """PSNR in dB of the first frame against the reference image."""

    def right(self) -> bool:
        """Whether everything that was asked for is there."""
        return self.tally.right == self.tally.asked


def generate(case: Case, settings: dict[str, Any]) -> tuple[NDArray[np.uint8], float]:
    """Generate a case with the public interface."""
    from PIL import Image

    from opensora import generate_video

    reference = case.reference()
    image = {} if reference is None else {"reference_image": Image.fromarray(reference)}
    result = generate_video(case.prompt, seed=case.seed, **settings, **image)
    return result.videos[0], result.fps


def judge_case(case: Case, settings: dict[str, Any], make: Generate) -> Outcome:
    """Generate and judge one case: one sample, no retries."""
    start = time.monotonic()
    clip, fps = make(case, settings)
    seconds = time.monotonic() - start
    verdict, reference = look(clip, fps), case.reference()
    first = None if reference is None else psnr(clip[0], cut_to(reference, clip))
    return Outcome(case, clip, verdict, compare(case.expected, verdict), seconds, first)


def cut_to(reference: NDArray[np.uint8], clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A reference image as the pipeline cuts it to a clip's size: itself where it has that size."""
    from PIL import Image

    from opensora.datasets.image_io import cover

    return np.asarray(cover(Image.fromarray(reference), clip.shape[2], clip.shape[1]))


def summarise(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Shares of right answers: of all text-to-video cases, of each tag, and of image-to-video."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        is_image = outcome.case.scene is not None
        groups.setdefault("image to video" if is_image else "text to video", []).append(outcome)
        for tag in () if is_image else outcome.case.tags or ("plain",):
            groups.setdefault(tag, []).append(outcome)
    columns = {}
    for name, members in groups.items():
        tally = Tally()
        for outcome in members:
            tally.add(outcome.tally)
        columns[name] = tally.shares()
    return columns


def autoencoder_psnr(model: str, resolution: str = "144p", clips: int = 12) -> tuple[float, float]:
    """Mean PSNR in dB of decoded against original clips of the world (17 frames) and of random textures (images)."""
    import torch

    from opensora.pipelines.build import build_models

    vae = build_models("t2v", resolution, model=model).vae
    weight = next(vae.parameters())
    means = []
    for frames in (17, 1):
        scores = []
        for index in range(clips):
            rng = np.random.default_rng((7, frames, index))
            if frames == 1:
                clip = random_image(rng, 144, 256)[None]
            else:
                clip = render(random_scene(rng), 144, 256, frames, seed=index)
            pixels = torch.from_numpy(clip).permute(3, 0, 1, 2)[None].to(weight) / 127.5 - 1
            with torch.inference_mode():
                decoded = vae.decode(vae.encode(pixels), num_frames=frames)
            back = ((decoded[0].float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).cpu().numpy()
            scores.append(psnr(back, clip))
        means.append(float(np.mean(scores)))
    return means[0], means[1]


def self_check(clips: int, start: int = 0) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Shares of right answers on rendered clips of the default size: as they are, softened as a generator might leave
    them, and against the prompts of other clips. Scenes have one or two subjects and any camera, place and weather."""
    expected: list[Expected] = []
    sharp: list[Verdict] = []
    soft: list[Verdict] = []
    for index in range(start, start + clips):
        rng = np.random.default_rng((99, index))
        clean = ("good", "very good", "excellent")[int(rng.integers(3))]
        scene = random_scene(rng, count=1 + int(rng.random() < 0.15), aesthetic=clean)
        clip = render(scene, 144, 256, 49, seed=index)
        expected.append(expected_of(scene))
        sharp.append(look(clip))
        if index % 2:
            soft.append(look(degrade(clip, rng)))
    softened = total([e for k, e in enumerate(expected, start) if k % 2], soft)
    return total(expected, sharp).shares(), softened.shares(), shuffled(expected, sharp).shares()


def run(suite: Suite, settings: dict[str, Any], limit: int | None, make: Generate = generate) -> list[Outcome]:
    """Generate and judge the cases, saying how each went."""
    outcomes = []
    for case in (*suite.text_to_video[:limit], *suite.image_to_video[:limit]):
        outcome = judge_case(case, settings, make)
        outcomes.append(outcome)
        mark = "right" if outcome.right() else "wrong"
        print(f"{case.name} {mark} {outcome.seconds:5.1f} s  {sheet.describe(outcome.verdict)}  <- {case.prompt}")
    return outcomes


def _record(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.case.name,
        "prompt": outcome.case.prompt,
        "seed": outcome.case.seed,
        "tags": outcome.case.tags,
        "asked": asdict(outcome.case.expected),
        "seen": sheet.describe(outcome.verdict),
        "right": outcome.tally.right,
        "of": outcome.tally.asked,
        "first_frame_db": outcome.first_frame,
        "seconds": round(outcome.seconds, 2),
    }


def setting(text: str) -> tuple[str, Any]:
    """``NAME=VALUE`` of a command line; the value is JSON where it can be, else text."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Judge how well generated clips do what prompts say.")
    parser.add_argument("--self-check", action="store_true", help="judge rendered ground truth; generates nothing")
    parser.add_argument("--clips", type=int, default=200, help="rendered clips of --self-check")
    parser.add_argument("--model", default="tiny", help="preset to judge")
    parser.add_argument("--limit", type=int, help="only the first N text-to-video and N image-to-video prompts")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=VALUE",
                        help="another setting of generate_video; such figures are not the benchmark's")  # fmt: skip
    parser.add_argument("--json", type=Path, help="write settings, figures and every verdict here")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet (PNG) here")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark or the self-check, print the table and write what was asked for."""
    options = parse(arguments)
    if options.self_check:
        sharp, soft, mixed = self_check(options.clips)
        report: dict[str, Any] = {"self_check": {"rendered": sharp, "softened": soft, "shuffled": mixed}}
        print(table(report["self_check"]))
    else:
        suite = load_suite()
        settings = {"model": options.model, **suite.settings, **dict(options.set)}
        outcomes = run(suite, settings, options.limit)
        columns = summarise(outcomes)
        first = [o.first_frame for o in outcomes if o.first_frame is not None]
        world, textures = autoencoder_psnr(options.model, settings["resolution"])
        figures = {"first frame dB": float(np.mean(first)) if first else None}
        figures |= {"autoencoder dB": world, "autoencoder dB on textures": textures}
        report = {"settings": settings, "floors": FLOORS, "shares": columns, "figures": figures}
        report["cases"] = [_record(outcome) for outcome in outcomes]
        print(table(columns))
        print("\n".join(f"{name}: {value:.1f}" for name, value in figures.items() if value is not None))
        if options.sheet:
            sheet.write(options.sheet, [(o.clip, f"{o.case.name} {o.case.prompt}", sheet.describe(o.verdict), o.right())
                                        for o in outcomes])  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return report


if __name__ == "__main__":
    main()

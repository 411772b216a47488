"""Does what was asked for also hold at other shapes and lengths, over loops, by speed, at rest, in Korean, with frames
that are given?

``python benchmarks/breadth.py`` makes every case of ``breadth_prompts.json`` once, with its seed and the model's own
steps and guidance, and looks at the pixels with the judge of ``adherence.py``. Results are written after every clip,
and the same command goes on where it was. ``--self-check`` judges rendered ground truth instead. See README.md.
"""

import argparse
import hashlib
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that the file also runs as a script

from benchmarks.adherence import setting
from benchmarks.judge import sheet
from benchmarks.judge.score import MEASURES, Expected, Tally, compare, psnr
from benchmarks.judge.verdict import Verdict, look
from opensora.datasets.image_io import cover
from opensora.datasets.world.scene import SceneSpec, Subject, render
from opensora.datasets.world.spec import STRENGTHS
from opensora.pipelines.errors import RequestError

PROMPTS = Path(__file__).with_name("breadth_prompts.json")
FIRST_SEED = 5000
FLOORS = {"ratios": 0.85, "lengths": 0.85, "loops": 0.85, "still": 0.95, "camera": 0.9, "given": 0.9}
"""Least share of right answers in every row of a section, of each measure that it is judged by."""
UNBOUND = {"given": ("colour", "shape")}
"""Measures of a section that are told and have no floor."""
CORRELATION, POINTS, DECIBELS = 0.9, 0.05, 28.0
"""Least rank correlation of speed with the motion score; most that Korean may be below English; least likeness of the
first and last frames to given ones."""
GIVEN_FRAMES, GIVEN_LENGTH = 33, "65f"
"""Frames that a clip of 2.0 is given to go on from or to lead to, and its length then."""
MOVING = ("colour", "shape", "direction")
"""What a section is judged by where it does not say."""

Frames = NDArray[np.uint8]
Make = Callable[["Case"], tuple[Frames, float]]
"""Makes the clip of a case: frames uint8 (T, H, W, 3) and their rate."""


@dataclass(frozen=True)
class Case:
    """One clip to make."""

    name: str
    """Unambiguous."""
    section: str
    row: str
    """What it is counted under: a value of what the section varies."""
    prompt: str
    seed: int
    expected: Expected
    place: str
    """Background, for ground truth."""
    given: str = ""
    """What of the ground truth it is given: ``first``, ``last``, ``both``, ``extend`` or ``lead``, or nothing."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of ``generate_video``."""


def cases(sections: Sequence[str], limit: int | None = None) -> Iterator[Case]:
    """The committed cases of some sections, of each the first ``limit`` prompts."""
    told = json.loads(PROMPTS.read_text(encoding="utf-8"))
    for section in sections:
        values = told["sections"][section]
        name, varied = next(iter(values.get("vary", {"": [""]}).items()))
        for (number, asked), value in itertools.product(enumerate(values["prompts"][:limit]), varied):
            settings = {**told["settings"], **values.get("settings", {})}
            korean = value == "Korean"
            if name not in ("", "language", "given"):
                settings[name] = value
            if value in ("extend", "lead"):
                settings["length"] = GIVEN_LENGTH
            colour, kind, motion = asked["subject"].split()
            camera = value if name == "camera_motion" else None
            yield Case(
                name=f"{section} {number} {value}".strip(),
                section=section,
                row=f"{section} {value}".strip(),
                prompt=asked["korean" if korean else "prompt"],
                seed=FIRST_SEED + number,
                expected=Expected(((kind, colour, motion),), camera),
                place=asked["place"],
                given=value if name == "given" else "",
                settings=settings,
            )


def sections() -> dict[str, tuple[str, ...]]:
    """Names of the sections and what each is judged by."""
    told = json.loads(PROMPTS.read_text(encoding="utf-8"))["sections"]
    return {name: tuple(values.get("judged", MOVING)) for name, values in told.items()}


def generated(model: str, more: dict[str, Any]) -> Make:
    """Makes cases with a model and further settings."""
    from opensora import generate_video

    def make(case: Case) -> tuple[Frames, float]:
        settings = {**case.settings, **more, **given_of(case)}
        result = generate_video(case.prompt, seed=case.seed, model=model, **settings)
        return result.frames, result.fps

    return make


def rendered(case: Case) -> tuple[Frames, float]:
    """Ground truth of a case at 144p's area; loops go on as one long clip."""
    across, down = map(int, case.settings["aspect_ratio"].split(":"))
    height, width = (round(math.sqrt(144 * 256 * side) / 16) * 16 for side in (down / across, across / down))
    frames = int(case.settings["length"].removesuffix("f")) * case.settings.get("loops", 1)
    ((kind, colour, motion),) = case.expected.subjects
    score = case.settings.get("motion_score", 3)
    strength = STRENGTHS[(1, 2, 3, 5, 6, 7).index(score)]
    scene = SceneSpec((Subject(kind, colour, motion, strength),), case.expected.camera or "static", case.place)
    return render(scene, height, width, frames, seed=case.seed), 24.0


def given_of(case: Case) -> dict[str, Any]:
    """Settings of ``generate_video`` that give a clip its part of the ground truth."""
    if not case.given:
        return {}
    truth, _ = rendered(case)
    match case.given:
        case "extend":
            return {"reference_video": truth[:GIVEN_FRAMES]}
        case "lead":
            return {"reference_video": truth[-GIVEN_FRAMES:], "cond_type": "v2v_tail"}
    ends = {"first": ("reference_image",), "last": ("last_image",), "both": ("reference_image", "last_image")}
    frames = {"reference_image": truth[0], "last_image": truth[-1]}
    return {name: Image.fromarray(frames[name]) for name in ends[case.given]}


def decibels_of(case: Case, clip: Frames) -> float | None:
    """PSNR of the given first and last frames, the worse of both; ``None`` where no pictures are given."""
    height, width = clip.shape[1:3]
    found = [
        psnr(clip[0 if name == "reference_image" else -1], np.asarray(cover(image, width, height)))
        for name, image in given_of(case).items()
        if isinstance(image, Image.Image)
    ]
    return round(min(found), 2) if found else None


def part_of(case: Case, clip: Frames) -> Frames:
    """The frames that are judged: of loops the last third, of a clip that goes on or leads to another what is new."""
    match case.given:
        case "extend":
            return clip[GIVEN_FRAMES:]
        case "lead":
            return clip[:-GIVEN_FRAMES]
    return clip[-(len(clip) // 3) :] if case.settings.get("loops", 1) > 1 else clip


def judge(case: Case, make: Make, judged: Sequence[str]) -> dict[str, Any]:
    """Make a case and look at it, of a picture not at its motion."""
    start = time.monotonic()
    try:
        clip, fps = make(case)
    except RequestError as error:
        return {"row": case.row, "prompt": case.prompt, "seed": case.seed, "refused": str(error)}
    seconds = time.monotonic() - start
    verdict = look(part_of(case, clip), fps)
    tally = compare(case.expected, verdict)
    counted = [m for m in judged if m in tally.asked and (len(clip) > 1 or m in ("colour", "shape"))]
    return {
        "row": case.row,
        "prompt": case.prompt,
        "seed": case.seed,
        "settings": case.settings,
        "frames": len(clip),
        "seen": sheet.describe(verdict),
        "speed": speed_of(verdict),
        "decibels": decibels_of(case, clip),
        "right": {m: tally.right[m] for m in counted},
        "of": {m: tally.asked[m] for m in counted},
        "seconds": round(seconds, 2),
    }


def speed_of(verdict: Verdict) -> float | None:
    """Short sides per second of the largest subject; ``None`` where nothing is seen."""
    if not verdict.subjects:
        return None
    largest = max(verdict.subjects, key=lambda seen: float(np.nansum(seen.track.area)))
    return round(math.hypot(largest.motion.dx, largest.motion.dy), 4)


def rows_of(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Shares of right answers by row, with how many clips they are of."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(record["row"] for record in records):
        own = [record for record in records if record["row"] == name]
        tally = Tally()
        for record in own:
            if "refused" not in record:
                tally.add(Tally(dict(record["right"]), dict(record["of"])))
        refused = sum("refused" in record for record in own)
        found[name] = {"clips": len(own) - refused, "refused": refused, **tally.shares()}
        alike = [record["decibels"] for record in own if record.get("decibels") is not None]
        if alike:
            found[name]["decibels"] = float(np.mean(alike))
    return found


def figures_of(records: Sequence[dict[str, Any]], rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Rank correlation of speed with the motion score, and how far Korean is below English."""
    figures: dict[str, float] = {}
    timed = [r for r in records if r["row"].startswith("speed") and r.get("speed") is not None]
    scores = sorted({r["settings"]["motion_score"] for r in timed})
    if len(scores) > 1:
        means = [float(np.mean([r["speed"] for r in timed if r["settings"]["motion_score"] == s])) for s in scores]
        figures |= {f"speed at motion {score}": mean for score, mean in zip(scores, means, strict=True)}
        figures["rank correlation of mean speeds"] = rank_correlation(scores, means)
        pairs = [(r["settings"]["motion_score"], r["speed"]) for r in timed]
        figures["rank correlation of all clips"] = rank_correlation(*zip(*pairs, strict=True))
    english, korean = rows.get("languages English"), rows.get("languages Korean")
    if english and korean:
        figures |= {
            f"Korean below English, {m}": english[m] - korean[m] for m in MOVING if m in english and m in korean
        }
    return figures


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's: the correlation of ranks, equal values sharing the mean of theirs; 0 where all are equal."""
    ranks = [_ranks(np.asarray(values, float)) for values in (first, second)]
    if any(np.ptp(values) == 0 for values in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = ((ends - counts + 1 + ends) / 2)[place]
    return ranks


def short_of(rows: dict[str, dict[str, Any]], figures: dict[str, float]) -> list[str]:
    """What is below its floor, in words; empty where all holds."""
    below = []
    for name, shares in rows.items():
        section = name.split()[0]
        floor = FLOORS.get(section, 0.0)
        for measure in MEASURES:
            if measure not in UNBOUND.get(section, ()) and shares.get(measure, 1.0) < floor:
                below.append(f"{name}: {measure} {shares[measure]:.0%}, floor {floor:.0%}")
        if shares.get("decibels", DECIBELS) < DECIBELS:
            below.append(f"{name}: {shares['decibels']:.1f} dB to the given frames, floor {DECIBELS:g}")
    correlation = figures.get("rank correlation of mean speeds")
    if correlation is not None and correlation < CORRELATION:
        below.append(f"speed: rank correlation {correlation:.2f}, floor {CORRELATION}")
    for name, points in figures.items():
        if name.startswith("Korean") and points > POINTS + 1e-9:
            below.append(f"{name}: {100 * points:.0f} points, at most {100 * POINTS:.0f}")
    return below


class Results:
    """What was made so far, in a file.

    Raises:
        ValueError: the file is of other weights, prompts or settings.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path, self.header = path, header
        self.records: dict[str, dict[str, Any]] = {}
        if not path.exists():
            return
        told = json.loads(path.read_text(encoding="utf-8"))
        if told.get("header") != header:
            raise ValueError(
                f"{path} was made with {told.get('header')}, expected {header}; name another file by --json."
            )
        self.records = told["cases"]

    def add(self, name: str, record: dict[str, Any]) -> None:
        """Keep a case, and write all of them."""
        self.records[name] = record
        self.write({})

    def write(self, report: dict[str, Any]) -> None:
        """Replace the file at once."""
        text = json.dumps({"header": self.header, **report, "cases": self.records}, ensure_ascii=False, indent=1)
        partial = self.path.with_name(f".{self.path.name}.partial")
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, self.path)


def header_of(model: str, more: dict[str, Any], self_check: bool) -> dict[str, Any]:
    """What all cases of a file have in common."""
    prompts = hashlib.sha256(PROMPTS.read_bytes()).hexdigest()
    if self_check:
        return {"rendered": True, "prompts": prompts}
    from opensora.checkpoint import identity
    from opensora.pipelines.bundle import find_bundle

    weights = {role: identity.fingerprint(path) for role, path in find_bundle(model).weights().paths().items()}
    return {"model": model, "weights": weights, "prompts": prompts, "settings": more}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Judge clips of other shapes, lengths, loops, speeds and languages.")
    parser.add_argument("--only", nargs="+", choices=list(sections()), default=list(sections()), help="some sections")
    parser.add_argument("--limit", type=int, help="only the first N prompts of each section")
    parser.add_argument("--model", default="tiny", help="preset to judge")
    parser.add_argument("--self-check", action="store_true", help="judge rendered ground truth; generates nothing")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=VALUE",
                        help="another setting of generate_video; such figures are not the benchmark's")  # fmt: skip
    parser.add_argument(
        "--json", type=Path, default=Path("breadth.json"), help="results; an existing file is gone on with"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, make: Make | None = None) -> dict[str, Any]:
    """Make and judge what is missing, print the rows and write everything; returns the report."""
    options = parse(arguments)
    more, judged = dict(options.set), sections()
    results = Results(options.json, header_of(options.model, more, options.self_check))
    make = make or (rendered if options.self_check else generated(options.model, more))
    wanted = list(cases(options.only, options.limit))
    for number, case in enumerate(wanted, start=1):
        if case.name not in results.records:
            results.add(case.name, judge(case, make, judged[case.section]))
            record = results.records[case.name]
            print(f"[{number}/{len(wanted)}] {case.name}: {record.get('seen') or record['refused']}", flush=True)
    records = [results.records[case.name] for case in wanted]
    rows = rows_of(records)
    figures = figures_of(records, rows)
    report = {"rows": rows, "figures": figures, "short": short_of(rows, figures)}
    results.write(report)
    for name, shares in rows.items():
        told = "  ".join(f"{m} {shares[m]:6.1%}" for m in MEASURES if m in shares)
        print(
            f"{name:26}{shares['clips']:4} clips  {told}"
            + (f"  given {shares['decibels']:.1f} dB" if "decibels" in shares else "")
            + (f"  {shares['refused']} refused" if shares["refused"] else "")
        )
    print("\n".join(f"{name}: {value:.3f}" for name, value in figures.items()))
    print("\n".join(["Below the floor:", *report["short"]]) if report["short"] else "Nothing is below its floor.")
    return report


if __name__ == "__main__":
    main()

"""Write the card of the bundled checkpoint from what its files, recipes and the adherence benchmark say.

``python benchmarks/adherence.py --json benchmarks/results/tiny.json --sheet assets/tiny/sheet.jpg`` comes first, then
``python scripts/write_card.py``.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from opensora.checkpoint.safetensors_io import file_sha256, read_metadata
from opensora.config import load_config
from opensora.pipelines import cost
from opensora.pipelines.bundle import load_bundle
from opensora.pipelines.families.v1 import V13

ROOT = Path(__file__).parents[1]

TEXT = """# Tiny 144p

Three small networks of the Open-Sora 1.3 design, and one that picks among pictures, trained from scratch by this
repository on clips that its own renderer makes. They turn a sentence in English or Korean into a clip of 144p on any
machine; they know one little world and nothing else. Licence: Apache-2.0, as the code. No collected picture, clip or
text went into them.

{table}

## Data
`opensora/datasets/world`: seeded clips of balls, squares, triangles, stars, boats and birds in eight colours that move
left, right, up or down, stay still, bounce or spin, over plain backgrounds or places, in clear weather, rain or snow,
with a moving or a still camera; captions in English and Korean. A fifth of the combinations of colour, subject and
motion and some phrasings never occur in training. The autoencoder also saw random overlapping shapes.

## Training
{training}

## Quality
`python benchmarks/adherence.py` on {date}: {cases} committed prompts with their seeds, the page's default settings
({steps} steps, guidance {guidance:g}), one clip each, no retries, which begins as the one of {candidates} pictures that
the reranker prefers; the judge sees decoded pixels alone ([how](../../benchmarks/README.md)). Floors are those that the
benchmark was committed with.

{quality}

{tags}

![Every clip of the benchmark, failures included](sheet.jpg)

## Limits
{limits}
"""


def main(
    results: Annotated[Path, typer.Argument(help="What the adherence benchmark wrote.")] = ROOT
    / "benchmarks/results/tiny.json",
    notes: Annotated[Path, typer.Argument(help="Date, hardware and limits that no file can know.")] = ROOT
    / "benchmarks/results/tiny_notes.json",
    folder: Annotated[Path, typer.Argument(help="The bundle.")] = ROOT / "assets/tiny",
) -> None:
    """Write README.md into the bundle's folder."""
    report, said = json.loads(results.read_text("utf-8")), json.loads(notes.read_text("utf-8"))
    bundle = load_bundle(folder)
    text = TEXT.format(
        table=_files(folder),
        training=_training(folder, said),
        date=said["date"],
        cases=len(report["cases"]),
        steps=bundle.card.default_steps,
        guidance=bundle.card.default_guidance,
        candidates=bundle.card.picture_candidates,
        quality=_quality(report),
        tags=_tags(report),
        limits="\n".join(f"- {line}" for line in said["limits"]),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _files(folder: Path) -> str:
    stdit, vae = V13().configs(load_bundle(folder))
    sizes = {"stdit": cost.parameters(V13.stdit_type, stdit), "vae": cost.parameters(V13.vae_type, vae)}
    names = {
        "stdit": "denoiser (STDiT3)",
        "vae": "video autoencoder",
        "t5": "text encoder (T5)",
        "reranker": "picks among pictures",
    }
    rows = ["| network | parameters | file | sha256 |", "| --- | ---: | ---: | --- |"]
    for part, name in names.items():
        path = folder / part / "model.safetensors"
        size = path.stat().st_size
        count = sizes.get(part, size // 2)
        rows.append(f"| {name} | {count / 1e6:.2f} M | {size / 1e6:.1f} MB | `{file_sha256(path)}` |")
    return "\n".join(rows)


def _training(folder: Path, said: dict[str, Any]) -> str:
    rows = [
        "`make train-tiny` trains anew by the same recipes, and gives another network of this kind rather than these "
        "very numbers, because the run below was stopped and went on; [docs/train.md](../../docs/train.md) says how.",
        "",
        "| part | updates | seed | recipe |",
        "| --- | ---: | ---: | --- |",
    ]
    for part, kind in (("vae", "vae"), ("t5", "text"), ("stdit", "diffusion"), ("reranker", "reranker")):
        metadata = read_metadata(folder / part / "model.safetensors")
        recipe = f"configs/{kind}/train/tiny.py"
        seed = metadata.get("seed", str(load_config(ROOT / recipe, []).seed))
        rows.append(f"| {part} | {metadata['steps']} | {seed} | [{recipe}](../../{recipe}) |")
    return "\n".join([*rows, "", said["hardware"]])


def _quality(report: dict[str, Any]) -> str:
    shares, figures, floors = report["shares"], report["figures"], report["floors"]
    rows = ["| measure | text to video | image to video | floor |", "| --- | ---: | ---: | ---: |"]
    for measure in ("colour", "shape", "direction", "motion", "camera", "count"):
        cells = [_share(shares.get(group, {}).get(measure)) for group in ("text to video", "image to video")]
        rows.append(f"| {measure} | {cells[0]} | {cells[1]} | {_share(floors.get(measure))} |")
    rows.append(
        f"| first frame to the image | – | {figures['first frame dB']:.1f} dB | {floors['first frame dB']} dB |"
    )
    rows.append(
        f"| autoencoder on the world | {figures['autoencoder dB']:.1f} dB | – | {floors['autoencoder dB']} dB |"
    )
    rows.append(f"| autoencoder on random shapes | {figures['autoencoder dB on textures']:.1f} dB | – | – |")
    return "\n".join(rows)


def _tags(report: dict[str, Any]) -> str:
    groups = [name for name in report["shares"] if name not in ("text to video", "image to video")]
    rows = ["| prompts | colour | shape | direction | camera |", "| --- | ---: | ---: | ---: | ---: |"]
    for name in groups:
        cells = [_share(report["shares"][name].get(measure)) for measure in ("colour", "shape", "direction", "camera")]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


if __name__ == "__main__":
    typer.run(main)

"""What text encoders cost, how much their precision changes the features, and what the features tell apart.

``python benchmarks/text.py`` measures the bundled T5; ``--t5`` and ``--clip`` name other folders or hub ids, and
``--size xxl`` measures encoders of the published sizes with random weights, in bf16. Every variant runs in a process of
its own. See README.md in this folder.

Legend: B texts, L tokens, E width of the features.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that the file also runs as a script

from opensora.acceleration.shardformer.apply import obstacle
from opensora.models.text.conditioner import HFEmbedder
from opensora.models.text.precision import PRECISIONS, loading_settings

BUNDLED = "assets/tiny/t5"
PROMPTS = (
    ("A red ball rolls to the right.", "A ball, red, is rolling rightwards.", "The red ball moves to the right side."),
    ("Two blue boxes bounce in the rain.", "In the rain, two boxes of blue bounce.", "A pair of blue boxes, raining."),
    ("Waves break on a beach at sunset.", "At dusk the sea washes over the sand.", "Sunset, surf and a sandy shore."),
    ("A cat sleeps on a warm windowsill.", "A sleeping cat lies by the window.", "On the sill, a cat takes a nap."),
    ("The camera flies over snowy mountains.", "Aerial view of peaks in snow.", "Flying above white mountain tops."),
)
"""Groups of prompts; those of a group say the same."""


@dataclass(frozen=True)
class EmbeddingQuality:
    """What features tell apart, from -1 to 1 where they are cosines."""

    related: float | None
    """Mean cosine similarity of two prompts that say the same; ``None`` where no two do."""
    unrelated: float | None
    """Mean cosine similarity of two prompts that do not; ``None`` where all say the same."""
    nearest: float | None
    """Share of prompts whose most similar other prompt says the same, of those that have one."""
    padding: float
    """Relative change (Frobenius norm) of what the network reads of a prompt, through tokens of padding behind it."""


def analyze_embedding_quality(
    embedder: HFEmbedder, prompts: Sequence[str | Sequence[str]] = PROMPTS
) -> EmbeddingQuality:
    """Cosine similarities of related and unrelated prompts, and the effect of padding.

    T5 is compared by the mean of the features of a prompt's own tokens, CLIP by its pooled output; both as the networks
    of 2.0 read them, padded to ``max_length`` without a mask.

    Args:
        embedder: T5 or CLIP.
        prompts: groups of prompts that say the same; a prompt by itself is a group of one.

    Raises:
        ValueError: fewer than two prompts.
    """
    groups = [[group] if isinstance(group, str) else list(group) for group in prompts]
    members = [(number, text) for number, group in enumerate(groups) for text in group]
    if len(members) < 2:
        raise ValueError(f"got {len(members)} prompts; expected at least two to compare.")
    pairs = [_with_and_without_padding(embedder, text) for _, text in members]
    vectors = torch.stack([padded.reshape(-1, padded.shape[-1]).mean(0) for padded, _ in pairs])  # (B, E)
    similar = cosine_similarity(vectors[:, None], vectors[None], dim=-1)  # (B, B)
    number = torch.tensor([n for n, _ in members])
    same, other = number[:, None] == number, ~torch.eye(len(members), dtype=torch.bool)
    accompanied = (same & other).any(1)
    nearest = similar.masked_fill(~other, -torch.inf).argmax(1)
    difference = sum(float((padded - alone).norm() ** 2) for padded, alone in pairs)
    whole = sum(float(alone.norm() ** 2) for _, alone in pairs)
    return EmbeddingQuality(
        related=_mean(similar[same & other]),
        unrelated=_mean(similar[~same]),
        nearest=_mean((number[nearest] == number)[accompanied].float()),
        padding=(difference / whole) ** 0.5,
    )


def _with_and_without_padding(embedder: HFEmbedder, text: str) -> tuple[Tensor, Tensor]:
    """Features of a text's own tokens (L, E), or pooled (E), beside padding and alone, float32 on the CPU."""
    ids, mask = embedder.tokenize(text)
    own = int(mask.sum())
    padded, alone = embedder.encode(ids)[0], embedder.encode(ids[:, :own])[0]
    return (padded[:own] if padded.ndim == 2 else padded).float().cpu(), alone.float().cpu()


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if values.numel() else None


@dataclass(frozen=True)
class Variant:
    """An encoder as it is loaded."""

    source: str
    """Folder or hub id."""
    max_length: int
    """Tokens to which texts are padded."""
    precision: str
    """Of :data:`PRECISIONS`."""
    shardformer: str = "off"
    """``on`` or ``off``."""

    def __str__(self) -> str:
        policy = " shardformer" if self.shardformer == "on" else ""
        return f"{Path(self.source).name} {self.precision}{policy}"


@dataclass(frozen=True)
class Measurement:
    """One variant, measured."""

    name: str
    load_seconds: float
    """From files to a network on the device."""
    batch_seconds: float
    """Median over the repeats, after one that does not count."""
    weight_bytes: int
    """Of the network's tensors."""
    peak_bytes: int | None
    """Most memory while loading and encoding: of the GPU, or what the process grew by; ``None`` where unknown."""
    error: float
    """Relative Frobenius error of the features against the first variant of the same encoder."""
    quality: EmbeddingQuality


@dataclass(frozen=True)
class Conditions:
    """Under which everything is measured."""

    device: str
    batch: int
    repeats: int
    folder: str
    """Where features are passed from one variant to the next."""


def measure(variant: Variant, conditions: Conditions) -> Measurement:
    """Load and run one variant. For honest memory, call it in a process of its own.

    Raises:
        ValueError: the variant cannot be had here; a sentence says why.
    """
    if variant.shardformer == "on" and (reason := obstacle()):  # before the weights are read
        raise ValueError(f"shardformer cannot be used: {reason}")
    before, device = psutil.Process().memory_info().rss, torch.device(conditions.device)
    start = time.perf_counter()
    settings = loading_settings(variant.precision, device)
    embedder = HFEmbedder(variant.source, variant.max_length, shardformer=variant.shardformer, **settings).to(device)
    loaded = time.perf_counter() - start
    texts = [text for group in PROMPTS for text in group]
    batch = [texts[i % len(texts)] for i in range(conditions.batch)]
    seconds = [_time(lambda: embedder(batch)) for _ in range(conditions.repeats + 1)][1:]
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _grown(before)
    features = torch.stack([embedder(text)[0].float().cpu() for text in texts])
    return Measurement(
        name=str(variant),
        load_seconds=loaded,
        batch_seconds=statistics.median(seconds),
        weight_bytes=weight_bytes(embedder.hf_module),
        peak_bytes=peak,
        error=_error(features, Path(conditions.folder) / f"{Path(variant.source).name}.safetensors"),
        quality=analyze_embedding_quality(embedder),
    )


def weight_bytes(network: nn.Module) -> int:
    """Bytes of a network's tensors with their scales; a tensor under two names counts once."""
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in network.state_dict().values()}.values())


def _time(work: Callable[[], Tensor]) -> float:
    """Seconds until the numbers are there."""
    start = time.perf_counter()
    float(work().flatten()[0])  # reading a number waits for the device
    return time.perf_counter() - start


def _error(features: Tensor, reference: Path) -> float:
    """Against the features in a file, which the first variant writes."""
    if not reference.exists():
        save_file({"features": features}, reference)
    expected = load_file(reference)["features"]
    return float((features - expected).norm() / expected.norm())


def _grown(before: int) -> int | None:
    """Most bytes that this process held beyond those before; ``None`` on systems other than Linux."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024 - before


Run = Callable[[Variant, Conditions], Measurement]


def apart(variant: Variant, conditions: Conditions) -> Measurement:
    """:func:`measure` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, variant, conditions).result()


def run(variants: Sequence[Variant], conditions: Conditions, one: Run = apart) -> list[Measurement | str]:
    """Measurements in order; in the place of a variant that cannot be had here, why."""
    results: list[Measurement | str] = []
    for variant in variants:
        try:
            results.append(one(variant, conditions))
        except ValueError as error:
            results.append(f"{variant}: not measured. {error}")
        except BrokenProcessPool:
            results.append(f"{variant}: not measured. Its process was ended, probably because the memory was full.")
    return results


def table(results: Sequence[Measurement | str]) -> str:
    """The measurements as Markdown."""
    lines = [
        "| encoder | load s | batch s | weights MB | peak MB | error | related | unrelated | nearest | padding |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for m in results:
        if isinstance(m, Measurement):
            peak = "unknown" if m.peak_bytes is None else f"{m.peak_bytes / 1e6:.0f}"
            q = m.quality
            told = " | ".join("–" if v is None else f"{v:.3f}" for v in (q.related, q.unrelated, q.nearest, q.padding))
            lines.append(
                f"| {m.name} | {m.load_seconds:.1f} | {m.batch_seconds:.3f} | {m.weight_bytes / 1e6:.1f} | {peak} "
                f"| {m.error:.2%} | {told} |"
            )
    return "\n".join(lines + [f"\n{reason}" for reason in results if isinstance(reason, str)])


def main(arguments: Sequence[str] | None = None, one: Run = apart) -> int:
    """Measure what the arguments name and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--t5", default=BUNDLED, help="folder or hub id of a T5 encoder")
    parser.add_argument("--clip", help="folder or hub id of a CLIP text encoder")
    parser.add_argument(
        "--size", choices=("tiny", "large", "xxl"), help="measure both with random weights of this size"
    )
    parser.add_argument("--folder", type=Path, help="where --size keeps the weights (xxl: 10 GB); default: nowhere")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, help="default: all, of xxl bf16")
    parser.add_argument("--length", type=int, default=512, help="tokens to which T5 pads")
    parser.add_argument("--batch", type=int, default=2, help="texts at once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write the measurements here")
    given = parser.parse_args(arguments)
    precisions = given.precisions or (["bf16"] if given.size == "xxl" else list(PRECISIONS))
    with tempfile.TemporaryDirectory() as folder:
        t5, clip = given.t5, given.clip
        if given.size:
            from benchmarks.random_encoders import write_random

            t5, clip = write_random(given.folder or Path(folder), given.size)
        variants = [Variant(str(t5), given.length, p, s) for p in precisions for s in ("off", "on")]
        if clip:
            variants += [Variant(str(clip), 77, p) for p in precisions if p in ("fp32", "bf16")]
        results = run(variants, Conditions(given.device, given.batch, given.repeats, folder), one)
    print(table(results))
    if given.json:
        rows = [asdict(m) for m in results if isinstance(m, Measurement)]
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

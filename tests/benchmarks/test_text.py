"""The measurement of text encoders at a tiny size, and the quality of embeddings in closed form."""

import json
from pathlib import Path

import pytest
import torch
from models import text_encoders
from torch import Tensor

from benchmarks import random_encoders, text
from benchmarks.text import Conditions, EmbeddingQuality, Measurement, Variant, analyze_embedding_quality
from opensora.checkpoint.locate import assets_folder
from opensora.models.text.conditioner import HFEmbedder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return random_encoders.write_random(tmp_path_factory.mktemp("random"), "tiny")


class Letters:
    """Stands for an encoder: own tokens have the features of a text's first letter, padding changes them by 1/10."""

    def tokenize(self, line: str) -> tuple[Tensor, Tensor]:
        ids = torch.tensor([[ord(line[0])] * 2 + [0] * 2])
        return ids, (ids != 0).long()

    def encode(self, ids: Tensor) -> Tensor:
        features = torch.nn.functional.one_hot(ids % 32, 32).float()
        return features * (1.1 if (ids == 0).any() else 1.0)


def test_the_quality_of_an_encoder_that_is_known() -> None:
    quality = analyze_embedding_quality(Letters(), [["a cat", "a dog"], ["b", "c"], "d"])  # type: ignore[arg-type]
    assert quality.related == pytest.approx(0.5)  # of "a" with "a" 1, of "b" with "c" 0
    assert quality.unrelated == pytest.approx(0)
    assert quality.nearest == pytest.approx(0.5)
    assert quality.padding == pytest.approx(0.1)
    alone = analyze_embedding_quality(Letters(), ["a", "b"])  # type: ignore[arg-type]
    assert (alone.related, alone.nearest) == (None, None) and alone.unrelated == pytest.approx(0)
    together = analyze_embedding_quality(Letters(), [["a", "ab"]])  # type: ignore[arg-type]
    assert together.unrelated is None and together.related == pytest.approx(1)
    with pytest.raises(ValueError, match="got 1 prompts; expected at least two"):
        analyze_embedding_quality(Letters(), ["a"])  # type: ignore[arg-type]


def test_padding_changes_t5_and_not_the_pooled_output_of_clip(tmp_path: Path) -> None:
    t5 = HFEmbedder(assets_folder() / "tiny" / "t5", 64)
    quality = analyze_embedding_quality(t5, [["A red ball rolls.", "a red ball rolls"], "the camera pans left"])
    assert quality.padding > 0.01
    assert quality.related is not None and quality.unrelated is not None and quality.related > quality.unrelated
    clip = HFEmbedder(text_encoders.write_clip(tmp_path), 12)
    assert analyze_embedding_quality(clip, ["a red ball", "snow"]).padding == pytest.approx(0, abs=1e-5)


def test_variants_are_measured_and_compared_with_the_first(folders: tuple[Path, Path], tmp_path: Path) -> None:
    conditions = Conditions("cpu", batch=3, repeats=2, folder=str(tmp_path))
    full, half = (text.measure(Variant(str(folders[0]), 32, p), conditions) for p in ("fp32", "bf16"))
    assert (full.error, full.weight_bytes) == (0, 2 * half.weight_bytes) and 0 < half.error < 0.1
    assert min(full.load_seconds, full.batch_seconds) > 0 and full.name == "t5 fp32"
    parameters = HFEmbedder(folders[0], 32).hf_module.parameters()
    assert full.weight_bytes == sum(parameter.nbytes for parameter in parameters)
    pooled = text.measure(Variant(str(folders[1]), 20, "fp32"), conditions)
    assert pooled.error == 0 and pooled.quality.padding < 1e-5


def quick(variant: Variant, conditions: Conditions) -> Measurement:
    """A measurement that takes no time, or what is said where the variant cannot be had."""
    if variant.shardformer == "on":
        raise ValueError("no colossalai here.")
    if variant.precision == "nf4":
        raise text.BrokenProcessPool
    return Measurement(str(variant), 1.0, 0.5, 10**6, None, 0.25, EmbeddingQuality(0.5, None, 1.0, 0.1))


def test_the_table_has_a_row_for_each_and_says_what_is_missing(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--size", "tiny", "--folder", str(folders[0].parent), "--json", str(tmp_path / "out.json")]
    assert text.main(arguments, quick) == 0
    said = capsys.readouterr().out
    assert "| t5 int8 | 1.0 | 0.500 | 1.0 | unknown | 25.00% | 0.500 | – | 1.000 | 0.100 |" in said
    assert said.count("\n| clip ") == 2
    assert "t5 fp32 shardformer: not measured. no colossalai here." in said
    assert "t5 nf4: not measured. Its process was ended" in said
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["name"] for row in rows] == ["t5 fp32", "t5 bf16", "t5 int8", "clip fp32", "clip bf16"]
    assert rows[0]["quality"]["padding"] == 0.1


def test_a_variant_runs_in_a_process_of_its_own(folders: tuple[Path, Path], tmp_path: Path) -> None:
    conditions = Conditions("cpu", batch=1, repeats=1, folder=str(tmp_path))
    (measured,) = text.run([Variant(str(folders[1]), 20, "bf16")], conditions)
    assert isinstance(measured, Measurement) and (measured.peak_bytes is None or measured.peak_bytes > 0)


def test_random_weights_are_written_for_the_measurement_and_kept_where_a_folder_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[tuple[Path, str]] = []
    monkeypatch.setattr(random_encoders, "write_random", lambda *asked: written.append(asked) or ("t5", "clip"))
    assert text.main(["--size", "xxl"], quick) == 0
    ((folder, size),) = written
    assert size == "xxl" and not folder.exists()
    said = capsys.readouterr().out
    assert "| t5 bf16 |" in said and "| clip bf16 |" in said and "fp32" not in said


def test_the_published_sizes_are_those_of_the_published_networks() -> None:
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    with torch.device("meta"):
        t5 = T5EncoderModel(T5Config(**random_encoders.T5_SIZES["xxl"], feed_forward_proj="gated-gelu"))
        clip = CLIPTextModel(CLIPTextConfig(**random_encoders.CLIP_SIZES["xxl"], vocab_size=49408))
    assert sum(p.numel() for p in t5.parameters()) == 4_762_310_656
    assert sum(p.numel() for p in clip.parameters()) == 123_060_480

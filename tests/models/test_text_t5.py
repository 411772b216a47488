"""T5 against the published numbers, HFEmbedder's interface on real small encoders, and the pipeline's text encoder."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import golden_io
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from opensora.checkpoint.safetensors_io import CheckpointError
from opensora.models.text.conditioner import HFEmbedder
from opensora.models.text.t5 import T5Encoder
from opensora.models.text.tokenizer import train_tokenizer

LINES = ["a red ball rolls", "a blue boat on the sea", "빨간 공이 굴러간다", "snow over mountains, a bird"] * 5


def t5_config(**values: object) -> T5Config:
    return T5Config(
        **{
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 32,
            "num_layers": 1,
            "num_heads": 2,
            "feed_forward_proj": "gated-gelu",
            "is_encoder_decoder": False,
            "use_cache": False,
            "tie_word_embeddings": False,
            **values,
        }
    )


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5")
    train_tokenizer(LINES, folder, vocab_size=300)
    size = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    torch.manual_seed(0)
    T5EncoderModel(t5_config(vocab_size=size)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["t5_a", "t5_b_long"])
def test_the_encoder_gives_the_published_numbers(name: str) -> None:
    fixture = golden_io.load(name)
    model = T5EncoderModel(T5Config(**fixture.meta["config"])).eval()
    golden_io.fill(model, fixture.meta["salt"], keep=["encoder.embed_tokens.weight"])
    model.encoder.embed_tokens.weight = model.shared.weight
    tensors = fixture.tensors
    with torch.no_grad():
        out = model(input_ids=tensors["in.input_ids"], attention_mask=tensors["in.attention_mask"]).last_hidden_state
    golden_io.assert_close(out, tensors["out"], name)


def test_the_full_size_encoder_has_the_published_tensors() -> None:
    config = t5_config(vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64)
    with torch.device("meta"):
        model = T5EncoderModel(config)
    expected = golden_io.manifest("t5_v1_1_xxl_encoder")
    actual = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert {k: v for k, v in actual.items() if k in expected} == {k: v for k, v in expected.items() if k in actual}
    assert set(expected) - set(actual) <= {"encoder.embed_tokens.weight"}
    assert set(actual) - set(expected) <= {"encoder.embed_tokens.weight"}


@pytest.mark.parametrize("form", [{"hf_module": "T5EncoderModel"}, {"shardformer": False}])
def test_both_forms_of_the_constructor_give_the_same_frozen_encoder(t5: Path, form: dict[str, object]) -> None:
    embedder = HFEmbedder(t5, 12, **form)
    assert (embedder.kind, embedder.output_key) == ("T5EncoderModel", "last_hidden_state")
    assert not embedder.hf_module.training
    assert not any(p.requires_grad for p in embedder.parameters())
    assert embedder("a red ball").shape == (1, 12, 16)
    assert embedder(["a red ball", "snow"]).shape == (2, 12, 16)


@pytest.mark.parametrize(("added", "align", "length"), [(0, 1, 12), (0, 8, 16), (3, 5, 12), (4, 5, 16)])
def test_ids_are_padded_to_the_alignment(t5: Path, added: int, align: int, length: int) -> None:
    assert HFEmbedder(t5, 12)("a red ball", added_tokens=added, seq_align=align).shape[1] == length


def test_clip_is_recognised_by_its_configuration_and_pooled(t5: Path, tmp_path: Path) -> None:
    for file in t5.glob("*"):
        if "token" in file.name or file.name == "spiece.model":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    CLIPTextModel(
        CLIPTextConfig(vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(tmp_path)
    embedder = HFEmbedder(tmp_path, 10)
    assert (embedder.kind, embedder.output_key) == ("CLIPTextModel", "pooler_output")
    assert embedder("a red ball").shape == (1, 16)


def test_what_cannot_be_served_is_refused(t5: Path) -> None:
    with pytest.raises(ValueError, match="overflows in float16"):
        HFEmbedder(t5, dtype=torch.float16)
    with pytest.raises(ValueError, match="colossalai"):
        HFEmbedder(t5, shardformer=True)
    with pytest.raises(ValueError, match="choose one of T5EncoderModel, CLIPTextModel"):
        HFEmbedder(t5, hf_module="BertModel")


def refused(t5: Path, folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> str:
    """What is said of a copy of the encoder whose tensors were changed."""
    shutil.copytree(t5, folder)
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        T5Encoder.from_pretrained(folder, max_length=8)
    return str(caught.value)


def test_an_encoder_that_is_not_whole_is_refused_and_never_filled_up(t5: Path, tmp_path: Path) -> None:
    key = "encoder.block.0.layer.0.SelfAttention.q.weight"
    without = refused(t5, tmp_path / "a", lambda state: {name: x for name, x in state.items() if name != key})
    assert without == f"a does not fit this text encoder:\n  1 missing: {key}"
    assert refused(t5, tmp_path / "b", lambda state: state | {"foo.bar": torch.zeros(2)}).endswith(
        "unexpected: foo.bar"
    )
    assert refused(t5, tmp_path / "c", lambda state: state | {key: torch.zeros(3, 3)}).endswith(f"another shape: {key}")
    whole = refused(t5, tmp_path / "q", lambda state: state | {key: state[key].to(torch.int8)})
    assert whole.startswith(f"1 tensors are quantised (I8), which this network cannot read: {key}.")
    shutil.copytree(t5, tmp_path / "deep")
    t5_config(vocab_size=300, num_layers=2).save_pretrained(tmp_path / "deep")
    with pytest.raises(CheckpointError, match=r"missing: encoder\.block\.1\."):
        HFEmbedder(tmp_path / "deep", 8)


def test_the_decoder_of_a_whole_t5_is_left_out(t5: Path, tmp_path: Path) -> None:
    shutil.copytree(t5, tmp_path / "whole")
    file = tmp_path / "whole" / "model.safetensors"
    more = {"decoder.final_layer_norm.weight": torch.ones(16), "lm_head.weight": torch.ones(300, 16)}
    save_file(load_file(file) | more, file, {"format": "pt"})
    expected = T5Encoder.from_pretrained(t5, max_length=8).encode(["snow"])["y"]
    assert torch.equal(T5Encoder.from_pretrained(tmp_path / "whole", max_length=8).encode(["snow"])["y"], expected)


@pytest.mark.parametrize("text", ["", "[]", "{}", "5"])
def test_a_damaged_tokenizer_is_a_sentence(t5: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(t5, tmp_path / "t5")
    (tmp_path / "t5" / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match="The tokenizer of the text encoder in t5 cannot be read"):
        HFEmbedder(tmp_path / "t5", 8)


def test_truncation_is_reported(t5: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        HFEmbedder(t5, 6)("a red ball rolls over the snow and the sea and the mountains")
    assert "is cut to 6" in caplog.text


class CaptionEmbedder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("y_embedding", torch.arange(8.0 * 16).view(8, 16))


def test_prompts_are_encoded_once_and_masked(t5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = T5Encoder.from_pretrained(t5, max_length=8)
    asked: list[list[str]] = []
    embed = encoder.t5.embed
    monkeypatch.setattr(encoder.t5, "embed", lambda texts: asked.append(texts) or embed(texts))
    first = encoder.encode(["a red ball", "snow", "a red ball"])
    again = encoder.encode(["snow"])
    assert asked == [["a red ball", "snow"]]
    assert (first["y"].shape, first["mask"].shape) == ((3, 1, 8, 16), (3, 8))
    assert torch.equal(first["y"][0], first["y"][2]) and torch.equal(first["y"][1], again["y"][0])
    assert int(first["mask"][1].sum()) < int(first["mask"][0].sum()) <= 8


def test_the_null_text_belongs_to_the_denoiser(t5: Path) -> None:
    encoder = T5Encoder.from_pretrained(t5, max_length=8)
    with pytest.raises(ValueError, match="belongs to the denoiser"):
        encoder.null(1)
    encoder.y_embedder = CaptionEmbedder()
    assert encoder.null(3).shape == (3, 1, 8, 16)


def test_the_tokenizer_is_deterministic_and_uses_t5_ids(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_tokenizer(LINES, tmp_path / name, vocab_size=300)
    for file in ("spiece.model", "tokenizer.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    vocabulary = json.loads((tmp_path / "a" / "tokenizer.json").read_text())["model"]["vocab"]
    assert [piece for piece, _ in vocabulary[:3]] == ["<pad>", "</s>", "<unk>"]

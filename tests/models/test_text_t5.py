"""T5 against the published numbers, and the text encoder of the 1.x pipelines."""

import json
from pathlib import Path

import golden_io
import pytest
import torch
from models.text_encoders import LINES, write_t5
from torch import nn
from transformers import AutoTokenizer, T5Config, T5EncoderModel

from opensora.models.text.t5 import T5Encoder
from opensora.models.text.tokenizer import train_clip_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_t5(tmp_path_factory.mktemp("t5"))


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
    assert asked == [["a red ball"], ["snow"]]
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


def test_the_clip_tokenizer_is_deterministic_and_ends_with_the_marks(tmp_path: Path) -> None:
    sizes = [train_clip_tokenizer(LINES, tmp_path / name, vocab_size=540) for name in ("a", "b")]
    for file in ("vocab.json", "merges.txt"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    vocabulary = json.loads((tmp_path / "a" / "vocab.json").read_text())
    assert sizes == [540, 540] and sorted(vocabulary.values()) == list(range(540))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    ids = tokenizer("A red  BALL 빨간")["input_ids"]
    assert (ids[0], ids[-1]) == (vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]) == (538, 539)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a red ball 빨간"

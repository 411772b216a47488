"""``HFEmbedder`` against the published numbers, and its interface on small real T5 and CLIP encoders."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import golden_io
import hub_server
import pytest
import torch
from models import text_encoders
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    T5Config,
    T5EncoderModel,
)

from opensora.checkpoint.safetensors_io import CheckpointError
from opensora.models.text.conditioner import HFEmbedder

FIXTURE = golden_io.load("v2/text/hf_embedder")
ALIGNMENTS = [(0, 1), (5, 4), (6, 4), (7, 8), (10, 3), (2, 4)]
TOLERANCE = 1e-5
"""Of the largest value; float32 of these networks differs from float64 by 1e-6."""


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_encoders.write_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_encoders.write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def published_t5(tmp_path_factory: pytest.TempPathFactory) -> HFEmbedder:
    """The T5 of the reference numbers, loaded from files."""
    folder = text_encoders.write_t5(tmp_path_factory.mktemp("published_t5"))
    network = T5EncoderModel(T5Config(**FIXTURE.meta["t5_config"]))
    golden_io.fill(network, FIXTURE.meta["salts"]["t5"])
    assert golden_io.checksum(network) == FIXTURE.meta["rule"]["t5"]["weights_crc32"]
    network.save_pretrained(folder)
    return HFEmbedder(folder, FIXTURE.meta["max_length"]["t5"])


def published_clip_state() -> dict[str, Tensor]:
    """Weights of the CLIP of the reference numbers, under the published names."""
    salt = FIXTURE.meta["salts"]["clip"].split()[0]
    network = CLIPTextModel(CLIPTextConfig(**FIXTURE.meta["clip_config"]))
    state = {f"text_model.{name}": value for name, value in network.named_parameters()}
    return {name: golden_io.values(salt, name, value.shape) for name, value in state.items()}


def answer(embedder: HFEmbedder, ids: Tensor, monkeypatch: pytest.MonkeyPatch, **asked: int) -> Tensor:
    """Features of given ids, through the whole of ``forward``."""
    monkeypatch.setattr(embedder, "tokenize", lambda text: (ids, torch.ones_like(ids)))
    return embedder(["as given"] * len(ids), **asked)


def test_t5_gives_the_published_numbers(published_t5: HFEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = FIXTURE.tensors["t5.in.input_ids"]
    out = answer(published_t5, ids, monkeypatch)
    golden_io.assert_within(out, FIXTURE.tensors["t5.out.last_hidden_state"], "v2 T5", TOLERANCE)
    through_policy = FIXTURE.tensors["t5_shardformer.out.last_hidden_state"]
    golden_io.assert_within(out, through_policy, "v2 T5 shardformer", TOLERANCE)
    masked = published_t5.encode(ids, FIXTURE.tensors["t5.in.attention_mask_not_used_upstream"])
    expected = FIXTURE.tensors["t5_with_mask_for_comparison.out.last_hidden_state"]
    golden_io.assert_within(masked, expected, "v2 T5 with mask", TOLERANCE)


@pytest.mark.parametrize(("added", "align"), ALIGNMENTS)
def test_aligned_ids_give_the_published_numbers(
    published_t5: HFEmbedder, monkeypatch: pytest.MonkeyPatch, added: int, align: int
) -> None:
    name = f"added{added}_align{align}"
    expected = FIXTURE.tensors[f"t5_seqalign_{name}.out"]
    ids = FIXTURE.tensors["t5.in.input_ids"][: len(expected)]
    out = answer(published_t5, ids, monkeypatch, added_tokens=added, seq_align=align)
    assert list(out.shape) == FIXTURE.meta["seq_align_shapes"][name]
    golden_io.assert_within(out, expected, f"v2 T5 {name}", TOLERANCE)


@pytest.mark.parametrize("form", ["prefixed", "bare", "whole"])
def test_clip_gives_the_published_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """From a file of the text encoder alone, with or without the prefix, and from one with the vision half."""
    text_encoders.write_clip(tmp_path)
    config, state = FIXTURE.meta["clip_config"], published_clip_state()
    text = CLIPTextConfig(**config)
    if form == "whole":
        vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        both = CLIPConfig(
            text_config=text.to_dict(), vision_config=CLIPVisionConfig(image_size=8, patch_size=4, **vision).to_dict()
        )
        both.save_pretrained(tmp_path)
        rest = {k: v for k, v in CLIPModel(both).state_dict().items() if not k.startswith("text_model.")}
        positions = {f"{half}_model.embeddings.position_ids": torch.arange(4)[None] for half in ("text", "vision")}
        state = state | rest | positions
    else:
        text.save_pretrained(tmp_path)
    if form == "bare":
        state = {name.removeprefix("text_model."): value for name, value in state.items()}
    text_encoders.write_weights(tmp_path, state)
    embedder = HFEmbedder(tmp_path, FIXTURE.meta["max_length"]["clip"])
    assert (embedder.kind, embedder.output_key) == ("CLIPTextModel", "pooler_output")
    ids = FIXTURE.tensors["clip.in.input_ids"]
    pooled = answer(embedder, ids, monkeypatch)
    golden_io.assert_within(pooled, FIXTURE.tensors["clip.out.pooler_output"], "v2 CLIP", TOLERANCE)
    with torch.no_grad():
        states = embedder.hf_module(input_ids=ids).last_hidden_state
    golden_io.assert_within(states, FIXTURE.tensors["clip.out.last_hidden_state"], "v2 CLIP states", TOLERANCE)


def test_the_full_size_clip_has_the_published_tensors() -> None:
    with torch.device("meta"):
        network = CLIPTextModel(text_encoders.clip_config(**golden_clip_config()))
    expected = golden_io.manifest("v2/clip_vit_large_patch14_text")
    assert {f"text_model.{name}": tuple(value.shape) for name, value in network.named_parameters()} == expected
    assert sum(value.numel() for value in network.parameters()) == 123_060_480


def golden_clip_config() -> dict[str, object]:
    config: dict[str, object] = golden_io.load_json("v2/manifests/clip_vit_large_patch14_text")["header"]["config"]
    return config


def test_the_full_size_t5_has_the_published_tensors() -> None:
    sizes = {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
    with torch.device("meta"):
        network = T5EncoderModel(text_encoders.t5_config(**sizes))
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    shapes["encoder.embed_tokens.weight"] = shapes["shared.weight"]  # one tensor under two names
    assert shapes == golden_io.manifest("t5_v1_1_xxl_encoder")
    assert sum(value.numel() for value in network.parameters()) == 4_762_310_656


FORMS: list[tuple[tuple[object, ...], dict[str, object]]] = [
    ((12, "T5EncoderModel"), {}),
    ((), {"max_length": 12, "hf_module": "T5EncoderModel"}),
    ((12, False), {"torch_dtype": torch.float32}),
    ((12,), {"shardformer": False, "dtype": "float32"}),
]


@pytest.mark.parametrize(("arguments", "settings"), FORMS)
def test_both_forms_of_the_constructor_give_the_same_frozen_encoder(
    t5: Path, arguments: tuple[object, ...], settings: dict[str, object]
) -> None:
    embedder = HFEmbedder(t5, *arguments, **settings)
    assert (embedder.kind, embedder.output_key) == ("T5EncoderModel", "last_hidden_state")
    assert not embedder.hf_module.training
    assert not any(p.requires_grad for p in embedder.parameters())
    one, two = embedder("a red ball"), embedder(["a red ball", "snow"])
    assert (one.shape, two.shape) == ((1, 12, 16), (2, 12, 16)) and not one.requires_grad
    torch.testing.assert_close(one[0], two[0])


def test_clip_pools_a_text_and_ignores_its_padding(clip: Path) -> None:
    texts = ["a red ball", "", "snow over mountains"]
    whole, short = HFEmbedder(clip, 12), HFEmbedder(clip, 8, hf_module="CLIPTextModel")
    assert whole(texts).shape == (3, 16) and whole("snow").shape == (1, 16)
    torch.testing.assert_close(whole(texts), short(texts))
    assert HFEmbedder(clip, 12, dtype=torch.bfloat16)("snow").dtype == torch.bfloat16


def test_an_encoder_that_does_not_say_what_it_is_goes_by_its_name(clip: Path, t5: Path, tmp_path: Path) -> None:
    """As published: "openai" in the name means CLIP. What the configuration says counts for more."""

    def unnamed(source: Path, name: str) -> Path:
        folder = shutil.copytree(source, tmp_path / name)
        config = json.loads((folder / "config.json").read_text())
        del config["model_type"]
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    assert HFEmbedder(unnamed(clip, "openai-clip"), 12).kind == "CLIPTextModel"
    assert HFEmbedder(unnamed(t5, "t5"), 12).kind == "T5EncoderModel"
    assert HFEmbedder(shutil.copytree(t5, tmp_path / "openai-t5"), 12).kind == "T5EncoderModel"
    (tmp_path / "t5" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="the checkpoint t5 is a 'bert'; expected T5 or CLIP"):
        HFEmbedder(tmp_path / "t5", 12)


def test_a_hub_id_is_asked_what_it_is_and_gives_what_its_kind_needs(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in clip.iterdir()} | {"flax_model.msgpack": b"x" * 2000}
    with hub_server.serve() as hub:
        hub.add("openai/tiny-clip", files)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        embedder = HFEmbedder("openai/tiny-clip", 12)
        assert not any("flax" in path for path in hub.transfers())
    assert torch.equal(embedder("snow"), HFEmbedder(clip, 12)("snow"))


@pytest.mark.parametrize(("added", "align", "length"), [(0, 1, 12), (0, 8, 16), (3, 5, 12), (4, 5, 16)])
def test_ids_are_padded_to_the_alignment(t5: Path, added: int, align: int, length: int) -> None:
    assert HFEmbedder(t5, 12)("a red ball", added_tokens=added, seq_align=align).shape[1] == length


def test_what_cannot_be_served_is_refused(t5: Path, clip: Path) -> None:
    for dtype in (torch.float16, "float16"):
        with pytest.raises(ValueError, match="overflows in float16"):
            HFEmbedder(t5, dtype=dtype)
    with pytest.raises(ValueError, match="got the dtype 'auto'; expected one of float32"):
        HFEmbedder(t5, torch_dtype="auto")
    with pytest.raises(ValueError, match="choose one of T5EncoderModel, CLIPTextModel"):
        HFEmbedder(t5, hf_module="BertModel")
    with pytest.raises(ValueError, match="length of 512 tokens for CLIPTextModel; expected 1 to 12"):
        HFEmbedder(clip)
    with pytest.raises(ValueError, match="length of 0 tokens for T5EncoderModel; expected 1 or more"):
        HFEmbedder(t5, 0)
    with pytest.raises(ValueError, match="length of 16 tokens for CLIPTextModel"):
        HFEmbedder(clip, 12)("snow", seq_align=8)
    with pytest.raises(ValueError, match="got seq_align=0 and added_tokens=0"):
        HFEmbedder(t5, 12)("snow", seq_align=0)


def refused(source: Path, folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> str:
    """What is said of a copy of the encoder whose tensors were changed."""
    shutil.copytree(source, folder)
    text_encoders.write_weights(folder, change(load_file(folder / "model.safetensors")))
    with pytest.raises(CheckpointError) as caught:
        HFEmbedder(folder, 8)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "key"),
    [("t5", "encoder.block.0.layer.0.SelfAttention.q.weight"), ("clip", "encoder.layers.0.self_attn.q_proj.weight")],
)
def test_an_encoder_that_is_not_whole_is_refused_and_never_filled_up(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, key: str
) -> None:
    source = request.getfixturevalue(kind)
    without = refused(source, tmp_path / "a", lambda state: {name: x for name, x in state.items() if name != key})
    assert without == f"a does not fit this text encoder:\n  1 missing: {key}"
    assert refused(source, tmp_path / "b", lambda state: state | {"foo.bar": torch.zeros(2)}).endswith(
        "unexpected: foo.bar"
    )
    assert refused(source, tmp_path / "c", lambda state: state | {key: torch.zeros(3, 3)}).endswith(
        f"another shape: {key}"
    )
    whole = refused(source, tmp_path / "q", lambda state: state | {key: state[key].to(torch.int8)})
    assert whole.startswith(f"1 tensors are quantised (I8), which this network cannot read: {key}.")


def test_quantised_weights_under_the_published_names_of_clip_are_refused(clip: Path, tmp_path: Path) -> None:
    key = "text_model.encoder.layers.0.self_attn.q_proj.weight"

    def prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
        state = {f"text_model.{name}": value for name, value in state.items()}
        return state | {key: state[key].to(torch.int8)}

    assert refused(clip, tmp_path / "q", prefixed).startswith("1 tensors are quantised (I8)")


def test_layers_that_the_file_does_not_hold_are_refused(t5: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(t5, tmp_path / "deep")
    text_encoders.t5_config(vocab_size=300, num_layers=2).save_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"missing: encoder\.block\.1\."):
        HFEmbedder(folder, 8)


def test_the_decoder_of_a_whole_t5_is_left_out(t5: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(t5, tmp_path / "whole")
    more = {"decoder.final_layer_norm.weight": torch.ones(16), "lm_head.weight": torch.ones(300, 16)}
    text_encoders.write_weights(folder, load_file(folder / "model.safetensors") | more)
    assert torch.equal(HFEmbedder(folder, 8)("snow"), HFEmbedder(t5, 8)("snow"))


@pytest.mark.parametrize("text", ["", "[]", "{}", "5"])
def test_a_damaged_tokenizer_is_a_sentence(t5: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(t5, tmp_path / "t5")
    (tmp_path / "t5" / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match="The tokenizer of the text encoder in t5 cannot be read"):
        HFEmbedder(tmp_path / "t5", 8)


@pytest.mark.parametrize("kind", ["t5", "clip"])
def test_truncation_is_reported(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    embedder = HFEmbedder(request.getfixturevalue(kind), 6)
    with caplog.at_level(logging.WARNING, "opensora"):
        embedder(["snow", "sea"])
        assert caplog.text == ""
        embedder(["snow", "a red ball rolls over the snow and the sea and the mountains"])
    assert "is cut to 6; its end is not read" in caplog.text

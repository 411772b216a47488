"""Building networks: once for a choice, released for the next, refused when they do not belong together."""

import gc
import json
import shutil
import threading
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from pipelines.bundles import write_bundle

from opensora.acceleration.shardformer import apply
from opensora.models.stdit.stdit3 import STDiT3
from opensora.models.text import precision
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3
from opensora.pipelines.build import build_models, is_built, release_models
from opensora.pipelines.bundle import load_bundle
from opensora.pipelines.models import Models
from opensora.pipelines.plan import choose_device, choose_dtype
from opensora.pipelines.preflight import estimate
from opensora.pipelines.preview import Preview
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.video import generate


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each network is read from disk."""
    release_models()
    counter: Counter[str] = Counter()
    for name, cls in (("stdit", STDiT3), ("vae", OpenSoraVAE_V1_3)):
        load = cls.from_pretrained

        def counted(*args: Any, _name: str = name, _load: Any = load, **fields: Any) -> Any:
            counter[_name] += 1
            return _load(*args, **fields)

        monkeypatch.setattr(cls, "from_pretrained", counted)
    return counter


def build(folder: Path, mode: str = "t2v", **choices: Any) -> Models:
    return build_models(mode, "144p", model=folder, dtype=choices.pop("dtype", "fp32"), **choices)


def test_a_second_request_loads_nothing(bundle_folder: Path, loads: Counter[str]) -> None:
    first, second = build(bundle_folder), build(bundle_folder)
    assert first.stdit is second.stdit and first.vae is second.vae and first.text_encoder is second.text_encoder
    build(bundle_folder, mode="i2v")
    build(bundle_folder, mode="t2i")
    assert loads == {"stdit": 1, "vae": 1}


def test_another_choice_releases_the_first(bundle_folder: Path, other_bundle_folder: Path, loads: Counter[str]) -> None:
    first = build(bundle_folder)
    gone = [weakref.ref(first.stdit), weakref.ref(first.vae), weakref.ref(first.text_encoder)]
    del first
    build(other_bundle_folder)
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3
    assert not is_built(load_bundle(bundle_folder), None, "fp32", optimized=False)
    assert is_built(load_bundle(other_bundle_folder), None, "fp32", optimized=False)
    build(other_bundle_folder, dtype="bf16")
    build(other_bundle_folder, dtype="bf16", enable_optimization=True)
    assert loads == {"stdit": 4, "vae": 4}


def test_threads_that_ask_at_once_build_once(bundle_folder: Path, loads: Counter[str]) -> None:
    together, built = threading.Barrier(4), []

    def ask() -> None:
        together.wait()
        built.append(build(bundle_folder).stdit)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == {"stdit": 1, "vae": 1}
    assert len(built) == 4 and len(set(map(id, built))) == 1


def test_what_is_returned_is_ready_to_run(bundle_folder: Path) -> None:
    models = build(bundle_folder, dtype="bf16")
    vae, text_encoder, stdit, scheduler, config = models
    assert text_encoder.y_embedder is stdit.y_embedder
    for network in (vae, text_encoder.t5.model, stdit):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
    assert next(stdit.parameters()).dtype == next(vae.parameters()).dtype == torch.bfloat16
    assert next(text_encoder.t5.model.parameters()).dtype == torch.float32
    assert (scheduler.num_sampling_steps, scheduler.cfg_scale) == (3, 3.0)
    assert (config.mode, config.resolution, config.plan.dtype, config.plan.text_dtype) == (
        "t2v",
        "144p",
        "bf16",
        "fp32",
    )
    assert config.condition_frame_length == 5
    assert set(config.plan.weights) == {"stdit", "vae", "text"}
    assert all(len(digest) == 64 for digest in config.plan.weights.values())
    json.dumps(config.plan.to_json())


def test_the_text_encoder_s_precision_and_policy_are_chosen_apart(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "find_spec", lambda package: None)
    monkeypatch.setattr(apply, "find_spec", lambda package: None)
    apply.obstacle.cache_clear()
    apply._say_once.cache_clear()
    caplog.set_level("WARNING", logger="opensora")  # which a command line may have made quieter
    monkeypatch.delenv(apply.VARIABLE, raising=False)
    models = build(bundle_folder, text_dtype="bf16")  # auto, as nobody said otherwise
    assert models.config.plan.shardformer == "off"
    assert models.text_encoder.t5.model.dtype == torch.bfloat16 and models.config.plan.text_dtype == "bf16"
    assert "shardformer is not used: colossalai is not installed" in caplog.text
    assert next(models.stdit.parameters()).dtype == torch.float32
    with pytest.raises(ValueError, match="shardformer cannot be used: colossalai is not installed"):
        build(bundle_folder, shardformer="on")
    monkeypatch.setenv(apply.VARIABLE, "on")  # as --shardformer on does, for workers too
    with pytest.raises(ValueError, match="shardformer cannot be used: colossalai is not installed"):
        build(bundle_folder)
    with pytest.raises(ValueError, match="shardformer cannot be used: colossalai is not installed"):
        generate(GenerationRequest("a red ball", model=bundle_folder, length=1, steps=1))
    monkeypatch.setenv(apply.VARIABLE, "off")
    with pytest.raises(ValueError, match="The text precision nf4 needs bitsandbytes"):
        build(bundle_folder, text_dtype="nf4")
    with pytest.raises(ValueError, match="Got the text precision 'fp8'; choose one of fp32, bf16, int8, nf4"):
        build(bundle_folder, text_dtype="fp8")
    apply.obstacle.cache_clear()


def test_optimisation_changes_rounding_only(bundle_folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 5, 6, 8, generator=generator)
    timestep, size = torch.tensor([400.0]), {"height": [48.0], "width": [64.0], "fps": [24.0]}
    outputs = []
    with torch.inference_mode():
        for optimized in (False, True):
            models = build(bundle_folder, enable_optimization=optimized)
            assert models.config.plan.optimized is optimized
            text = models.text_encoder.encode(["a red ball"])
            places = {name: torch.tensor(value) for name, value in size.items()}
            velocity = models.stdit(latents, timestep, text["y"], mask=text["mask"], **places)
            outputs.append((velocity, models.vae.decode(latents)))
    for plain, fast in zip(*outputs, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


def test_published_weights_that_are_not_here_are_refused_with_their_command() -> None:
    with pytest.raises(ValueError, match=r"not on this machine.*models --download opensora-1.3-t2v-720p.*24.9 GB"):
        build_models("t2v", "720p")
    with pytest.raises(ValueError, match=r"expected one of 144p, (128px, )?360p, 720p"):
        build_models("t2v", "721p")
    with pytest.raises(ValueError, match="expected one of t2v, i2v, t2i"):
        build_models("v2v", "144p")


def test_networks_that_do_not_belong_together_are_refused(bundle_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(bundle_folder, folder)
    write_bundle(tmp_path / "wide", z_channels=8)
    shutil.rmtree(folder / "vae")
    shutil.copytree(tmp_path / "wide" / "vae", folder / "vae")
    with pytest.raises(ValueError, match="takes 4 latent channels, the autoencoder makes 8"):
        build(folder)


@pytest.mark.parametrize(
    ("broken", "words"),
    [("stdit/config.json", "lacks stdit/config.json"), ("vae/model.safetensors", "no weights")],
)
def test_an_incomplete_bundle_names_what_is_missing(
    bundle_folder: Path, tmp_path: Path, broken: str, words: str
) -> None:
    folder = tmp_path / "incomplete"
    shutil.copytree(bundle_folder, folder)
    (folder / broken).unlink()
    with pytest.raises(ValueError, match=words):
        build(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"nonsense": 1}', "\xff"])
@pytest.mark.parametrize("name", ["bundle.json", "stdit/config.json", "vae/config.json", "t5/config.json"])
def test_a_damaged_configuration_is_known_before_anything_is_loaded(
    bundle_folder: Path, tmp_path: Path, name: str, text: str
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    (folder / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(RequestError, match=r"\.json") as caught:
        estimate(GenerationRequest("a red ball", model=folder))
    assert caught.value.field == "model"
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"weight": [[0], [0], [0]], "bias": [0, 0, 0]}', '{"weight": [[NaN]], "bias": [0]}']
)
def test_a_damaged_map_to_previews_is_a_sentence(bundle_folder: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(bundle_folder, tmp_path / "bundle")
    (tmp_path / "bundle" / "vae" / "preview.json").write_text(text)
    with pytest.raises(ValueError, match=r"preview\.json beside the autoencoder .* make it again"):
        Preview.load(tmp_path / "bundle" / "vae", channels=4)


def test_a_file_that_was_cut_short_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(bundle_folder, folder)
    file = folder / "stdit" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cut short"):
        build(folder)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:7", "", "cpu\0", "über"])
def test_a_device_that_is_not_here_lists_those_that_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"this machine has .*cpu"):
        choose_device(name)


def test_dtypes_are_named() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("bf16", cpu) is torch.bfloat16
    assert choose_dtype("fp32", cpu) is torch.float32
    assert choose_dtype(None, cpu) in (torch.bfloat16, torch.float32)
    with pytest.raises(ValueError, match="choose one of bf16, fp32"):
        choose_dtype("fp16", cpu)


def test_a_policy_that_can_be_used_is_used_unless_told_otherwise_and_the_plan_says_so(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, loads: Counter[str]
) -> None:
    changed: list[object] = []
    monkeypatch.setattr(apply, "obstacle", lambda: None)
    monkeypatch.setattr(apply, "_optimize", changed.append)
    monkeypatch.delenv(apply.VARIABLE, raising=False)
    models = build(bundle_folder)
    assert models.config.plan.shardformer == "on" and changed == [models.text_encoder.t5.model]
    assert "colossalai" in models.config.plan.versions
    assert is_built(load_bundle(bundle_folder), None, "fp32", optimized=False)
    monkeypatch.setenv(apply.VARIABLE, "off")
    assert not is_built(load_bundle(bundle_folder), None, "fp32", optimized=False)
    plan = build(bundle_folder).config.plan
    assert plan.shardformer == "off" and "colossalai" not in plan.versions and len(changed) == 1

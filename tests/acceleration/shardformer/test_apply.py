"""The settings auto, on and off, with colossalai as it is here, absent, and not fitting."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from models import text_encoders
from transformers import T5EncoderModel

from opensora.acceleration.shardformer import apply
from opensora.models.text.conditioner import HFEmbedder, shardformer_t5


@pytest.fixture(autouse=True)
def nothing_found_out_yet() -> Iterator[None]:
    for cached in (apply.obstacle, apply._say_once):
        cached.cache_clear()
    yield
    for cached in (apply.obstacle, apply._say_once):
        cached.cache_clear()


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "find_spec", lambda name: None)


def small_t5() -> T5EncoderModel:
    return T5EncoderModel(text_encoders.t5_config(vocab_size=16))


def test_on_without_colossalai_fails_and_says_what_to_do(absent: None) -> None:
    with pytest.raises(apply.ShardformerError, match="cannot be used: colossalai is not installed; `make colossalai`"):
        shardformer_t5(small_t5())


def test_auto_without_colossalai_leaves_the_encoder_and_says_so_once(
    absent: None, caplog: pytest.LogCaptureFixture
) -> None:
    t5 = small_t5()
    with caplog.at_level(logging.WARNING, logger="opensora"):  # which a command line may have made quieter
        for _ in range(3):
            assert shardformer_t5(t5, "auto") is t5
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("shardformer is not used: colossalai is not installed; `make colossalai` installs it")
    assert not any("forward" in vars(module) for module in t5.modules())


def test_off_does_not_look_for_colossalai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "find_spec", lambda name: pytest.fail("looked"))
    t5 = small_t5()
    assert shardformer_t5(t5, "off") is t5


def test_a_colossalai_that_does_not_fit_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(t5: object) -> None:
        raise TypeError("unexpected keyword argument 'past_key_values'")

    monkeypatch.setattr(apply, "find_spec", lambda name: object())
    monkeypatch.setattr(apply, "_optimize", broken)
    with pytest.raises(apply.ShardformerError, match=r"does not work with these versions \(TypeError: unexpected key"):
        shardformer_t5(small_t5())


def test_a_policy_that_changes_numbers_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(t5: T5EncoderModel) -> None:
        torch.nn.init.constant_(t5.encoder.final_layer_norm.weight, 1.5)

    monkeypatch.setattr(apply, "find_spec", lambda name: object())
    monkeypatch.setattr(apply, "_optimize", spoil)
    before = torch.random.get_rng_state()
    with pytest.raises(apply.ShardformerError, match="changes the numbers of a small encoder by"):
        shardformer_t5(small_t5_with_state(before))
    assert torch.equal(torch.random.get_rng_state(), before)


def small_t5_with_state(state: torch.Tensor) -> T5EncoderModel:
    t5 = small_t5()
    torch.random.set_rng_state(state)
    return t5


def test_another_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="got the shardformer setting 'yes'; expected one of auto, on, off"):
        shardformer_t5(small_t5(), "yes")


def test_the_embedder_passes_the_setting_on(absent: None, tmp_path: Path) -> None:
    folder, clip = text_encoders.write_t5(tmp_path / "t5"), text_encoders.write_clip(tmp_path / "clip")
    for wanted in (True, "on"):
        with pytest.raises(ValueError, match="colossalai is not installed"):
            HFEmbedder(folder, 8, shardformer=wanted)
    with pytest.raises(ValueError, match="colossalai is not installed"):
        HFEmbedder(folder, 8, True)
    for setting in (False, "off", "auto"):
        assert HFEmbedder(folder, 8, shardformer=setting)("snow").shape == (1, 8, 16)
    assert HFEmbedder(clip, 8, shardformer="auto")("snow").shape == (1, 16)
    with pytest.raises(ValueError, match="has a policy for T5 only"):
        HFEmbedder(clip, 8, shardformer=True)

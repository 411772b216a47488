"""``T5EncoderPolicy`` with the real colossalai: equal numbers, and what it refuses."""

import copy
from pathlib import Path

import golden_io
import pytest
import torch
from models import text_encoders
from transformers import T5Config, T5EncoderModel

from opensora.acceleration.shardformer.apply import obstacle
from opensora.models.text.conditioner import HFEmbedder, shardformer_t5

pytestmark = pytest.mark.usefixtures("colossalai")

FIXTURE = golden_io.load("v2/text/hf_embedder")


@pytest.fixture(scope="module")
def plain() -> T5EncoderModel:
    network = T5EncoderModel(T5Config(**FIXTURE.meta["t5_config"])).eval()
    golden_io.fill(network, FIXTURE.meta["salts"]["t5"])
    return network


def test_nothing_stands_in_the_way() -> None:
    assert obstacle() is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True])
def test_the_numbers_stay_equal_bit_for_bit(plain: T5EncoderModel, dtype: torch.dtype, masked: bool) -> None:
    before = copy.deepcopy(plain).to(dtype)
    after = shardformer_t5(copy.deepcopy(before))
    ids = FIXTURE.tensors["t5.in.input_ids"]
    mask = FIXTURE.tensors["t5.in.attention_mask_not_used_upstream"] if masked else None
    with torch.no_grad():
        outputs = [t5(input_ids=ids, attention_mask=mask).last_hidden_state for t5 in (before, after)]
    assert torch.equal(*outputs) and outputs[1].dtype == dtype


def test_the_published_numbers(plain: T5EncoderModel) -> None:
    t5 = shardformer_t5(copy.deepcopy(plain))
    with torch.no_grad():
        out = t5(input_ids=FIXTURE.tensors["t5.in.input_ids"]).last_hidden_state
    golden_io.assert_within(out, FIXTURE.tensors["t5_shardformer.out.last_hidden_state"], "v2 T5 policy", 1e-5)


def test_every_layer_is_fused_frozen_and_keeps_its_weights(plain: T5EncoderModel) -> None:
    t5 = shardformer_t5(copy.deepcopy(plain).train())
    fused = [type(module).__name__ for module in t5.modules() if "dropout_add" in vars(module)]
    assert fused.count("T5LayerFF") == fused.count("T5LayerSelfAttention") == len(plain.encoder.block)
    assert not t5.training and not any(parameter.requires_grad for parameter in t5.parameters())
    assert t5.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in t5.state_dict().items())


def test_the_policy_by_its_published_name(plain: T5EncoderModel) -> None:
    """As people call it; without fusion nothing is replaced."""
    from colossalai.shardformer import ShardConfig, ShardFormer

    from opensora.acceleration.shardformer.policy.t5_encoder import T5EncoderPolicy

    config = ShardConfig(enable_tensor_parallelism=False, enable_jit_fused=False)
    t5, shared = ShardFormer(config).optimize(copy.deepcopy(plain), T5EncoderPolicy())
    assert shared == [] and not any("forward" in vars(module) for module in t5.modules())


@pytest.mark.parametrize(
    ("setting", "said"),
    [("enable_tensor_parallelism", "not split over processes"), ("enable_flash_attention", "flash attention")],
)
def test_what_has_no_part_in_the_encoder_is_refused(setting: str, said: str) -> None:
    from colossalai.shardformer import ShardConfig

    from opensora.acceleration.shardformer.policy.t5_encoder import T5EncoderPolicy

    config = ShardConfig(enable_tensor_parallelism=False)
    setattr(config, setting, True)
    with pytest.raises(AssertionError, match=said):
        T5EncoderPolicy().set_shard_config(config)


def test_the_embedder_gives_the_same_features(tmp_path: Path) -> None:
    folder = text_encoders.write_t5(tmp_path, num_layers=2)
    texts = ["a red ball rolls", ""]
    expected = HFEmbedder(folder, 12)(texts, added_tokens=3, seq_align=8)
    for setting in (True, "auto"):
        assert torch.equal(HFEmbedder(folder, 12, shardformer=setting)(texts, added_tokens=3, seq_align=8), expected)


def test_a_module_without_that_name_says_which_there_is() -> None:
    from opensora.acceleration.shardformer.policy import t5_encoder

    with pytest.raises(AttributeError, match="it has T5EncoderPolicy"):
        _ = t5_encoder.T5DecoderPolicy

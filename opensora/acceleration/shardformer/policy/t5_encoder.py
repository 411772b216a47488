"""``T5EncoderPolicy``: how ShardFormer changes the T5 encoder.

Legend: B texts, L tokens, E width of the features.

The feed-forward layer and the self-attention layer add to the residual through one scripted function; weights, norms
and attention stay as they are, and so do the numbers. The class is made when it is asked for, because its base class
is colossalai's and importing this module must not import that.
"""

from functools import cache
from typing import Any

from torch import Tensor, nn


def __getattr__(name: str) -> Any:
    if name == "T5EncoderPolicy":
        return t5_encoder_policy()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has T5EncoderPolicy.")


def self_attention_forward(
    layer: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, **keywords: Any
) -> tuple[Any, ...]:
    """``T5LayerSelfAttention.forward`` with the fused addition.

    Args:
        layer: the layer, with the policy's ``dropout_add``.
        hidden_states: (B, L, E).
        attention_mask: added to the scores.
        keywords: for the attention itself; which there are depends on the version of transformers.

    Returns:
        Hidden states (B, L, E), then whatever the attention returns besides its own.
    """
    attended, *rest = layer.SelfAttention(layer.layer_norm(hidden_states), mask=attention_mask, **keywords)
    return (layer.dropout_add(attended, hidden_states, layer.dropout.p, layer.dropout.training), *rest)


@cache
def t5_encoder_policy() -> type[Any]:
    """The class ``T5EncoderPolicy``.

    Raises:
        ImportError: colossalai is not installed.
    """
    from colossalai.shardformer.modeling.jit import get_jit_fused_dropout_add_func
    from colossalai.shardformer.modeling.t5 import get_jit_fused_T5_layer_ff_forward
    from colossalai.shardformer.policies.base_policy import ModulePolicyDescription, Policy
    from transformers.models.t5.modeling_t5 import T5LayerFF, T5LayerSelfAttention

    class T5EncoderPolicy(Policy):
        """For ``ShardFormer.optimize(t5, T5EncoderPolicy())``; one process holds the whole encoder."""

        def config_sanity_check(self) -> None:
            """Raises AssertionError: tensor parallelism or flash attention, which have no part in the encoder."""
            assert not self.shard_config.enable_tensor_parallelism, "the T5 encoder is not split over processes"
            assert not self.shard_config.enable_flash_attention, "flash attention has no place for T5's position bias"

        def preprocess(self) -> nn.Module:
            """The network as it is."""
            return self.model

        def module_policy(self) -> dict[type[nn.Module], ModulePolicyDescription]:
            """What is replaced in each instance of two layers; nothing without ``enable_jit_fused``."""
            if not self.shard_config.enable_jit_fused:
                return {}
            forwards = {T5LayerFF: get_jit_fused_T5_layer_ff_forward(), T5LayerSelfAttention: self_attention_forward}
            return {
                layer: ModulePolicyDescription(
                    method_replacement={"forward": forward, "dropout_add": get_jit_fused_dropout_add_func()}
                )
                for layer, forward in forwards.items()
            }

        def postprocess(self) -> nn.Module:
            """The network as it is."""
            return self.model

    return T5EncoderPolicy

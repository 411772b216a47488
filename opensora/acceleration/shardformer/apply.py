"""Whether ShardFormer is applied to the T5 encoder: ``auto``, ``on`` or ``off``."""

import copy
import logging
import os
from functools import cache
from importlib.util import find_spec
from typing import Literal, TypeVar, get_args

import torch
from torch import nn

log = logging.getLogger(__name__)

Setting = Literal["auto", "on", "off"]
SETTINGS: tuple[str, ...] = get_args(Setting)
VARIABLE = "OPENSORA_SHARDFORMER"
"""Variable with the setting of a program and its workers; what the option ``--shardformer`` sets."""
T5 = TypeVar("T5", bound=nn.Module)

TRIED_TOKENS = 8
"""Tokens on which the changed layers are compared with the plain ones before a network is touched."""


class ShardformerError(ValueError):
    """ShardFormer was asked for and cannot be used here; the message says why."""


def apply_shardformer(t5: T5, setting: str = "on") -> T5:
    """The same encoder with colossalai's policy, frozen, in eval mode; numbers and dtypes stay as they are.

    Args:
        t5: a T5 encoder of transformers; it is changed in place.
        setting: ``on`` fails where it cannot be done, ``auto`` says once why it was not done, ``off`` does nothing.

    Raises:
        ShardformerError: ``on``, and colossalai is not installed or does not work with these versions.
        ValueError: another setting.
    """
    if decided(setting) == "off":
        return t5
    _optimize(t5)
    return t5.eval().requires_grad_(False)


def wanted() -> str:
    """The setting of this program, see :data:`VARIABLE`; ``auto`` where nobody chose."""
    return os.environ.get(VARIABLE) or "auto"


def decided(setting: str) -> Literal["on", "off"]:
    """What a setting comes to here: ``on`` fails where it cannot be done, ``auto`` says once why it was not done.

    Raises: as :func:`apply_shardformer`.
    """
    if setting not in SETTINGS:
        raise ValueError(f"got the shardformer setting {setting[:40]!r}; expected one of {', '.join(SETTINGS)}.")
    if setting == "off":
        return "off"
    reason = obstacle()
    if reason is None:
        return "on"
    if setting == "on":
        raise ShardformerError(f"shardformer cannot be used: {reason}")
    _say_once(reason)
    return "off"


@cache
def obstacle() -> str | None:
    """Why ShardFormer cannot be used here, a sentence; ``None`` if it can. Found out once, which takes seconds."""
    if find_spec("colossalai") is None:
        return "colossalai is not installed; `make colossalai` installs it, or set shardformer to off."
    try:
        difference = _difference()
    except Exception as error:  # versions that drifted apart raise more than ImportError
        return f"the installed colossalai does not work with these versions ({type(error).__name__}: {error!s:.200})."
    if difference:
        return f"the installed colossalai changes the numbers of a small encoder by {difference:.1e}."
    return None


def _difference() -> float:
    """Largest change that the policy makes to a small encoder on :data:`TRIED_TOKENS` tokens."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=16, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, is_encoder_decoder=False)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        plain = T5EncoderModel(config).eval()
        changed = copy.deepcopy(plain)
        _optimize(changed)
        ids = torch.arange(TRIED_TOKENS)[None]
        before, after = (network(input_ids=ids).last_hidden_state for network in (plain, changed))
    return float((after - before).abs().max())


def _optimize(t5: nn.Module) -> None:
    from colossalai.shardformer import ShardConfig, ShardFormer

    from opensora.acceleration.shardformer.policy.t5_encoder import t5_encoder_policy

    config = ShardConfig(enable_tensor_parallelism=False, enable_jit_fused=True)
    ShardFormer(config).optimize(t5, t5_encoder_policy()())


@cache
def _say_once(reason: str) -> None:
    log.warning("shardformer is not used: %s", reason)

"""In how many bits a text encoder's weights are kept: float32, bfloat16, or by bitsandbytes in 8 or 4.

``int8`` is LLM.int8 (Dettmers et al. 2022, arXiv:2208.07339): rows of weights and of activations as whole numbers,
activations above 6 apart. ``nf4`` is the 4-bit NormalFloat of QLoRA (Dettmers et al. 2023, arXiv:2305.14314) in blocks
of 64. Both leave embeddings, norms and T5's ``wo``, which 8 bits by way of float16 would overflow, in bfloat16.
"""

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.bfloat16, "nf4": torch.bfloat16}
"""Names of precisions, and the dtype of what is computed and of what is not quantised."""
QUANTISED = ("int8", "nf4")
BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.24, "nf4": 0.9}
"""Bytes of a number of T5-XXL, with what stays in bfloat16; computed from the shapes of its layers."""


@dataclass(frozen=True)
class TextSettings:
    """How a text encoder is loaded."""

    precision: str = "fp32"
    """``fp32``, ``bf16``, ``int8`` or ``nf4`` (4 bits)."""
    shardformer: str = "off"
    """colossalai's policy for T5: ``on``, ``auto`` where it can be used, or ``off``."""

    def loading(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        """Settings of :class:`HFEmbedder` for T5 on a device."""
        return loading_settings(self.precision, device) | {"shardformer": self.shardformer}


def check_precision(precision: str, device: torch.device | str) -> None:
    """Refuse a precision that cannot be computed here.

    Args:
        precision: of :data:`PRECISIONS`.
        device: where the encoder will run.

    Raises:
        ValueError: no such precision, or one that needs bitsandbytes, which is not here or not made for the device.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"Got the text precision {precision[:40]!r}; choose one of {', '.join(PRECISIONS)}.")
    if precision not in QUANTISED:
        return
    if torch.device(device).type not in ("cpu", "cuda"):
        raise ValueError(f"The text precision {precision} runs on cpu and cuda; choose bf16 for {device}.")
    if find_spec("bitsandbytes") is None:
        raise ValueError(
            f"The text precision {precision} needs bitsandbytes, which is not installed: "
            "`pip install bitsandbytes`, or choose bf16."
        )


def loading_settings(precision: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Settings with which an encoder is loaded in a precision: ``HFEmbedder(source, **loading_settings("int8"))``.

    Weights are quantised one by one while they are read, on the device.

    Args:
        precision: ``fp32``, ``bf16``, ``int8`` or ``nf4``.
        device: where the encoder will run, ``cpu`` or ``cuda``.

    Raises:
        ValueError: as :func:`check_precision`.
    """
    check_precision(precision, device)
    settings: dict[str, Any] = {"dtype": PRECISIONS[precision]}
    if precision in QUANTISED:
        from transformers import BitsAndBytesConfig

        # It would say for every layer of every text that activations pass through float16.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=precision == "int8",
            load_in_4bit=precision == "nf4",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=PRECISIONS[precision],
        )
        settings["device_map"] = {"": str(device)}
    return settings

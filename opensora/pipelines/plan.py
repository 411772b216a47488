"""Where and how a request is computed. The same request under the same plan gives the same bytes."""

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from opensora.acceleration.offload import Offload
from opensora.pipelines.bf16 import processor_prefers_bf16
from opensora.sentences import say

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pillow", "av")
"""Packages whose version can change a byte of the result."""


@dataclass(frozen=True)
class ExecutionPlan:
    """Everything besides the request that the bytes of a result depend on; fixed before the work starts."""

    device: str
    """Such as ``cpu`` or ``cuda:0``."""
    device_name: str
    """Name of the processor or GPU."""
    dtype: str
    """Of the denoiser and the autoencoder: ``bf16`` or ``fp32``."""
    text_dtype: str
    """Precision of the text encoder: ``fp32``, ``bf16``, ``int8`` or ``nf4``."""
    backend: str
    """Kernels: torch's scaled dot-product attention on its own choice of libraries."""
    threads: int
    """Threads of the processor."""
    batch: int
    """Clips computed at once."""
    optimized: bool
    """Whether the optimisations that do not change the output are on."""
    versions: dict[str, str]
    """Of Python and the packages that compute."""
    weights: dict[str, str]
    """sha256 of every network's weights."""
    processes: int = 1
    """Processes that compute a clip together."""
    offload: Offload = "none"
    """Networks that lie in main memory until their stage: ``none``, ``text`` or ``all``."""
    shardformer: str = "off"
    """Whether colossalai's policy is applied to T5: ``on`` or ``off``."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def choose_device(name: str | None) -> torch.device:
    """The device of that name, or the best one of this machine.

    Raises:
        ValueError: there is no such device here.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    here = devices()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(say("device.unknown", got=repr(name[:40]), choices=", ".join(here))) from None
    if device.type == "cuda" and torch.cuda.is_available() and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    if str(device) not in here:
        raise ValueError(say("device.absent", got=name[:40], choices=", ".join(here)))
    return device


def devices() -> list[str]:
    """Names of the devices of this machine, the best first."""
    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*found, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The dtype of that name, or bfloat16 where the device is fast at it.

    Raises:
        ValueError: neither ``bf16`` nor ``fp32``.
    """
    if name is not None:
        if name not in DTYPES:
            raise ValueError(say("dtype", got=repr(name[:40]), choices=", ".join(DTYPES)))
        return DTYPES[name]
    return torch.bfloat16 if fast_bf16(device) else torch.float32


def fast_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 faster than in float32; of a processor it is measured, once."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "mps":
        return int((platform.mac_ver()[0] or "0").split(".")[0]) >= 14
    return processor_prefers_bf16(device_name(device))


def dtype_name(dtype: torch.dtype) -> str:
    """``bf16`` or ``fp32``."""
    return next(name for name, known in DTYPES.items() if known is dtype)


def device_name(device: torch.device) -> str:
    """What a person calls the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(_cpu_features().get("cpu_name") or platform.processor() or platform.machine())


def _cpu_features() -> dict[str, Any]:
    """What torch knows of the processor; empty in versions that do not say."""
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return found


def versions(*more: str) -> dict[str, str]:
    """Versions of Python, of :data:`PACKAGES` and of more packages."""
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found

"""Reference numbers of the published networks: read them, fill modules by their weight rule, compare with them.

A fixture is a safetensors file under ``tests/golden`` whose metadata entry ``json`` describes how it was made.
Weights are not stored: every learnable tensor is drawn from a Philox generator keyed by a salt and the tensor's name.

Names of fixtures and tables of generation 2.0 start with ``v2/`` and its folders (``v2/mmdit/layers``); names of the
1.x family stand alone (``layers_v13``).
"""

import json
import math
import zlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

GOLDEN = Path(__file__).parent / "golden"

MAX_ERROR = 1e-4
"""Largest allowed |actual - expected| as a share of the rms of the expected tensor."""
FROBENIUS = 2e-5
"""Largest allowed Frobenius norm of the difference as a share of that of the expected tensor."""


@dataclass(frozen=True)
class Parity:
    """Worst error of one compared tensor."""

    max_to_rms: float
    rel_fro: float
    max_to_max: float = 0.0


class Tensors(dict[str, Tensor]):
    """Tensors of a file, which note what was read of them."""

    def __init__(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.name = name

    def __getitem__(self, key: str) -> Tensor:
        value = super().__getitem__(key)
        read.setdefault(self.name, set()).add(key)
        return value

    def get(self, key: str, default: Any = None) -> Any:
        read.setdefault(self.name, set()).add(key)
        return super().get(key, default)


@dataclass(frozen=True)
class Fixture:
    """A file of reference numbers."""

    name: str
    meta: dict[str, Any]
    """``upstream``, ``config``, ``salt``, ``call``, ``notes``; files with several cases have them in ``cases``."""
    tensors: dict[str, Tensor] = field(repr=False)
    """``in.*`` and ``out*``; a case's tensors start with ``case/`` or, in generation 2.0, with ``case.``."""

    def inputs(self, case: str = "") -> dict[str, Any]:
        """Arguments of the recorded call, with its tensors in place."""
        call = (self.meta["cases"][case] if case else self.meta)["call"]
        return {name: self._value(value) for name, value in call.items()}

    def given(self, prefix: str = "in.") -> dict[str, Tensor]:
        """Tensors whose names start with ``prefix``, by the rest of the name: arguments of a call of generation 2.0."""
        return {key.removeprefix(prefix): self.tensors[key] for key in self.tensors if key.startswith(prefix)}

    def _value(self, value: Any) -> Any:
        if isinstance(value, str) and value.startswith("tensor "):
            return self.tensors[value.removeprefix("tensor ")]
        return value


records: dict[str, Parity] = {}
"""What was compared in this session, by name; the table at the end of a test run."""


read: dict[str, set[str]] = {}
"""Tensors that were read in this session, by file."""

LEFT_OUT = {"layers_v13": {"dynthr/out"}}
"""Tensors that no test reads: a helper (dynamic thresholding) that the public sampler never calls. Files of 1.2 hold
more than 1.3 took over and are not counted."""


def path_of(name: str, suffix: str = ".safetensors") -> Path:
    """File of a fixture or a table."""
    return GOLDEN / ("" if name.startswith("v2/") else "v1x") / f"{name}{suffix}"


def name_of(path: Path) -> str:
    """Name of the fixture or table that a file holds."""
    return path.relative_to(GOLDEN).with_suffix("").as_posix().removeprefix("v1x/")


def names(pattern: str) -> list[str]:
    """Names of the fixtures that match, sorted: ``vae_v13_T*``, ``v2/sampling/run_*``."""
    return sorted(name_of(path) for path in GOLDEN.glob(str(path_of(pattern).relative_to(GOLDEN))))


@cache
def load(name: str) -> Fixture:
    """The fixture ``name`` (without suffix). Its tensors are shared between callers: clone before writing to them."""
    with safe_open(path_of(name), "pt") as file:
        meta = json.loads(file.metadata()["json"])
        return Fixture(name, meta, Tensors(name, {key: file.get_tensor(key) for key in list(file.keys())}))


@cache
def load_json(name: str) -> Any:
    """The table ``name`` (without suffix)."""
    return json.loads(path_of(name, ".json").read_text(encoding="utf-8"))


def manifest(name: str) -> dict[str, tuple[int, ...]]:
    """Tensor names and shapes of a published full-size network: ``vae_v13``, ``v2/mmdit_256px``."""
    generation, _, stem = name.rpartition("/")
    tensors = load_json(f"{generation}/manifests/{stem}".removeprefix("/"))["tensors"]
    return {key: tuple(shape) for key, shape in tensors.items()}


def values(salt: str, name: str, shape: Collection[int]) -> Tensor:
    """The fixture's float32 value of the learnable tensor ``name``; salts of generation 2.0 start with ``v2/``."""
    generator = np.random.Generator(np.random.Philox(key=zlib.crc32(f"{salt}/{name}".encode())))
    a = generator.standard_normal(size=tuple(shape), dtype=np.float32)
    if len(shape) >= 2:
        a = a / np.float32(math.sqrt(math.prod(tuple(shape)[1:])))
    elif name.endswith((".weight", ".scale")) if salt.startswith("v2/") else f".{name}".endswith(".weight"):
        a = 1 + np.float32(0.1) * a
    else:
        a = np.float32(0.1) * a
    return torch.from_numpy(np.asarray(a, dtype=np.float32))


def fill(module: nn.Module, salt: str, keep: Collection[str] = ()) -> None:
    """Overwrite the learnable tensors of ``module`` (and the buffer ``y_embedding``) by the rule, except ``keep``."""
    learnable: dict[str, Tensor] = dict(module.named_parameters())
    learnable |= {n: b for n, b in module.named_buffers() if n.split(".")[-1] == "y_embedding"}
    with torch.no_grad():
        for name, tensor in learnable.items():
            if name not in keep:
                tensor.copy_(values(salt, name, tensor.shape))


def checksum(module: nn.Module) -> int:
    """CRC-32 over the learnable tensors in order; files of generation 2.0 hold it as ``rule.weights_crc32``."""
    crc = 0
    for tensor in dict(module.named_parameters()).values():
        crc = zlib.crc32(tensor.detach().float().contiguous().numpy().tobytes(), crc)
    return crc


def compare(actual: Tensor, expected: Tensor) -> Parity:
    """Errors of ``actual`` relative to ``expected``, in float64. NaNs have to agree in place."""
    a, e = actual.detach().double().flatten(), expected.double().flatten()
    if not torch.equal(a.isnan(), e.isnan()):
        return Parity(math.inf, math.inf, math.inf)
    error = (a - e).nan_to_num()
    rms = e.nan_to_num().pow(2).mean().sqrt().item() if e.numel() else 0.0
    if not error.any():
        return Parity(0.0, 0.0)
    if rms == 0.0:
        return Parity(math.inf, math.inf, math.inf)
    worst, largest = error.abs().max().item(), e.nan_to_num().abs().max().item()
    return Parity(worst / rms, error.pow(2).mean().sqrt().item() / rms, worst / largest)


def assert_close(
    actual: Tensor, expected: Tensor, what: str, *, max_error: float = MAX_ERROR, frobenius: float = FROBENIUS
) -> None:
    """Fail unless ``actual`` has the shape and, within the float32 tolerances, the values of ``expected``.

    The error is recorded under ``what`` (fixture, and case or tensor) for the parity table; the worst one stays.
    """
    parity = _recorded(actual, expected, what)
    assert parity.max_to_rms <= max_error and parity.rel_fro <= frobenius, (
        f"{what}: max error {parity.max_to_rms:.2e} of rms (allowed {max_error:.0e}), "
        f"relative Frobenius {parity.rel_fro:.2e} (allowed {frobenius:.0e})"
    )


def assert_within(actual: Tensor, expected: Tensor, what: str, share: float) -> None:
    """Fail unless ``actual`` has the shape of ``expected`` and differs at most by ``share`` of its largest value.

    That is how tolerances of generation 2.0 are given. The error is recorded as by :func:`assert_close`.
    """
    parity = _recorded(actual, expected, what)
    assert parity.max_to_max <= share, (
        f"{what}: max error {parity.max_to_max:.2e} of the largest value (allowed {share:.0e})"
    )


def _recorded(actual: Tensor, expected: Tensor, what: str) -> Parity:
    assert actual.shape == expected.shape, f"{what}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    parity = compare(actual, expected)
    before = records.get(what)
    if before is None or parity.max_to_rms > before.max_to_rms:
        records[what] = parity
    return parity


def as_json() -> dict[str, dict[str, float]]:
    """The recorded errors as plain data."""
    return {name: asdict(parity) for name, parity in sorted(records.items())}


def merge(recorded: Mapping[str, Mapping[str, float]], tensors: Mapping[str, Collection[str]]) -> None:
    """Add what another test process recorded and read; of two errors by one name the larger stays."""
    for name, errors in recorded.items():
        parity = Parity(**errors)
        if name not in records or parity.max_to_rms > records[name].max_to_rms:
            records[name] = parity
    for name, keys in tensors.items():
        read.setdefault(name, set()).update(keys)


def unread() -> list[str]:
    """``file: tensor`` for every tensor that no test of this session has read, :data:`LEFT_OUT` aside."""
    found = []
    for name in names("*") + names("v2/*/*"):
        if "_v12" not in name:
            with safe_open(path_of(name), "pt") as file:
                rest = set(file.keys()) - read.get(name, set()) - LEFT_OUT.get(name, set())
            found += [f"{name}: {key}" for key in sorted(rest)]
    return found

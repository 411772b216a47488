"""Strict reading and writing of safetensors: every tensor has to be there, be expected and have the right shape."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from opensora.checkpoint.identity import identify, read_header, require, weight_files
from opensora.checkpoint.layout import INDEX_SUFFIX, shards
from opensora.sentences import say

SHOWN = 8
"""Names listed of each kind in an error; the rest is counted."""


class CheckpointError(ValueError):
    """A checkpoint does not hold exactly the tensors of the network it is loaded into. The message lists them."""


def load_strict(module: nn.Module, path: str | os.PathLike[str], *, expect: Mapping[str, str] | None = None) -> None:
    """Fill ``module`` from a checkpoint, or leave it unchanged and raise.

    Values are converted to the dtype of the tensor they go into; tensors on the meta device are replaced by ones on the
    CPU of the module's dtype. A tensor known under several names needs only one of them in the file.

    Args:
        module: on any device.
        path: a safetensors file, the index of a sharded checkpoint, or a folder with either.
        expect: what it is to be used for, any of ``role``, ``family``, ``mode`` and ``resolution``. A checkpoint that
            says it is something else is refused; what it leaves open is accepted.

    Raises:
        CheckpointError: missing, unexpected or misshapen tensors, listed; no file, or not a safetensors file.
        IdentityError: made for another use.
        LayoutError: a folder without weights, or with some of the shards only.
    """
    files = _files(Path(path))
    if expect:
        require(identify(Path(path)), Path(path).name, **expect)
    targets = module.state_dict(keep_vars=True)
    try:
        with ExitStack() as stack:
            readers = [stack.enter_context(safe_open(file, "pt")) for file in files]
            held = {name: reader for reader in readers for name in list(reader.keys())}
            shapes = {name: tuple(reader.get_slice(name).get_shape()) for name, reader in held.items()}
            _check(targets, shapes, Path(path).name)
            _check_kinds(targets, {name: reader.get_slice(name).get_dtype() for name, reader in held.items()})
            state = {name: reader.get_tensor(name) for name, reader in held.items()}
            _assign(module, targets, state)
    except SafetensorError as error:
        raise CheckpointError(f"{Path(path).name} cannot be read as safetensors: {error}.") from error


def save(
    module: nn.Module,
    path: str | os.PathLike[str],
    metadata: Mapping[str, object],
    dtype: torch.dtype | None = None,
) -> None:
    """Write the state of ``module`` to one safetensors file, atomically: readers see the old file or the new one. The
    same state and metadata give the same bytes.

    Args:
        module: on any device. A tensor known under several names is written once, under the first.
        path: where to; an existing file is replaced.
        metadata: what the checkpoint is (``role``, ``family``, ``modes``, ``resolutions``, ``steps``, ``seed``, ...);
            values are written as text.
        dtype: of the floating tensors in the file; ``None`` keeps each one's own.
    """
    tensors: dict[str, Tensor] = {}
    for names in _aliases(module.state_dict(keep_vars=True)):
        tensor = names[min(names)].detach()
        tensors[min(names)] = tensor.to("cpu", dtype if tensor.is_floating_point() else None).contiguous().clone()
    text = {"format": "pt"} | {key: str(value) for key, value in metadata.items()}
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(tensors, temporary, text)
        _sort_header(Path(temporary))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sort_header(path: Path) -> None:
    """Put the entries of a file's header in a fixed order; the library writes the metadata in a random one."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        metadata = dict(sorted(header.pop("__metadata__").items()))
        ordered = {"__metadata__": metadata, **header}
        text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(text) <= size, "the same entries take the same space"
        file.seek(8)
        file.write(text.ljust(size))


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The text entries of a checkpoint's header, of all shards together; reads no tensor."""
    metadata: dict[str, str] = {}
    for file in _files(Path(path)):
        metadata |= read_header(file).metadata
    return metadata


def file_sha256(path: str | os.PathLike[str]) -> str:
    """sha256 of a file's bytes as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(path: Path) -> list[Path]:
    """The safetensors files of a file, an index or a folder."""
    if not path.exists():
        raise CheckpointError(f"{path.name} not found.")
    if path.name.endswith(INDEX_SUFFIX):
        files = [path.parent / name for name in shards(path)]
    else:
        files = list(weight_files(path))
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(f"{path.name}: {listed(missing)} not found.")
    others = [file.name for file in files if file.suffix != ".safetensors"]
    if others:
        raise CheckpointError(f"{listed(others)}: only .safetensors files are loaded, because others can run code.")
    return files


def _aliases(state: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Names of the same tensor together."""
    groups: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        groups.setdefault(id(tensor), {})[name] = tensor
    yield from groups.values()


def _check(targets: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    missing = [min(names) for names in _aliases(targets) if not names.keys() & shapes.keys()]
    unexpected = sorted(shapes.keys() - targets.keys())
    misshapen = [
        f"{name} is {list(shape)} in the file, {list(targets[name].shape)} in the network"
        for name, shape in sorted(shapes.items())
        if name in targets and shape != tuple(targets[name].shape)
    ]
    problems = {"missing": sorted(missing), "unexpected": unexpected, "of another shape": misshapen}
    lines = [f"  {len(names)} {kind}: {listed(names)}" for kind, names in problems.items() if names]
    if lines:
        counts = f"{len(shapes)} tensors, the network has {len(targets)}"
        raise CheckpointError("\n".join([f"{where} does not fit this network ({counts}):", *lines]))


def _check_kinds(targets: Mapping[str, Tensor], dtypes: Mapping[str, str]) -> None:
    """Refuse whole numbers where the network has fractions: quantised weights need their scales."""
    refuse_quantised({name: dtype for name, dtype in dtypes.items() if targets[name].is_floating_point()})


def refuse_quantised(dtypes: Mapping[str, str]) -> None:
    """Refuse whole numbers among the weights of a network that has fractions.

    Args:
        dtypes: safetensors' name of the dtype of every tensor that should hold fractions.

    Raises:
        CheckpointError: lists the tensors.
    """
    whole = sorted(name for name, dtype in dtypes.items() if not dtype.startswith(("F", "BF")))
    if whole:
        raise CheckpointError(
            f"{len(whole)} tensors are quantised ({dtypes[whole[0]]}), which this network cannot read: "
            f"{listed(whole)}. Get the weights in float32, bfloat16 or float16."
        )


def _assign(module: nn.Module, targets: Mapping[str, Tensor], state: dict[str, Tensor]) -> None:
    if not any(tensor.is_meta for tensor in targets.values()):
        with torch.no_grad():
            for name, value in state.items():
                targets[name].copy_(value)
        return
    for names in _aliases(targets):
        found = next(name for name in names if name in state)
        value = state[found].to(targets[found].dtype)
        state.update(dict.fromkeys(names, value))
    module.load_state_dict(state, assign=True)


def listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    rest = len(names) - SHOWN
    first = ", ".join(names[:SHOWN])
    return say("list.more", first=first, rest=rest) if rest > 0 else first

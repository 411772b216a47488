"""What a checkpoint says it is, read from the headers of its safetensors files without loading a tensor.

Our own exports carry `role`, `family`, and where they matter `modes` and `resolutions` (separated by commas) in the
header's metadata. Published files carry none of these; what they leave open is not refused here, and the strict loader
compares their keys.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from opensora.checkpoint.layout import INDEX_SUFFIX, Layout, LayoutError, present
from opensora.checkpoint.verify import measure, named_digest
from opensora.sentences import say

_LONGEST_HEADER = 100_000_000
_ANY = Layout(optional=(), pickle=True)


class IdentityError(ValueError):
    """A weights file is damaged, or is not what it is to be used for."""


@dataclass(frozen=True)
class Header:
    """The header of one safetensors file."""

    shapes: dict[str, tuple[int, ...]]
    """Shape of every tensor by name."""
    metadata: dict[str, str]
    """Free text entries."""


@dataclass(frozen=True)
class Identity:
    """What a checkpoint is; None and empty where it does not say."""

    role: str | None
    """"stdit", "vae" or "text"."""
    family: str | None
    """"1.3"."""
    modes: tuple[str, ...]
    """"t2v", "i2v", "t2i"."""
    resolutions: tuple[str, ...]
    """"144p", …"""
    parameters: int
    """Numbers in all tensors; 0 for a pickled checkpoint, which is not opened here."""


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors file; reads no tensor.

    The format: 8 bytes of length (little endian), a JSON header, then the data. A file that was cut short or padded is
    found by comparing its size with the last tensor's end.

    Raises:
        IdentityError: the file is no safetensors file, or its size is not what its header says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _LONGEST_HEADER + 1
        text = file.read(length) if length <= min(size, _LONGEST_HEADER) else b""
    try:
        entries = json.loads(text)
        metadata = entries.pop("__metadata__", {})
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
        if not (isinstance(metadata, dict) and all(type(n) is int for shape in shapes.values() for n in shape)):
            raise TypeError
        expected = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        raise IdentityError(say("header.damaged", file=path.name)) from None
    if size != expected:
        raise IdentityError(say("header.cut", file=path.name, size=size, expected=expected))
    return Header(shapes, metadata)


def identify(checkpoint: Path) -> Identity:
    """What the checkpoint in a folder (or a single safetensors file) says it is.

    Raises:
        IdentityError: a damaged file. LayoutError: no weights in the folder.
    """
    metadata: dict[str, str] = {}
    parameters = 0
    for path in weight_files(checkpoint):
        if path.suffix != ".safetensors":
            continue
        header = read_header(path)
        metadata |= header.metadata
        parameters += sum(math.prod(shape) for shape in header.shapes.values())
    return Identity(
        role=metadata.get("role"),
        family=metadata.get("family"),
        modes=_words(metadata.get("modes", "")),
        resolutions=_words(metadata.get("resolutions", "")),
        parameters=parameters,
    )


def require(
    identity: Identity,
    where: str,
    *,
    role: str | None = None,
    family: str | None = None,
    mode: str | None = None,
    resolution: str | None = None,
) -> None:
    """Refuse a checkpoint for a use that it says it is not for. What it leaves open is not refused.

    Raises:
        IdentityError: names what it is and what was wanted.
    """
    for what, got, wanted in (("role", identity.role, role), ("family", identity.family, family)):
        if got is not None and wanted is not None and got != wanted:
            raise IdentityError(f"{where} is a checkpoint of the {what} {got}; {wanted} is needed here.")
    for what, offered, asked in (("mode", identity.modes, mode), ("resolution", identity.resolutions, resolution)):
        if offered and asked is not None and asked not in offered:
            raise IdentityError(f"{where} was made for the {what} {', '.join(offered)}, not for {asked}.")


def fingerprint(checkpoint: Path) -> str:
    """The sha256 (64 hex digits) of a checkpoint's weights: of the file, or of the shards' digests in order of name.

    A download was verified when it was located, and the cache names it by its digest: it is not hashed again.
    """
    digests = []
    for path in weight_files(checkpoint):
        named = named_digest(path)
        digests.append(named if named is not None and named.kind == "sha256" else measure(path, "sha256"))
    if len(digests) == 1:
        return digests[0].value
    return hashlib.sha256("\n".join(digest.value for digest in digests).encode()).hexdigest()


def weight_files(checkpoint: Path) -> Iterator[Path]:
    """The weight files of a folder, shards sorted by name, or the file itself.

    Raises:
        LayoutError: the folder holds no weights, or not all shards.
    """
    if checkpoint.is_file():
        yield checkpoint
        return
    if not checkpoint.is_dir():
        raise LayoutError(f"{checkpoint.name} is no checkpoint.")
    for name in present(checkpoint, _ANY, checkpoint.name):
        if not name.endswith(INDEX_SUFFIX):
            yield checkpoint / name


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())

"""Features of texts that were encoded before, kept in memory and, where a folder is given, on disk.

Features depend on more than the text: on the encoder's weights and tokenizer, its dtype, the device and the versions
that compute. The owner names all of that as the cache's identity; a text under another identity is another entry, so
that a cache changes no bit of a result. Files hold numbers only, under names from which no text can be read back.
"""

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from opensora.models.text.conditioner import HFEmbedder

log = logging.getLogger(__name__)

FORMAT = 1
"""Counted up when entries are laid out differently."""
MEMORY_BYTES = 64 * 2**20
DISK_BYTES = 512 * 2**20


class EmbeddingCache:
    """Features by text and length; the ones used longest ago are dropped. Damage and full disks only cost time.

    Args:
        identity: what the features depend on besides text and length, as JSON values; needed with a folder.
        folder: where to keep them beyond this process; ``None`` for memory only.
        memory_bytes: most bytes in memory.
        disk_bytes: most bytes in the folder.
    """

    def __init__(
        self,
        identity: Mapping[str, object] | None = None,
        folder: Path | None = None,
        memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        assert identity or folder is None, "features on disk need an identity"
        self.identity = dict(identity or {})
        self.folder = folder
        self.memory_bytes = memory_bytes
        self.disk_bytes = disk_bytes
        self._held: OrderedDict[str, Tensor] = OrderedDict()
        self._held_bytes = 0

    def get(self, text: str, length: int) -> Tensor | None:
        """Features of a text on the CPU, as they were put in; ``None`` if they are not here.

        Args:
            text: as the tokenizer reads it.
            length: tokens to which it is cut or padded.
        """
        key = self._key(text, length)
        features = self._held.get(key)
        if features is None and self.folder is not None:
            features = _read(self.folder / f"{key}.safetensors")
        if features is not None:
            self._hold(key, features)
        return features

    def put(self, text: str, length: int, features: Tensor) -> None:
        """Keep the features of a text; those that are no numbers are not kept.

        Args:
            text: as the tokenizer reads it.
            length: tokens to which it is cut or padded.
            features: of any shape, dtype and device.
        """
        if not bool(torch.isfinite(features).all()):
            return
        features = features.detach().to("cpu", copy=True).contiguous()
        key = self._key(text, length)
        self._hold(key, features)
        if self.folder is not None and features.nbytes <= self.disk_bytes:
            try:
                _write(self.folder / f"{key}.safetensors", features)
                _shrink(self.folder, self.disk_bytes)
            except OSError as error:
                log.debug("the features of a text were not kept on disk: %s", error)

    def _key(self, text: str, length: int) -> str:
        """The number of threads is asked for each time, since it can change the order of additions."""
        parts = [FORMAT, self.identity, torch.get_num_threads(), length, text]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _hold(self, key: str, features: Tensor) -> None:
        """Keep as the last used."""
        if (before := self._held.pop(key, None)) is not None:
            self._held_bytes -= before.nbytes
        self._held[key] = features
        self._held_bytes += features.nbytes
        while self._held_bytes > self.memory_bytes:
            self._held_bytes -= self._held.popitem(last=False)[1].nbytes


class CachedEmbedder:
    """A :class:`HFEmbedder` that encodes each text once; called as the embedder is, with the same result.

    Texts are encoded one at a time, so that the company of others changes no bit.
    """

    def __init__(self, embedder: HFEmbedder, cache: EmbeddingCache) -> None:
        self.embedder = embedder
        self.cache = cache

    def __call__(self, text: str | list[str], added_tokens: int = 0, seq_align: int = 1) -> Tensor:
        """Features as of :meth:`HFEmbedder.forward`, on the encoder's device."""
        length = self.embedder.aligned_length(added_tokens, seq_align)
        rows = []
        for line in [text] if isinstance(text, str) else text:
            features = self.cache.get(line, length)
            if features is None:
                features = self.embedder(line, added_tokens, seq_align)[0]
                self.cache.put(line, length, features)
            rows.append(features.to(self.embedder.hf_module.device))
        return torch.stack(rows)


def _read(path: Path) -> Tensor | None:
    """Features in a file, ``None`` where there is none; a damaged one is removed."""
    try:
        with safe_open(path, "pt") as file:
            features: Tensor = file.get_tensor("features")
            if (file.metadata() or {}).get("sha256") == _digest(features):
                with contextlib.suppress(OSError):
                    os.utime(path)  # used now
                return features
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as error:
        log.debug("the kept features in %s cannot be read: %s", path.name, error)
    with contextlib.suppress(OSError):
        path.unlink()
    return None


def _write(path: Path, features: Tensor) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    os.close(handle)
    try:
        save_file({"features": features}, partial, {"sha256": _digest(features)})
        os.replace(partial, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        Path(partial).unlink(missing_ok=True)


def _shrink(folder: Path, most: int) -> None:
    """Remove the files used longest ago until the rest fits. Other processes may do the same at once."""
    found = []
    for path in [*folder.glob("*.safetensors"), *folder.glob(".*.part")]:
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= most:
            break
        path.unlink(missing_ok=True)
        total -= size


def _digest(features: Tensor) -> str:
    return hashlib.sha256(features.contiguous().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()

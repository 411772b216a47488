"""Whether a file is what the hub says it is, and a ledger that remembers it.

A transfer of the right length can still be wrong, so every downloaded file is hashed by us: large files against the
sha256 of their LFS entry, small ones against their git blob id. Hashing 20 GB takes a while, so the result is kept
in a ledger beside the files, with the size and time stamp for which it holds.
"""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LEDGER = ".opensora-verified.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_ID = re.compile(r"[0-9a-f]{40}")
_CHUNK = 8 << 20


@dataclass(frozen=True)
class Digest:
    """A content hash: sha256 of the bytes, or the id git gives them."""

    kind: str
    """"sha256" or "git"."""
    value: str
    """Lower-case hexadecimal, 64 or 40 digits."""

    def __post_init__(self) -> None:
        pattern = {"sha256": _SHA256, "git": _GIT_ID}.get(self.kind)
        if pattern is None or not pattern.fullmatch(self.value):
            raise ValueError(f"got the {self.kind} digest {self.value!r}, expected 64 (sha256) or 40 (git) hex digits.")

    @classmethod
    def parse(cls, text: str) -> "Digest | None":
        """The digest that a hexadecimal string is by its length, None for anything else (an opaque ETag)."""
        kinds = {64: "sha256", 40: "git"}
        try:
            return cls(kinds.get(len(text), ""), text.lower())
        except ValueError:
            return None


def measure(path: Path, kind: str, on_bytes: Callable[[int], None] | None = None) -> Digest:
    """Hash a file.

    Args:
        path: the file; links are followed.
        kind: "sha256" or "git".
        on_bytes: called with the number of bytes read so far; what it raises is passed on.
    """
    hasher = hashlib.sha256() if kind == "sha256" else hashlib.sha1(usedforsecurity=False)
    if kind == "git":
        hasher.update(b"blob %d\0" % path.stat().st_size)
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
            done += len(chunk)
            if on_bytes is not None:
                on_bytes(done)
    return Digest(kind, hasher.hexdigest())


def named_digest(path: Path) -> Digest | None:
    """The digest in the name of the blob that a cache entry links to; the cache names blobs by the hub's digest."""
    return Digest.parse(path.readlink().name) if path.is_symlink() else None


class Ledger:
    """Digests already verified in one repository's folder of the cache. Losing it costs only time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER

    def lookup(self, path: Path) -> Digest | None:
        """The digest verified for `path`, unless the file has changed since (its size or time stamp)."""
        entry = self._read().get(self._key(path), {})
        return Digest.parse(entry.get("digest", "")) if entry.get("stamp") == _stamp(path) else None

    def recorded(self, path: Path) -> Digest | None:
        """The digest that `path` had when it was verified, even if the file has been touched since."""
        return Digest.parse(self._read().get(self._key(path), {}).get("digest", ""))

    def record(self, path: Path, digest: Digest) -> None:
        """Remember that `path` was verified. A cache that cannot be written is left as it is."""
        entries = self._read() | {self._key(path): {"digest": digest.value, "stamp": _stamp(path)}}
        with contextlib.suppress(OSError):
            self._write(entries)

    def forget(self, path: Path) -> None:
        """Drop what is known of `path`."""
        entries = self._read()
        if entries.pop(self._key(path), None) is not None:
            with contextlib.suppress(OSError):
                self._write(entries)

    def _key(self, path: Path) -> str:
        return path.relative_to(self.path.parent).as_posix()

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}

    def _write(self, entries: dict[str, dict[str, str]]) -> None:
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=LEDGER)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(entries, file, indent=1, sort_keys=True)
            os.replace(name, self.path)
        finally:
            Path(name).unlink(missing_ok=True)


def _stamp(path: Path) -> str:
    """Size and modification time: what a file must keep for its digest to hold."""
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"

"""Large files on their way: what has come of one stays, and the next download goes on from there.

huggingface_hub gives every transfer a file of its own and throws it away when it breaks off. Here its transfer, which
can begin at any byte, writes into a file that stays until it is whole: after a pause, a broken connection, a kill or a
restart only the rest is asked for. The file is named by the sha256 that the hub states, so it is never continued with
the bytes of another, and what it became is hashed before anybody uses it.
"""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from opensora.checkpoint import errors
from opensora.sentences import say

SUFFIX = ".opensora-part"
LOCK = ".opensora-download.lock"
FORGOTTEN = 30 * 86_400.0
"""Seconds after which nobody comes back for a part."""
LARGEST = 50_000_000_000
"""Bytes of a file above which the hub refuses plain transfers."""


def part_of(folder: Path, sha256: str) -> Path:
    """The part of a file in a repository's folder of the cache, whether or not there is one."""
    return folder / "blobs" / f"{sha256}{SUFFIX}"


def size_of(part: Path) -> int:
    """Bytes that have come of a file."""
    try:
        return part.stat().st_size
    except OSError:
        return 0


def fetch(url: str, headers: dict[str, str], part: Path, size: int, bar: Any) -> None:
    """Transfer what is missing of a part; it then has all bytes, which nobody has looked at yet.

    Args:
        url: of the file on the hub.
        headers: of the request, with the token.
        part: where it is written; an unfinished one is continued.
        size: bytes of the whole file.
        bar: class in the place of the client's progress bar.
    """
    from huggingface_hub.file_download import http_get

    part.parent.mkdir(parents=True, exist_ok=True)
    if size_of(part) > size:
        part.unlink()
    try:
        with part.open("ab") as file:
            http_get(url, file, resume_size=file.tell(), headers=headers, expected_size=size, tqdm_class=bar)
    finally:
        if not size_of(part):
            part.unlink(missing_ok=True)


def held(folder: Path) -> int:
    """Bytes of all parts in a repository's folder."""
    return sum(size_of(part) for part in _parts(folder))


def discard(folder: Path) -> None:
    """Delete all parts in a repository's folder."""
    for part in _parts(folder):
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Delete parts that nobody came back for."""
    for part in _parts(folder):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > FORGOTTEN:
                part.unlink()


@contextmanager
def alone(folder: Path, repo_id: str) -> Iterator[None]:
    """Be the only one of this program's processes that downloads a repository: two would write into one part.

    Raises:
        BusyError: another one is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise errors.BusyError(say("hub.busy", repo=repo_id)) from None
    try:
        yield
    finally:
        lock.release()


def _parts(folder: Path) -> list[Path]:
    return sorted((folder / "blobs").glob(f"*{SUFFIX}"))

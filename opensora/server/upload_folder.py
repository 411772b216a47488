"""The folder of a server's uploads, below the system's folder for temporary files; removed also after a kill.

A folder ``opensora-uploads-…`` belongs to the process that holds the lock on the file of that name with ``.lock``. The
system lets go of a lock when its process ends, however it ends: what has a lock that can be taken belongs to nobody.
"""

import contextlib
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX, LOCK = "opensora-uploads-", ".lock"


@contextmanager
def upload_folder() -> Iterator[Path]:
    """A new folder that is there until the block ends. Folders that this user's killed servers left are removed first.

    Raises:
        OSError: nothing can be written to the system's folder for temporary files.
    """
    root = Path(tempfile.gettempdir())
    remove_left(root)
    folder = root / f"{PREFIX}{secrets.token_hex(8)}"
    lock = folder.with_name(f"{folder.name}{LOCK}")
    try:
        with FileLock(lock, mode=0o600):  # before the folder is there, so that no other server takes it for left
            folder.mkdir(mode=0o700)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        _remove_file(lock)


def remove_left(root: Path) -> None:
    """Remove the folders below ``root`` whose servers are gone; what is another user's, or has no lock, stays."""
    for lock in root.glob(f"{PREFIX}*{LOCK}"):
        folder = lock.with_name(lock.name.removesuffix(LOCK))
        if not _is_own(lock, stat.S_IFREG) or (os.path.lexists(folder) and not _is_own(folder, stat.S_IFDIR)):
            continue
        try:
            with FileLock(lock, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):  # its server runs, or another one removes it in this moment
            continue
        _remove_file(lock)


def _is_own(path: Path, kind: int) -> bool:
    """Whether a path is of that kind, no link to something else, and this user's."""
    try:
        found = path.lstat()
    except OSError:
        return False
    if sys.platform != "win32" and found.st_uid != os.getuid():
        return False
    return stat.S_IFMT(found.st_mode) == kind


def _remove_file(path: Path) -> None:
    with contextlib.suppress(OSError):  # on Windows somebody may be looking at it; the next start removes it
        path.unlink()

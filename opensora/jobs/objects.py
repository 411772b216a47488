"""Files of jobs in a storage that fsspec reaches, such as ``s3://bucket/videos``.

An object store has no renames: the files of an attempt lie under its lease, and they are a result from the moment on
that the board names that lease. What was uploaded is read back and compared before that, and so is what is downloaded.
"""

import errno
import hashlib
import logging
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opensora.jobs.places import Places, read_manifest, sha256
from opensora.sentences import say

log = logging.getLogger(__name__)

FLAT = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss"}
"""Storages without folders: a name with slashes is a name. To make one there could make a bucket that nobody wants."""
CHUNK = 2**20
"""Bytes that are read at once."""


class ObjectStorage:
    """Objects below an address, see :class:`opensora.jobs.storage.Storage`.

    Every failure is an :class:`OSError`, whichever errors the storage's package has.

    Args:
        places: the output folder of this machine, which holds copies.
        fs: the file system.
        root: path in it.
    """

    def __init__(self, places: Places, fs: Any, root: str) -> None:
        self._places, self._fs, self._root = places, fs, root.rstrip("/")
        kinds = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
        self._flat = bool(kinds & FLAT)

    def check(self) -> None:
        """Write, read and delete a small object.

        Raises:
            OSError: one of these is not possible.
        """
        name = f"{self._root}/check-{secrets.token_hex(8)}"
        with _explained():
            self._make_folder(self._root)
            self._fs.pipe_file(name, b"opensora")
            try:
                if self._fs.cat_file(name) != b"opensora":
                    raise OSError(errno.EIO, "what was written there reads otherwise")
            finally:
                self._fs.rm_file(name)

    def keep_given(self, job_id: str, revision: int) -> None:
        """Upload the pictures and clips."""
        self._upload(self._places.given(job_id, revision), self._given(job_id, revision))

    def given(self, job_id: str, revision: int, folder: Path) -> Path:
        """Download the pictures and clips."""
        self._download(self._given(job_id, revision), folder, {})
        return folder

    def published(self, job_id: str) -> dict[str, Any] | None:
        """Only the board knows."""
        return None

    def publish(self, job_id: str, lease: str, making: Path) -> None:
        """Upload the files."""
        self._upload(making, self._results(job_id, lease))

    def fetch(self, job_id: str, outcome: Mapping[str, Any]) -> None:
        """Download the files, unless they are here."""
        folder = self._places.result(job_id)
        if read_manifest(folder) is None:
            hashes = {file["name"]: file["sha256"] for file in outcome["files"]}
            self._download(self._results(job_id, outcome["lease"]), folder, hashes)

    def lacks(self, job_id: str, outcome: Mapping[str, Any] | None) -> bool:
        """Whether the files of a finished job are not here."""
        files = None if outcome is None else outcome.get("files")
        return bool(files) and read_manifest(self._places.result(job_id)) is None

    def remove(self, job_id: str) -> None:
        """Delete a job's objects, all by one call, and after that this machine's copies."""
        with _explained():
            self._fs.invalidate_cache()
            folders = [f"{self._root}/{kind}/{job_id}" for kind in ("given", "results")]
            if there := [folder for folder in folders if self._is_there(folder)]:
                self._fs.rm(there, recursive=True)
        self._places.remove(job_id)

    def _is_there(self, folder: str) -> bool:
        """Whether there are objects of it; fsspec's own function says no where the storage cannot be reached."""
        try:
            self._fs.ls(folder, detail=False)
        except FileNotFoundError:
            return False
        return True

    def _given(self, job_id: str, revision: int) -> str:
        return f"{self._root}/given/{job_id}/{revision}"

    def _results(self, job_id: str, lease: str) -> str:
        return f"{self._root}/results/{job_id}/{lease}"

    def _make_folder(self, folder: str) -> None:
        if not self._flat:
            self._fs.makedirs(folder, exist_ok=True)

    def _upload(self, folder: Path, target: str) -> None:
        """Every file of a folder, read back and compared."""
        files = sorted(file for file in folder.iterdir() if file.is_file())
        with _explained():
            if files:
                self._make_folder(target)
            for file in files:
                self._fs.put_file(str(file), f"{target}/{file.name}")
                if self._sha256(f"{target}/{file.name}") != sha256(file):
                    raise OSError(errno.EIO, say("storage.differs", name=file.name))

    def _sha256(self, path: str) -> str:
        digest = hashlib.sha256()
        with self._fs.open(path, "rb", block_size=CHUNK) as opened:
            while part := opened.read(CHUNK):
                digest.update(part)
        return digest.hexdigest()

    def _download(self, source: str, folder: Path, hashes: Mapping[str, str]) -> None:
        """Files appear in the folder all at once.

        Args:
            hashes: of files by name, which are compared.
        """
        partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
        partial.mkdir(parents=True)
        try:
            with _explained():
                for name in {*self._names(source), *hashes}:
                    self._fs.get_file(f"{source}/{name}", str(partial / name))
            for name, expected in hashes.items():
                if sha256(partial / name) != expected:
                    raise OSError(errno.EIO, say("storage.differs", name=name))
            try:
                partial.rename(folder)
            except OSError:
                if not folder.exists():  # another thread was faster
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _names(self, folder: str) -> list[str]:
        """Names of the files in a folder; none if it is not there, as where no picture was given."""
        self._fs.invalidate_cache()
        try:
            found = [str(path).rsplit("/", 1)[-1] for path in self._fs.ls(folder, detail=False)]
        except FileNotFoundError:
            return []
        return [name for name in found if name]


@contextmanager
def _explained() -> Iterator[None]:
    """Turn whatever a storage's package raises into an :class:`OSError` with a reason."""
    try:
        yield
    except OSError as error:
        if error.strerror:
            raise
        raise OSError(error.errno or errno.EIO, say("storage.failed", reason=_reason(error))) from error
    except Exception as error:
        raise OSError(errno.EIO, say("storage.failed", reason=_reason(error))) from error


def _reason(error: Exception) -> str:
    """What an error says, without what follows its first line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]

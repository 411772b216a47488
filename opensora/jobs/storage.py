"""Where finished files and given pictures lie: a folder, or what fsspec reaches, such as ``s3://bucket/videos``.

A folder gets a job's files at once, by a rename. An object store has no such thing: there the files of an attempt lie
under its lease, and they are a result from the moment on that the board names that lease.
"""

import logging
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import fsspec

from opensora.jobs.places import Places, read_manifest, sync

log = logging.getLogger(__name__)


class Storage(Protocol):
    """What jobs need of the place where files lie."""

    def keep_given(self, job_id: str, revision: int) -> None:
        """Bring what a request was given, which lies in the job's folder, to where every worker finds it."""

    def given(self, job_id: str, revision: int, folder: Path) -> Path:
        """Folder on this machine with what a request was given; where that is nowhere yet, it comes to ``folder``."""

    def published(self, job_id: str) -> dict[str, Any] | None:
        """The manifest of a job whose files are in place, if that can be known without the board."""

    def publish(self, job_id: str, lease: str, making: Path) -> None:
        """Bring files that were written aside into place."""

    def fetch(self, job_id: str, lease: str) -> None:
        """Bring a finished job's files to this machine's output folder."""

    def remove(self, job_id: str) -> None:
        """Delete everything of a job."""


def open_storage(places: Places, url: str | None) -> Storage:
    """The storage of that address; ``None`` for the output folder itself.

    Raises:
        ValueError: no such kind of storage, or its package is not installed.
    """
    if url is None:
        return FolderStorage(places)
    try:
        fs, root = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise ValueError(f"The storage {url} cannot be used: {error}. Give an address that fsspec knows.") from error
    return ObjectStorage(places, fs, root)


class FolderStorage:
    """The output folder, on this machine or shared by all."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def keep_given(self, job_id: str, revision: int) -> None:
        """Nothing to do: the folder is where everybody looks."""

    def given(self, job_id: str, revision: int, folder: Path) -> Path:
        """The folder that the request was packed into."""
        return self._places.given(job_id, revision)

    def published(self, job_id: str) -> dict[str, Any] | None:
        """What lies beside the files."""
        return read_manifest(self._places.result(job_id))

    def publish(self, job_id: str, lease: str, making: Path) -> None:
        """One rename; files that another attempt brought into place before stay."""
        sync(making)
        try:
            making.rename(self._places.result(job_id))
        except OSError:
            if self.published(job_id) is None:
                raise
        sync(self._places.outputs)

    def fetch(self, job_id: str, lease: str) -> None:
        """Nothing to do: they are there."""

    def remove(self, job_id: str) -> None:
        """Delete everything of a job, its results last."""
        self._places.remove(job_id)


class ObjectStorage:
    """Objects below an address.

    Args:
        places: the output folder of this machine, which holds copies.
        fs: the file system.
        root: path in it.
    """

    def __init__(self, places: Places, fs: Any, root: str) -> None:
        self._places, self._fs, self._root = places, fs, root.rstrip("/")

    def keep_given(self, job_id: str, revision: int) -> None:
        """Upload the pictures and clips."""
        self._upload(self._places.given(job_id, revision), self._given(job_id, revision))

    def given(self, job_id: str, revision: int, folder: Path) -> Path:
        """Download the pictures and clips."""
        self._download(self._given(job_id, revision), folder)
        return folder

    def published(self, job_id: str) -> dict[str, Any] | None:
        """Only the board knows."""
        return None

    def publish(self, job_id: str, lease: str, making: Path) -> None:
        """Upload the files."""
        self._upload(making, self._results(job_id, lease))

    def fetch(self, job_id: str, lease: str) -> None:
        """Download the files, unless they are here."""
        folder = self._places.result(job_id)
        if read_manifest(folder) is None:
            self._download(self._results(job_id, lease), folder)

    def remove(self, job_id: str) -> None:
        """Delete a job's objects and this machine's copies."""
        self._places.remove(job_id)
        for folder in (f"{self._root}/given/{job_id}", f"{self._root}/results/{job_id}"):
            if self._fs.exists(folder):
                self._fs.rm(folder, recursive=True)

    def _given(self, job_id: str, revision: int) -> str:
        return f"{self._root}/given/{job_id}/{revision}"

    def _results(self, job_id: str, lease: str) -> str:
        return f"{self._root}/results/{job_id}/{lease}"

    def _upload(self, folder: Path, target: str) -> None:
        files = sorted(file for file in folder.iterdir() if file.is_file())
        if files:
            self._fs.makedirs(target, exist_ok=True)
        for file in files:
            self._fs.put_file(str(file), f"{target}/{file.name}")

    def _download(self, source: str, folder: Path) -> None:
        """Files appear in the folder all at once."""
        partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
        partial.mkdir(parents=True)
        try:
            for name in _names(self._fs, source):
                self._fs.get_file(f"{source}/{name}", str(partial / name))
            try:
                partial.rename(folder)
            except OSError:
                if not folder.exists():  # another thread was faster
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _names(fs: Any, folder: str) -> Iterable[str]:
    """Names of the files in a folder; none if it is not there, as where no picture was given."""
    fs.invalidate_cache()
    if not fs.exists(folder):
        return []
    return [str(path).rsplit("/", 1)[-1] for path in fs.ls(folder, detail=False)]

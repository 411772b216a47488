"""Where finished files and given pictures lie: a folder, or what fsspec reaches, such as ``s3://bucket/videos``."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import fsspec

from opensora.jobs.objects import ObjectStorage
from opensora.jobs.places import Places, read_manifest, sync

PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"""What pip has to install for a kind of storage."""

KEYS = (
    " Credentials are read from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and the address of a server that is not "
    "Amazon's from AWS_ENDPOINT_URL."
)


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

    def fetch(self, job_id: str, outcome: Mapping[str, Any]) -> None:
        """Bring the files that a job ended with to this machine's output folder, and make sure that they are those."""

    def lacks(self, job_id: str, outcome: Mapping[str, Any] | None) -> bool:
        """Whether a job has files that are not in this machine's output folder, but can be fetched."""

    def remove(self, job_id: str) -> None:
        """Delete everything of a job."""


def open_storage(places: Places, url: str | None) -> Storage:
    """The storage of that address; ``None`` for the output folder itself. Nothing is written there yet.

    Raises:
        ValueError: no such kind of storage, its package is not installed, or it lacks a name.
    """
    if url is None:
        return FolderStorage(places)
    kind, shown = url.partition("://")[0], shown_address(url)
    try:
        fs, root = fsspec.core.url_to_fs(url)
    except ImportError:
        package = PACKAGES.get(kind, "the package that fsspec names for it")
        raise ValueError(
            f"The storage {shown} needs a package that is not installed; install it with: pip install {package}."
        ) from None
    except ValueError as error:
        raise ValueError(f"The storage {shown} cannot be used: {error}. Give an address that fsspec knows.") from None
    if not root.strip("/"):
        raise ValueError(f"The storage {shown} lacks a name; expected one such as s3://bucket/videos.")
    return ObjectStorage(places, fs, root)


def check_storage(storage: Storage, url: str | None) -> None:
    """Make sure that files can be written to a storage and read from it.

    Raises:
        ValueError: they cannot; a sentence says why and what to look at.
    """
    if not isinstance(storage, ObjectStorage):
        return
    try:
        storage.check()
    except OSError as error:
        at = url or ""
        raise ValueError(
            f"The storage {shown_address(at)} cannot be written and read: {error.strerror}. Check that it exists and "
            f"who may use it.{KEYS if at.startswith('s3') else ''}"
        ) from error


def shown_address(url: str) -> str:
    """An address without a name and password that may stand in it."""
    return re.sub(r"(?<=://)[^/@]*@", "", url)


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

    def fetch(self, job_id: str, outcome: Mapping[str, Any]) -> None:
        """Nothing to do: they are there."""

    def lacks(self, job_id: str, outcome: Mapping[str, Any] | None) -> bool:
        """There is no other place."""
        return False

    def remove(self, job_id: str) -> None:
        """Delete everything of a job, its results last."""
        self._places.remove(job_id)

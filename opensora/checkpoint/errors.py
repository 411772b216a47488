"""What can go wrong between a hub and this machine, as sentences that say what to do.

Messages name repositories, files of repositories and the hub's host; never a folder of this machine, a token or a
signed address, because the page shows them to visitors.
"""

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from opensora.sentences import say


class HubError(ValueError):
    """Weights could not be had from the hub. The message is for people."""


class AccessDeniedError(HubError):
    """The repository is gated or private, or the token is not accepted."""


class NotOnHubError(HubError):
    """The repository, revision or file does not exist."""


class UnreachableError(HubError):
    """No connection, or the hub does not answer properly."""


class OfflineError(HubError):
    """The network is forbidden and the files are not here."""


class InterruptedDownloadError(HubError):
    """The connection ended before the whole file was here."""


class BusyError(HubError):
    """Another program downloads the same repository."""


class CorruptFileError(HubError):
    """A file is not what the hub says it is."""


class StorageError(HubError):
    """No room, or no right to write, where downloads go."""


def gigabytes(count: int) -> str:
    """A number of bytes for people: "24.9 GB", "310 MB", "12 kB" (powers of 1000)."""
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}" if count < 100 * size else f"{count / size:.0f} {unit}"
    return f"{count / 1000:.0f} kB"


def no_room(needed: int, free: int) -> StorageError:
    """The error for a download that does not fit."""
    return StorageError(say("hub.room", need=gigabytes(needed), free=gigabytes(free)))


@contextmanager
def explained(repo_id: str, endpoint: str) -> Iterator[None]:
    """Turn what the hub's client raises into a `HubError`; everything else passes through."""
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled, XetDownloadError

    host = urlsplit(endpoint).netloc.rpartition("@")[2] or "the hub"
    try:
        yield
    except HubError:
        raise
    except OfflineModeIsEnabled as error:
        raise offline(repo_id) from error
    except (HTTPError, OSError, XetDownloadError) as error:
        raise _translate(error, repo_id, host) from error
    except json.JSONDecodeError as error:
        raise UnreachableError(say("hub.unlike", host=host)) from error


def offline(repo_id: str) -> OfflineError:
    """The error for weights that are not here while the network is forbidden."""
    return OfflineError(say("hub.offline", repo=repo_id))


def _translate(error: Exception, repo_id: str, host: str) -> HubError:
    """The sentence for an error of the hub's client."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return AccessDeniedError(say("hub.gated", repo=repo_id, host=host))
    if isinstance(error, RepositoryNotFoundError):
        return NotOnHubError(say("hub.none", repo=repo_id, host=host))
    if isinstance(error, RevisionNotFoundError | RemoteEntryNotFoundError):
        no_revision = isinstance(error, RevisionNotFoundError)
        told = {"repo": repo_id, "host": host}
        return NotOnHubError(say("hub.revision", **told) if no_revision else say("hub.file", **told))
    if isinstance(error, HfHubHTTPError):
        return _status(error.response.status_code, repo_id, host)
    if isinstance(error, LocalEntryNotFoundError):
        cause = error.__cause__
        return _translate(cause, repo_id, host) if isinstance(cause, HfHubHTTPError) else _unreachable(host)
    if isinstance(error, OSError):
        return _storage(error, repo_id)
    name = type(error).__name__
    if name in ("ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol", "InvalidURL"):
        return _unreachable(host)
    return InterruptedDownloadError(say("hub.broke", repo=repo_id, host=host, kind=name))


def _status(status: int, repo_id: str, host: str) -> HubError:
    """The sentence for an HTTP status without a more exact code."""
    if status in (401, 403):
        return AccessDeniedError(say("hub.denied", repo=repo_id, host=host, status=status))
    if status == 404:
        return NotOnHubError(say("hub.absent", repo=repo_id, host=host))
    if status == 429:
        return UnreachableError(say("hub.slow", host=host))
    return UnreachableError(say("hub.status", repo=repo_id, host=host, status=status))


def _unreachable(host: str) -> UnreachableError:
    return UnreachableError(say("hub.away", host=host))


def _storage(error: OSError, repo_id: str) -> HubError:
    """The sentence for an error of the operating system, or a transfer cut short."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageError(say("hub.full", repo=repo_id))
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(say("hub.unwritable"))
    if error.errno is None:
        return InterruptedDownloadError(say("hub.early", repo=repo_id))
    return StorageError(say("hub.disk", repo=repo_id, reason=f"{error.strerror}"))

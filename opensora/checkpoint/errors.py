"""What can go wrong between a hub and this machine, as sentences that say what to do.

Messages name repositories, files of repositories and the hub's host; never a folder of this machine, a token or a
signed address, because the page shows them to visitors.
"""

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


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
    return StorageError(
        f"The download needs {gigabytes(needed)}, and {gigabytes(free)} are free where downloads go. "
        "Free some space, or point HF_HOME at a larger disk."
    )


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
        raise UnreachableError(
            f"{host} does not answer like a hub: perhaps a log-in page of this network, or HF_ENDPOINT is wrong."
        ) from error


def offline(repo_id: str) -> OfflineError:
    """The error for weights that are not here while the network is forbidden."""
    return OfflineError(
        f"{repo_id} is not on this machine and offline mode is on. Unset HF_HUB_OFFLINE (and TRANSFORMERS_OFFLINE) and "
        "try again, or copy the download folder of a machine that has it and point HF_HOME there."
    )


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
        return AccessDeniedError(
            f"{repo_id} is gated: open https://{host}/{repo_id} in a browser and accept its terms, then log in with "
            "`hf auth login` or set HF_TOKEN, and try again."
        )
    if isinstance(error, RepositoryNotFoundError):
        return NotOnHubError(
            f"{host} has no repository {repo_id}, or it is private. Check the name; for a private one log in with "
            "`hf auth login` or set HF_TOKEN."
        )
    if isinstance(error, RevisionNotFoundError | RemoteEntryNotFoundError):
        what = "revision" if isinstance(error, RevisionNotFoundError) else "file"
        return NotOnHubError(f"The repository {repo_id} on {host} has no such {what} (it may have been renamed).")
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
    return InterruptedDownloadError(
        f"The transfer of {repo_id} from {host} broke off ({name}). Try again: it goes on from what has come."
    )


def _status(status: int, repo_id: str, host: str) -> HubError:
    """The sentence for an HTTP status without a more exact code."""
    if status in (401, 403):
        return AccessDeniedError(
            f"{host} refuses access to {repo_id} ({status}). Log in with `hf auth login` or set HF_TOKEN to a token "
            "that may read it; an expired token must be replaced or removed."
        )
    if status == 404:
        return NotOnHubError(f"{host} does not offer {repo_id} (404). Check the name, and HF_ENDPOINT if it is set.")
    if status == 429:
        return UnreachableError(f"{host} asks to slow down (429). Wait some minutes; being logged in raises the limit.")
    return UnreachableError(f"{host} answered {status} for {repo_id}. Try again later, or set HF_ENDPOINT to a mirror.")


def _unreachable(host: str) -> UnreachableError:
    return UnreachableError(
        f"{host} cannot be reached. Check the connection and proxy, or set HF_ENDPOINT to a mirror; with the files "
        "already here, HF_HUB_OFFLINE=1 works without a network."
    )


def _storage(error: OSError, repo_id: str) -> HubError:
    """The sentence for an error of the operating system, or a transfer cut short."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageError(
            f"The disk where downloads go filled up while {repo_id} was coming. Free some space and try "
            "again: it goes on from what has come. Or point HF_HOME at a larger disk."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError("Downloads cannot be written where they should go. Point HF_HOME at a folder of your own.")
    if error.errno is None:
        return InterruptedDownloadError(
            f"The transfer of {repo_id} ended early. Try again: it goes on from what has come."
        )
    return StorageError(f"Reading or writing the downloads of {repo_id} failed: {error.strerror}.")

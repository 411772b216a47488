"""Telling other servers of finished jobs: only hosts that were allowed, signed, tried again, never redirected.

The signature follows the Standard Webhooks: headers ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature``,
which is ``v1,`` and the base64 of HMAC-SHA256 over ``id.timestamp.body``. What is still to be told is kept in a folder,
so a restart forgets nothing.
"""

import base64
import hashlib
import hmac
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential_jitter,
)
from tenacity.nap import sleep_using_event

from opensora.jobs.queue import JobQueue, JobState, JobView
from opensora.server.errors import ApiError
from opensora.server.settings import is_loopback

log = logging.getLogger(__name__)

LONGEST_URL = 2000
ATTEMPTS = 8
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
"""Seconds between two attempts; the first, doubled every time, and the most."""
TIMEOUT = 10.0
"""Seconds for one attempt to connect, and for every part of the answer."""
LOOK = 0.5
"""Seconds between two looks at the jobs that somebody is to be told of."""
WORKERS = 2


class TryAgain(Exception):
    """The host did not take it this time."""


@dataclass(frozen=True)
class Pending:
    """Somebody who is to be told of a job."""

    job: str
    owner: str
    url: str
    id: str
    """Of the message; the same at every attempt, so that the host can tell."""


class Webhooks:
    """Watches jobs and tells of their end.

    Args:
        queue: where the jobs are.
        folder: keeps who is still to be told.
        hosts: that may be told, each with a port where it is not 443.
        secret: signs.
        describe: a job as JSON values.
        first_pause: seconds before the second attempt.
    """

    def __init__(
        self,
        queue: JobQueue,
        folder: Path,
        hosts: Iterable[str],
        secret: str,
        describe: Callable[[JobView], dict[str, Any]],
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self._queue, self._folder, self._secret, self._describe = queue, folder, secret, describe
        self._hosts = frozenset(map(str.lower, hosts))
        self._wait = wait_exponential_jitter(multiplier=first_pause, max=LONGEST_PAUSE, jitter=first_pause / 2)
        folder.mkdir(parents=True, exist_ok=True)
        self._pending = {p.job: p for p in map(_read, folder.glob("*.json")) if p is not None}
        self._lock, self._news, self._closing = threading.Lock(), threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="opensora-webhook")
        self._news.set()
        self._thread = threading.Thread(target=self._follow, name="opensora-webhooks", daemon=True)
        self._thread.start()

    def checked(self, url: Any) -> str:
        """The address, if it may be told.

        Raises:
            ApiError: it may not; says why.
        """
        if (
            not isinstance(url, str)
            or len(url) > LONGEST_URL
            or not url.isascii()
            or not url.isprintable()
            or " " in url
        ):
            raise _refused(
                f"expected an address of up to {LONGEST_URL} characters such as https://hooks.example.com/x."
            )
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _refused("this is no address.") from None
        host = (parts.hostname or "").lower()
        if "\\" in url or "@" in parts.netloc or parts.fragment or not host:
            raise _refused("an address with a user, a fragment, a backslash or no host is not called.")
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
            raise _refused("expected https, or http to this machine itself.")
        shown = f"[{host}]" if ":" in host else host
        usual = 443 if parts.scheme == "https" else 80
        named = shown if port in (None, 443) and parts.scheme == "https" else f"{shown}:{port or usual}"
        if named not in self._hosts:
            raise _refused(f"{named} is not among the hosts that this server may tell; see --webhook-host.")
        return url

    def watch(self, job_id: str, owner: str, url: str) -> None:
        """Tell an address when a job has ended, also if this process ends before."""
        pending = Pending(job_id, owner, url, f"msg_{secrets.token_urlsafe(16)}")
        path = self._path(job_id)
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(asdict(pending)), encoding="utf-8")
        partial.replace(path)
        with self._lock:
            self._pending[job_id] = pending
        self._news.set()

    def close(self) -> None:
        """Stop; what was not told is told after the next start."""
        self._closing.set()
        self._news.set()
        self._thread.join(timeout=30)
        self._pool.shutdown(wait=True)

    def _follow(self) -> None:
        """Look at the jobs while there are any to be told of; rest otherwise."""
        while not self._closing.is_set():
            self._news.wait()
            with self._lock:
                waiting = list(self._pending.values())
                if not waiting:
                    self._news.clear()
                    continue
            for pending in waiting:
                view = self._queue.view(pending.job, pending.owner)
                if view is None or view.state.finished:
                    with self._lock:
                        del self._pending[pending.job]
                    if view is None:  # deleted before it could be told
                        self._path(pending.job).unlink(missing_ok=True)
                    else:
                        self._pool.submit(self._tell, pending, view)
            self._closing.wait(LOOK)

    def _tell(self, pending: Pending, view: JobView) -> None:
        """Deliver, with pauses between the attempts; give up after the last."""
        kind = "video.completed" if view.state is JobState.DONE else f"video.{view.state}"
        body = json.dumps({"type": kind, "data": self._describe(view)}).encode()
        attempts = Retrying(
            stop=stop_after_attempt(ATTEMPTS) | stop_when_event_set(self._closing),
            wait=self._wait,
            retry=retry_if_exception_type(TryAgain),
            sleep=sleep_using_event(self._closing),
        )
        host = urlsplit(pending.url).hostname
        try:
            attempts(self._deliver, pending, body)
        except RetryError:
            if self._closing.is_set():
                return  # it is told after the next start
            log.warning("%s was not told of a video: it did not answer %d times", host, ATTEMPTS)
        except ApiError as error:  # the hosts that may be told are others than before
            log.warning("%s is not told of a video: %s", host, error)
        except Exception:
            log.exception("%s was not told of a video", host)
        self._path(pending.job).unlink(missing_ok=True)

    def _deliver(self, pending: Pending, body: bytes) -> None:
        """One attempt. An answer of 2xx is success; what will not get better is given up at once."""
        url = self.checked(pending.url)
        stamp = str(int(time.time()))
        headers = {
            "content-type": "application/json",
            "user-agent": "opensora-webhooks",
            "webhook-id": pending.id,
            "webhook-timestamp": stamp,
            "webhook-signature": signature(self._secret, pending.id, stamp, body),
        }
        try:
            with (
                httpx.Client(follow_redirects=False, timeout=TIMEOUT, trust_env=False) as client,
                client.stream("POST", url, content=body, headers=headers) as answer,
            ):
                status = answer.status_code  # what else it says is not read
        except (httpx.HTTPError, OSError) as error:
            raise TryAgain from error
        if status in (408, 425, 429) or status >= 500:
            raise TryAgain
        if not 200 <= status < 300:
            log.warning("%s refused to be told of a video with %d", urlsplit(url).hostname, status)

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.json"


def signature(secret: str, message: str, stamp: str, body: bytes) -> str:
    """Value of ``webhook-signature``."""
    signed = hmac.digest(secret.encode(), f"{message}.{stamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


def _read(path: Path) -> Pending | None:
    try:
        return Pending(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        log.warning("%s cannot be read; nobody is told of that video", path.name)
        return None


def _refused(why: str) -> ApiError:
    return ApiError(422, "invalid_request", f"This webhook address cannot be used: {why}", "webhook_url")

"""Jobs as programs see them: made, looked at, cancelled and deleted, always by an owner. REST, MCP and the page's named
endpoints are three doors to this."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opensora.jobs.queue import JobQueue, JobState, JobView, QueueFull
from opensora.jobs.record import Priority
from opensora.pipelines import lora_folder
from opensora.pipelines.errors import RequestError, shown
from opensora.pipelines.result import role_of
from opensora.server import fields
from opensora.server.errors import ApiError
from opensora.server.room import Doorkeeper
from opensora.server.webhooks import Webhooks

KINDS: Mapping[str, str] = {".mp4": "video/mp4", ".png": "image/png"}
FORMS: Mapping[str, str] = {"gif": "image/gif", "webm": "video/webm", "zip": "application/zip"}
"""Other forms of a clip."""
MOST_LISTED = 100
PRIORITY, WEBHOOK = "priority", "webhook_url"
"""What is sent beside the fields of a request."""


class Videos:
    """Programs' jobs.

    Args:
        queue: makes them.
        door: refuses what cannot be made.
        webhooks: tells hosts of finished ones; ``None``: none are told.
    """

    def __init__(self, queue: JobQueue, door: Doorkeeper, webhooks: Webhooks | None = None) -> None:
        self.queue, self._door, self._webhooks = queue, door, webhooks

    @property
    def settings(self) -> Mapping[str, dict[str, Any]]:
        """Schema of every value that :meth:`create` takes, by name."""
        found: dict[str, dict[str, Any]] = fields.body_schema()["properties"]
        return found

    @property
    def uploads(self) -> Mapping[str, str]:
        """What each file is for that :meth:`create` takes, by name."""
        return fields.UPLOADS

    def create(self, owner: str, values: Any, files: Mapping[str, Path] | None = None) -> dict[str, Any]:
        """Queue a job; what is known of it.

        Args:
            values: the fields as JSON values, and perhaps ``priority`` and ``webhook_url``.
            files: pictures and clips that were brought, by field.

        Raises:
            ApiError: the request cannot be served; nothing was queued.
        """
        told, priority, plain = None, Priority.NORMAL, values
        if isinstance(values, dict) and values.get(WEBHOOK) is not None:
            told = self._checked(values[WEBHOOK])
        with refusals():
            if isinstance(values, dict):
                priority = fields.priority(values.get(PRIORITY, Priority.NORMAL.word))
                plain = {name: value for name, value in values.items() if name not in (WEBHOOK, PRIORITY)}
            request = self._door.require(fields.parse(plain, **(files or {})))
            job_id = self.queue.submit(request, owner, priority)
        if told is not None and self._webhooks is not None:
            try:
                self._webhooks.watch(job_id, owner, told)
            except OSError as error:
                self.queue.cancel(job_id, owner)
                raise ApiError(
                    503, "unavailable", "The webhook cannot be kept on the server's disk.", WEBHOOK
                ) from error
        return self.get(owner, job_id)

    def get(self, owner: str, job_id: str) -> dict[str, Any]:
        """What is known of a job.

        Raises:
            ApiError: that owner has none of that id.
        """
        return describe(self.view(owner, job_id))

    def view(self, owner: str, job_id: str) -> JobView:
        """Snapshot of a job.

        Raises:
            ApiError: that owner has none of that id.
        """
        view = self.queue.view(job_id, owner)
        if view is None:
            raise ApiError(404, "not_found", "There is no such video; it may have been deleted.", "id")
        return view

    def result(self, owner: str, job_id: str) -> dict[str, Any]:
        """What is known of a job that is done.

        Raises:
            ApiError: it is not done, or that owner has none of that id.
        """
        self.file(owner, job_id, 0)
        return self.get(owner, job_id)

    def list(self, owner: str, limit: int = 20, after: str | None = None) -> dict[str, Any]:
        """An owner's jobs, newest first.

        Args:
            limit: how many, up to 100.
            after: id of the last one of the list before.

        Raises:
            ApiError: that owner has no job ``after``.
        """
        if not isinstance(limit, int) or not 1 <= limit <= MOST_LISTED:
            said = f"Got the limit {shown(limit)}; expected a whole number from 1 to {MOST_LISTED}."
            raise ApiError(422, "invalid_request", said, "limit")
        views = self.queue.jobs(owner)
        if after is not None:
            ids = [view.id for view in views]
            if after not in ids:
                raise ApiError(404, "not_found", "There is no such video; it may have been deleted.", "after")
            views = views[ids.index(after) + 1 :]
        data = [describe(view) for view in views[:limit]]
        return {"object": "list", "data": data, "has_more": len(views) > limit}

    def cancel(self, owner: str, job_id: str) -> dict[str, Any]:
        """Ask a job to stop; one that has ended stays as it is.

        Raises:
            ApiError: that owner has none of that id.
        """
        self.view(owner, job_id)
        self.queue.cancel(job_id, owner)
        return self.get(owner, job_id)

    def delete(self, owner: str, job_id: str) -> dict[str, Any]:
        """Delete a job that has ended, and its files.

        Raises:
            ApiError: that owner has none of that id, it has not ended, or its files cannot be reached.
        """
        view = self.view(owner, job_id)
        with refusals():
            removed = self.queue.remove(job_id, owner)
        if not removed:
            raise ApiError(
                409, "conflict", f"This video is {view.state}; cancel it, and delete it when it has ended.", "id"
            )
        return {"id": job_id, "object": "video", "deleted": True}

    def file(self, owner: str, job_id: str, index: int) -> tuple[Path, str, str]:
        """A result's file, its type and the hash of its bytes.

        Raises:
            ApiError: there is none, or not yet.
        """
        view = self.view(owner, job_id)
        if view.state is not JobState.DONE:
            said = view.error or f"This video is {view.state}."
            raise ApiError(409, "conflict", f"There is nothing to fetch: {said}", "id")
        if not 0 <= index < len(view.files):
            raise ApiError(404, "not_found", f"Got the index {index}; the last is {len(view.files) - 1}.", "index")
        path = view.files[index]
        if not path.is_file():
            raise ApiError(410, "gone", "The file of this video is no longer on the server.", "id")
        return path, KINDS[path.suffix], view.sha256[index] if index < len(view.sha256) else ""

    def form(self, owner: str, job_id: str, index: int, kind: str) -> tuple[Path, str]:
        """A clip in another form, ``gif``, ``webm`` or ``zip``, and its type; it is written when it is first asked for.

        Raises:
            ApiError: there is no clip, or not yet, or it cannot be written.
        """
        clip, _, _ = self.file(owner, job_id, index)
        from opensora.pipelines.export import beside

        try:
            return beside(clip, kind), FORMS[kind]
        except ValueError as error:
            raise ApiError(422, "invalid_request", str(error), "variant") from error
        except OSError as error:
            said = f"The clip cannot be written as {kind}: {error.strerror}. Make room on the server's disk."
            raise ApiError(503, "unavailable", said, "variant") from error

    def _checked(self, url: Any) -> str:
        if self._webhooks is None:
            raise ApiError(
                422,
                "invalid_request",
                "This server tells nobody of finished videos; it has to be started with --webhook-host NAME.",
                WEBHOOK,
            )
        return self._webhooks.checked(url)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn a request that cannot be served into its answer."""
    try:
        yield
    except QueueFull as error:
        raise ApiError(429, "queue_full", str(error), "queue", {"Retry-After": "30"}) from error
    except RequestError as error:
        if error.field == "queue":
            raise ApiError(503, "unavailable", str(error), "queue") from error
        raise ApiError(422, "invalid_request", str(error), error.field) from error
    except RuntimeError as error:
        raise ApiError(
            503, "unavailable", "The server is stopping; ask again later.", headers={"Retry-After": "30"}
        ) from error


def describe(view: JobView) -> dict[str, Any]:
    """A job as JSON values."""
    done = view.state is JobState.DONE
    return {
        "id": view.id,
        "object": "video",
        "status": str(view.state),
        "progress": 100 if done else _percent(view),
        "stage": view.stage or None,
        "step": view.step,
        "steps": view.total,
        "seconds_left": None if view.state.finished else view.seconds_left_now,
        "priority": view.priority.word,
        "queue_position": view.position if view.state is JobState.QUEUED else None,
        "stopping": view.stopping,
        "created_at": _time(view.created),
        "started_at": _time(view.started),
        "finished_at": _time(view.finished),
        "model": _plain(view.request.model),
        "prompt": view.request.prompt,
        "request": {name: _plain(getattr(view.request, name)) for name in fields.FIELDS if name != "loras"}
        | {"loras": lora_folder.told_of(view.request.loras)},
        "files": [_file(view, index) for index in range(len(view.files))] if done else [],
        "settings": view.settings if done else None,
        "timings": view.timings,
        "notes": list(view.notes),
        "error": None if view.error is None else {"type": "generation", "message": view.error, "field": None},
    }


def _file(view: JobView, index: int) -> dict[str, Any]:
    path = view.files[index]
    return {
        "index": index,
        "role": role_of(path),
        "url": f"/v1/videos/{view.id}/content?index={index}",
        "content_type": KINDS[path.suffix],
        "sha256": view.sha256[index] if index < len(view.sha256) else None,
    }


def _percent(view: JobView) -> int:
    """How much of the time of a job that runs is over, by its own forecast."""
    spent, left = view.seconds, view.seconds_left_now
    if spent is None or left is None or view.state.finished:
        return 0
    return min(99, int(100 * spent / max(spent + left, 1e-9)))


def _plain(value: Any) -> Any:
    return value.name if isinstance(value, Path) else value


def _time(seconds: float | None) -> str | None:
    return None if not seconds else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")

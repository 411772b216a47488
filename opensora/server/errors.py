"""Answers that say what is wrong, always in the same shape: ``{"error": {"type", "message", "field"}}``."""

from collections.abc import Mapping

from starlette.responses import JSONResponse


class ApiError(Exception):
    """A request cannot be served. The message is a sentence for people.

    Attributes:
        status: HTTP status.
        kind: word for programs, such as ``not_found``.
        field: field of the request that is to blame.
        headers: extra headers of the answer.
    """

    def __init__(
        self, status: int, kind: str, message: str, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.field, self.headers = status, kind, field, dict(headers or {})

    def response(self) -> JSONResponse:
        """The answer."""
        body = {"error": {"type": self.kind, "message": str(self), "field": self.field}}
        return JSONResponse(body, self.status, self.headers)

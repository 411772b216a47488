"""Errors whose messages are sentences for people."""

import numpy as np


class RequestError(ValueError):
    """A setting cannot be used. The message is a sentence for people.

    Attributes:
        field: name of the field of :class:`opensora.pipelines.request.GenerationRequest`.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class RefineError(ValueError):
    """A prompt could not be refined. The message is a sentence for people and holds no key, no address and no path."""


def shown(value: object) -> str:
    """A value in an error, at most 40 characters of it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return repr(value[:40])
    try:
        return f"{value!r:.40}"
    except ValueError:  # an integer of thousands of digits
        return "a number of thousands of digits"

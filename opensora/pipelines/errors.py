"""The error of a request that cannot be served."""


class RequestError(ValueError):
    """A setting cannot be used. The message is a sentence for people.

    Attributes:
        field: name of the field of :class:`opensora.pipelines.request.GenerationRequest`.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field

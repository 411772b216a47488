"""Whether there is room for a request, asked before it is queued: the preflight that the page shows, as a refusal."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from opensora.pipelines.errors import RequestError
from opensora.pipelines.image_first import bundles
from opensora.pipelines.request import GenerationRequest, require_weights
from opensora.server.errors import ApiError

if TYPE_CHECKING:
    from opensora.pipelines.verdict import Limits


class Doorkeeper:
    """Refuses requests that cannot be made.

    Args:
        output_dir: folder that results are written to.
        here: whether all clips are made on this machine; where others make some, its memory and disk say nothing about
            them, and only settings and missing weights are refused.
        processes: that make each clip together.
    """

    def __init__(self, output_dir: Path, here: bool = True, processes: int = 1) -> None:
        self._output_dir, self._here, self._processes = output_dir, here, processes
        self._searching = threading.Lock()

    def require(self, request: GenerationRequest) -> GenerationRequest:
        """The request with everything checked.

        Raises:
            RequestError: a setting cannot be used, or weights are missing.
            ApiError: the preflight is red; says why, and with which settings it would not be.
        """
        request = request.validated()
        for bundle in bundles(request):
            require_weights(bundle)
        if self._here:
            self._require_room(request)
        return request

    def _require_room(self, request: GenerationRequest) -> None:
        from opensora.pipelines.verdict import Limits, require

        limits = Limits(output=self._output_dir, processes=self._processes)
        try:
            require(request, limits)
        except RequestError as error:
            if error.field != "request":
                raise
            said = f"{error} {self._proposal(request, limits)}".rstrip()
            raise ApiError(422, "does_not_fit", said, "request") from error

    def _proposal(self, request: GenerationRequest, limits: "Limits") -> str:
        """What would fit; empty while another refusal is being worked out, because that takes seconds of a processor,
        which nobody shall be able to take many times at once."""
        from opensora.pipelines.fit import fit

        if not self._searching.acquire(blocking=False):
            return ""
        try:
            return f"What would fit: {' '.join(fit(request, limits).sentences)}"
        except RequestError:
            return "No settings were found that fit."
        finally:
            self._searching.release()

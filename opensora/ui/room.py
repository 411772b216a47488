"""Whether what a person asks for can be made: what the page says before the click, and what the click refuses.

Programs are refused by the same function, :func:`opensora.pipelines.verdict.require`.
"""

import threading
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from opensora.pipelines.errors import RequestError
from opensora.pipelines.image_first import bundles
from opensora.pipelines.request import GenerationRequest, require_weights
from opensora.sentences import say
from opensora.ui import render
from opensora.ui.said import button, problem
from opensora.ui.words import Words

if TYPE_CHECKING:  # it loads torch, which the page does without until somebody generates
    from opensora.pipelines.fit import Fit
    from opensora.pipelines.verdict import Limits


@dataclass(frozen=True)
class Room:
    """Where clips are made, as far as the page knows."""

    output_dir: Path = Path("outputs")
    """Folder that results are written to."""
    here: bool = True
    """Whether all clips are made on this machine; where others make some, its memory and disk say nothing about them,
    and only settings and missing weights are refused."""
    processes: int = 1
    """Processes that make each clip together."""
    _searching: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    """Held while settings that fit are looked for: hundreds are tried, which takes seconds of a processor that nobody
    shall be able to take many times at once."""

    def require(self, request: GenerationRequest) -> GenerationRequest:
        """The request with everything checked.

        Raises:
            RequestError: a setting cannot be used, weights are missing, or the verdict is red.
        """
        request = request.validated()
        for bundle in bundles(request):
            require_weights(bundle)
        if self.here:
            from opensora.pipelines.verdict import require

            require(request, self._limits())
        return request

    def told(self, w: Words, request: GenerationRequest) -> str:
        """What a click on Generate will take, and whether this machine can do it where it has to.

        Raises:
            RequestError: a setting cannot be used.
        """
        from opensora.pipelines.preflight import estimate
        from opensora.pipelines.verdict import preflight

        if not self.here:
            return render.cost(w, estimate(request, self.processes))
        return render.verdict(w, preflight(request, self._limits()))

    def fit(self, request: GenerationRequest) -> "Fit":
        """The nearest settings that this machine can serve.

        Raises:
            RequestError: a setting cannot be used, nothing fits, or somebody else's settings are being looked for.
        """
        from opensora.pipelines.fit import fit

        if not self._searching.acquire(blocking=False):
            raise RequestError("fit", say("fit.busy"))
        try:
            return fit(request, self._limits())
        finally:
            self._searching.release()

    def _limits(self) -> "Limits":
        from opensora.pipelines.verdict import Limits

        return Limits(output=self.output_dir, processes=self.processes)


def refused(w: Words, error: RequestError) -> str:
    """Why nothing was queued; with the way out where smaller settings would be."""
    if error.field != "request":
        return problem(w, str(error))
    way_out = button(escape(w("do.fit")), "os-button os-small", act="fit", fill="1")
    return problem(w, str(error), "verdict.red", f"<div class='os-row'>{way_out}</div>")

"""A generator for tests of the queue and the page: it goes on when the test says so, and ends with a real result."""

import threading
import time
from collections.abc import Callable

import numpy as np

from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import Cancelled, GenerationError, GenerationResult, Progress


class Steps:
    """Generates in steps that the test releases one by one; the prompt "flat" fails as a stage does, "bug" as a bug.

    Args:
        total: steps.
        clips: clips of the result.
    """

    def __init__(self, total: int = 3, clips: int = 1) -> None:
        self.total, self.clips = total, clips
        self.go = threading.Semaphore(0)
        self.prompts: list[str] = []

    def __call__(
        self, request: GenerationRequest, *, on_progress: Callable[[Progress], None], cancel: threading.Event
    ) -> GenerationResult:
        self.prompts.append(request.prompt)
        if request.prompt == "flat":
            raise GenerationError("decoding", "The decoding stage failed: the clip is flat. Try another seed.")
        if request.prompt == "bug":
            raise ZeroDivisionError("/some/secret/path")
        for step in range(self.total):
            while not self.go.acquire(timeout=0.01):
                if cancel.is_set():
                    raise Cancelled()
            preview = np.zeros((2, 4, 4, 3), np.uint8)
            on_progress(Progress("sampling", step + 1, self.total, seconds_left=1.0, preview=preview))
        videos = [np.full((17, 16, 32, 3), 40 * (i + 1), np.uint8) for i in range(self.clips)]
        settings = {"seed": 7, "pictures_kept": [3], "width": 32, "height": 16, "num_frames": 17, "fps": 24}
        seeds = [7 + i for i in range(self.clips)]
        return GenerationResult(videos, fps=24.0, seeds=seeds, settings=settings, plan={}, timings={})


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + 60  # a busy machine may need seconds to let another thread run
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)

"""A generator for the worker process in tests: what it does is written in the prompt.

The folder named by ``FAKE_JOBS`` holds a line in ``begun`` for every attempt, and the file ``go`` for prompts that wait
for it.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from opensora.pipelines.lean import OutOfMemory
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import CancelFlag, Cancelled, GenerationError, GenerationResult, Progress

GENERATE = "fake_jobs:generate"


def folder() -> Path:
    return Path(os.environ["FAKE_JOBS"])


def begun() -> list[str]:
    """Prompts of all attempts, in order."""
    file = folder() / "begun"
    return file.read_text().splitlines() if file.exists() else []


def generate(
    request: GenerationRequest,
    *,
    on_progress: Callable[[Progress], None],
    cancel: CancelFlag,
    lean: bool = False,
) -> GenerationResult:
    """``wait`` waits for a sign, ``slow`` takes its time and names the process, ``crash`` kills it, ``crash once`` does
    so only the first time, ``big`` needs less at once, ``huge`` needs less than there is; else three steps."""
    again = request.prompt in begun()
    with (folder() / "begun").open("a") as file:
        file.write(f"{request.prompt}\n")
    if request.prompt == "flat":
        raise GenerationError("decoding", "The decoding stage failed: the clip is flat. Try another seed.")
    if request.prompt == "huge" or (request.prompt == "big" and not lean):
        raise OutOfMemory("decoding")
    if request.prompt == "bug":
        raise ZeroDivisionError("/some/secret/path")
    for step in range(3):
        preview = np.full((2, 4, 4, 3), step, np.uint8)
        on_progress(Progress("sampling", step + 1, 3, 1.0, preview, memory=10**9, peak=2 * 10**9))
        if request.prompt == "crash" or (request.prompt == "crash once" and not again):
            os.kill(os.getpid(), signal.SIGKILL)
        while request.prompt.startswith("wait") and not (folder() / "go").exists():
            if "stubborn" not in request.prompt:
                _check(cancel)
            time.sleep(0.01)
        if request.prompt.startswith("slow"):
            (folder() / "worker").write_text(str(os.getpid()))
            time.sleep(0.2)
        _check(cancel)
        time.sleep(0.01)
    videos = [np.full((17, 16, 32, 3), 40 * (i + 1), np.uint8) for i in range(request.num_videos)]
    settings = {"seed": 7, "width": 32, "height": 16, "num_frames": 17, "fps": 24}
    timings = {"sampling": 0.5}
    seeds = [7 + i for i in range(request.num_videos)]
    return GenerationResult(videos, 24.0, seeds=seeds, settings=settings, plan={}, timings=timings)


def _check(cancel: CancelFlag) -> None:
    if cancel.is_set():
        raise Cancelled()

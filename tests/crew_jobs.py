"""A generator for processes that make clips together: what it does is written in the prompt, else the real pipeline."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np

from opensora.distributed.group import Group
from opensora.pipelines.lean import OutOfMemory
from opensora.pipelines.reporter import Reporter
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import CancelFlag, GenerationError, GenerationResult
from opensora.pipelines.video import generate as real

GENERATE = "crew_jobs:generate"


def generate(
    request: GenerationRequest, *, on_progress: Any, cancel: CancelFlag, group: Group, lean: bool = False
) -> GenerationResult:
    """``stop`` waits in its third step until it is asked to stop. Of the others the second process alone does this:
    ``big`` needs less memory, ``die`` is killed, ``die once`` only the first time. ``flat`` fails in all."""
    if request.prompt not in ("stop", "big", "die", "die once", "flat"):
        return real(request, on_progress=on_progress, cancel=cancel, group=group, lean=lean)
    reporter = Reporter(on_progress, cancel, group)
    with reporter.stage("sampling", 5):
        for step in range(5):
            if step == 2:
                act(request.prompt, group, cancel, lean)
            reporter.step()
    settings = {"seed": 7, "width": 32, "height": 16, "num_frames": 17, "fps": 24}
    video = np.full((17, 16, 32, 3), 40, np.uint8)
    return GenerationResult([video], 24.0, [7], settings, {"processes": group.size}, {"sampling": 0.5})


def act(prompt: str, group: Group, cancel: CancelFlag, lean: bool) -> None:
    while prompt == "stop" and group.first and not cancel.is_set():
        pass
    if prompt == "flat":
        raise GenerationError("sampling", "The clip is flat.")
    if group.first:
        return
    if prompt == "big" and not lean:
        raise OutOfMemory("sampling")
    died = Path(os.environ["FAKE_JOBS"]) / "died"
    if prompt == "die" or (prompt == "die once" and not died.exists()):
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)

"""Stands in for the package ``spaces`` where there is no ZeroGPU: like it, a decorated function runs in a forked child
with its arguments pickled, and what it raises comes back by name. Durations are written to ``STAND_IN_SPACES``.
"""

import multiprocessing
import os
import pickle
from collections.abc import Callable
from typing import Any

from spaces import zero

__all__ = ["GPU", "gradio_auto_wrap", "zero"]


def gradio_auto_wrap(task: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """What gradio calls on every handler."""
    return task


def GPU(task: Callable[..., Any], *, duration: Callable[..., int]) -> Callable[..., Any]:
    def asked(*arguments: Any) -> Any:
        seconds = duration(*arguments)
        zero.note({"duration": seconds, "pid": os.getpid()})
        fork = multiprocessing.get_context("fork")
        answers, packed = fork.SimpleQueue(), pickle.dumps(arguments)
        child = fork.Process(target=_run, args=(task, packed, answers), daemon=True)
        child.start()
        kind, value = answers.get()
        child.join()
        if kind == "raised":
            raise RuntimeError(value)
        return value

    return asked


def _run(task: Callable[..., Any], packed: bytes, answers: Any) -> None:
    try:
        answers.put(("done", task(*pickle.loads(packed))))
    except Exception as error:
        answers.put(("raised", type(error).__name__))

"""Clips on ZeroGPU: a GPU is asked for when a job's turn comes, for as long as the preflight says, and given back.

The package ``spaces`` runs the function that it decorates in a child that it forks, and that has the GPU. So the worker
lives in the page's process here, its networks in the child; progress, previews and the wish to stop go through files.
The GPU's time counts against the quota of the visitor, who is known by the request of the page that last asked for the
owner's jobs.
"""

import contextlib
import json
import logging
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar, copy_context
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from opensora.jobs.places import write
from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import CancelFlag, Cancelled, GenerationError, GenerationResult, OnProgress, Progress

log = logging.getLogger(__name__)

PROGRESS, PREVIEW, STOP = "progress.json", "preview.npy", "stop"
"""Files by which the child and the page's process speak."""
LOOK = 0.1
"""Seconds between two looks at them."""
ASSUMED = 1e14
"""Products and sums per second that a ZeroGPU is believed to do before a clip was made on one: half an RTX PRO 6000."""
VISITORS = 1000
"""Visitors that are remembered."""


@dataclass(frozen=True)
class Failure:
    """How a generation in the child ended without a result, in values that can be handed over."""

    kind: str
    """``cancelled``, ``memory``, ``request`` or ``generation``."""
    where: str = ""
    """Stage or field."""
    message: str = ""

    def error(self) -> Exception:
        """The error again."""
        if self.kind == "cancelled":
            return Cancelled()
        if self.kind == "memory":
            from opensora.pipelines.lean import OutOfMemory

            return OutOfMemory(self.where)
        if self.kind == "request":
            return RequestError(self.where, self.message)
        return GenerationError(self.where, self.message)


class Visitors:
    """The circumstances in which each owner last asked for anything, the page's request among them."""

    def __init__(self, most: int = VISITORS) -> None:
        self._most, self._known = most, OrderedDict[str, Context]()
        self._lock = threading.Lock()

    def remember(self, owner: str) -> None:
        """Keep the present circumstances, if they hold a request of the page."""
        context = copy_context()
        if not any(variable.name == "request" and value is not None for variable, value in context.items()):
            return
        with self._lock:
            self._known[owner] = context
            self._known.move_to_end(owner)
            while len(self._known) > self._most:
                self._known.popitem(last=False)

    def of(self, owner: str) -> Context:
        """The circumstances to ask for a GPU in; the present ones for somebody who is not known."""
        with self._lock:
            known = self._known.get(owner)
        return copy_context() if known is None else known.copy()


VISITOR: ContextVar[Context | None] = ContextVar("opensora_visitor", default=None)
"""The circumstances of the visitor whose job is made, in the worker's thread."""


def seconds_for(request: GenerationRequest, folder: str, lean: bool) -> int:
    """Seconds of a GPU that are asked for; the arguments are those of :func:`make`, as ``spaces`` wants it."""
    from opensora.pipelines.verdict import turn_seconds

    return turn_seconds(request, lean)


def make(request: GenerationRequest, folder: str, lean: bool) -> GenerationResult | Failure:
    """Make the clips, in the child that has the GPU.

    Args:
        folder: where :data:`PROGRESS` and :data:`PREVIEW` are written and :data:`STOP` is looked for.
        lean: whether to compute less at once, because the memory ran out before.
    """
    from opensora.pipelines.lean import OutOfMemory
    from opensora.pipelines.video import generate

    place = Path(folder)

    def tell(progress: Progress) -> None:
        with contextlib.suppress(OSError):
            if progress.preview is not None:
                with tempfile.TemporaryFile() as file:
                    np.save(file, progress.preview, allow_pickle=False)
                    file.seek(0)
                    write(place / PREVIEW, file.read())
            told = asdict(replace(progress, preview=None)) | {"drawn": progress.preview is not None}
            write(place / PROGRESS, json.dumps(told).encode())

    try:
        return generate(request, on_progress=tell, cancel=_File(place / STOP), lean=lean)
    except Cancelled:
        return Failure("cancelled")
    except OutOfMemory as error:
        return Failure("memory", error.stage, str(error))
    except RequestError as error:
        return Failure("request", error.field, str(error))
    except GenerationError as error:
        return Failure("generation", error.stage, str(error))


class ZeroGpu:
    """Makes clips on GPUs that are asked for one by one; an :class:`opensora.jobs.queue.Generate`."""

    def __init__(self) -> None:
        import spaces  # before torch touches a GPU

        from opensora.pipelines import speed

        self._spaces = spaces
        self._make: Callable[..., GenerationResult | Failure] = spaces.GPU(make, duration=seconds_for)
        speed.assume("cuda:0", ASSUMED)

    def report(self) -> None:
        """Tell ZeroGPU that this Space has started; gradio's own ``launch`` does it, which is not used here.

        Raises:
            RuntimeError: the package does not offer it.
        """
        startup = getattr(getattr(self._spaces, "zero", None), "startup", None)
        if startup is None:
            raise RuntimeError(
                "The package spaces has no spaces.zero.startup, by which ZeroGPU is told that the Space has started; "
                "install a version from 0.40 to 0.51."
            )
        startup()

    def __call__(
        self, request: GenerationRequest, *, on_progress: OnProgress, cancel: CancelFlag, lean: bool = False
    ) -> GenerationResult:
        """The clips of a request.

        Raises:
            GenerationError: no GPU was given or it was taken away; the sentence is ZeroGPU's.
        """
        visitor = VISITOR.get() or copy_context()
        with tempfile.TemporaryDirectory(prefix="opensora-zero-") as folder:
            on_progress(Progress("waiting for a GPU"))
            with _relayed(Path(folder), on_progress, cancel):
                try:
                    done = visitor.run(self._make, request, folder, lean)
                except Exception as error:  # gradio's own error, in whose words ZeroGPU refuses
                    log.warning("no clip from ZeroGPU: %s", error)
                    raise GenerationError("gpu", _refusal(error)) from error
        if isinstance(done, Failure):
            raise done.error()
        return done


@dataclass(frozen=True)
class _File:
    """A flag that is set when a file is there."""

    path: Path

    def is_set(self) -> bool:
        return self.path.exists()


@contextlib.contextmanager
def _relayed(folder: Path, on_progress: OnProgress, cancel: CancelFlag) -> Iterator[None]:
    """Hand on what the child writes, and tell it to stop, until the block ends."""
    ended = threading.Event()

    def relay() -> None:
        last = b""
        while not ended.wait(LOOK):
            if cancel.is_set():
                (folder / STOP).touch()
            with contextlib.suppress(OSError, ValueError):
                told = (folder / PROGRESS).read_bytes()
                if told != last:
                    last = told
                    on_progress(_progress(json.loads(told), folder))

    thread = threading.Thread(target=relay, name="opensora-relay", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _progress(told: dict[str, Any], folder: Path) -> Progress:
    drawn = told.pop("drawn")
    return Progress(**{**told, "preview": np.load(folder / PREVIEW, allow_pickle=False) if drawn else None})


def _refusal(error: Exception) -> str:
    """ZeroGPU's words as a sentence, or what probably happened."""
    said = " ".join(str(error).split())
    if "abort" in said.lower():
        return (
            "The GPU was taken away before the clip was finished: it took longer than was asked for. Choose a smaller "
            "resolution, a shorter clip or fewer steps, and generate it again."
        )
    return f"ZeroGPU gave no GPU: {said.rstrip('.')}." if said else "ZeroGPU gave no GPU. Try again in a while."

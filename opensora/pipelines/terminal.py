"""What commands show at a terminal: a progress bar, sentences instead of tracebacks, and a clean Ctrl-C."""

import logging
import os
import signal
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from opensora.config import ConfigError

if TYPE_CHECKING:
    from opensora.pipelines.result import Progress

log = logging.getLogger(__name__)

BAD_REQUEST, FAILED, INTERRUPTED = 2, 1, 130
"""Exit codes: what was asked for cannot be done; it could, but failed; Ctrl-C."""

STAGES = {
    "loading": "Loading the networks",
    "text": "Reading the text",
    "reference": "Reading the image",
    "sampling": "Denoising",
    "decoding": "Decoding",
}


class ProgressBar:
    """Shows a generation's stage, step and time left on stderr; a line for every stage where that is no terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"))
        self._bars = Bars(*columns, console=self._console, transient=True)
        self._task: TaskID | None = None
        self._stage = ""

    def __enter__(self) -> "ProgressBar":
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def __call__(self, progress: "Progress") -> None:
        """Show how far the generation is."""
        name = STAGES.get(progress.stage, progress.stage)
        if not self._console.is_terminal:
            if progress.stage != self._stage:
                self._console.print(f"{name} …", highlight=False)
            self._stage = progress.stage
            return
        words = f"step {progress.step}/{progress.total}" if progress.total else ""
        if progress.seconds_left is not None:
            words += f"  {duration(progress.seconds_left)} left"
        total = progress.total or None
        if self._task is None:
            self._task = self._bars.add_task(name, total=total, words=words)
        if progress.stage != self._stage:
            self._bars.reset(self._task, total=total)
        self._stage = progress.stage
        self._bars.update(self._task, description=name, completed=progress.step, total=total, words=words)


def duration(seconds: float) -> str:
    """Seconds for people: "0.3 s", "12 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """A flag that Ctrl-C sets, for a generation to stop within a step; a second Ctrl-C stops at once."""
    flag = threading.Event()

    def stop(_number: int, _frame: types.FrameType | None) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def sentences(verbose: bool = False) -> Iterator[None]:
    """End the program with one sentence on stderr where something goes wrong, and an exit code that says what kind.

    Args:
        verbose: let the traceback of an unexpected error through.
    """
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        _end("Stopped.", INTERRUPTED)
    except ConfigError as error:
        _end(str(error), BAD_REQUEST)
    except ImportError as error:
        if verbose:
            raise
        _end(f"A package is missing or broken: {error}. `python -m opensora doctor` says what to do.", FAILED)
    except Exception as error:
        _end_with(error, verbose)


def _end_with(error: Exception, verbose: bool) -> NoReturn:
    from opensora.checkpoint.errors import HubError
    from opensora.checkpoint.layout import LayoutError
    from opensora.distributed.failures import RankFailure
    from opensora.models.zoo import PresetError
    from opensora.pipelines.request import RequestError
    from opensora.pipelines.result import Cancelled, GenerationError

    if isinstance(error, Cancelled):
        _end("Stopped; nothing was written.", INTERRUPTED)
    if isinstance(error, RequestError):
        _end(str(error), BAD_REQUEST)
    if isinstance(error, PresetError):
        _end(f"{str(error)[:1].upper()}{str(error)[1:]}", BAD_REQUEST)
    if isinstance(error, GenerationError | HubError | LayoutError | RankFailure):
        _end(str(error), FAILED)
    if verbose:
        raise error
    kind = type(error).__name__
    _end(f"It stopped because of an unexpected error ({kind}: {error}). With --verbose it shows where.", FAILED)


def _end(sentence: str, code: int) -> NoReturn:
    if os.environ.get("RANK", "0") == "0":  # of several processes that torchrun started, one speaks
        typer.echo(sentence, err=True)
    raise typer.Exit(code)

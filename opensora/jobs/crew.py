"""Several processes that make every clip of a worker together, each with a GPU of its own.

The worker stays out of the computing. It tells all processes the same order, hears from the first how far they are, and
from each how the order ended. Where all say the same, they are in step and are kept, with their networks, for the next
order. Where one ends, or says something else, all are ended; the next order starts new ones.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait

from opensora.jobs.launch import Launched
from opensora.jobs.messages import End, Ended, Make, Order, Stop, Warm
from opensora.pipelines.errors import RequestError
from opensora.pipelines.lean import OutOfMemory
from opensora.pipelines.refine import dynamic_motion
from opensora.pipelines.request import DYNAMIC, GenerationRequest
from opensora.pipelines.result import CancelFlag, Cancelled, GenerationError, GenerationResult, OnProgress, Progress
from opensora.sentences import say

log = logging.getLogger(__name__)

LOOK = 0.1
"""Seconds between two looks whether to stop."""
GRACE = 5.0
"""Seconds in which the others say how it ended for them, after one of them has failed or is gone."""
OUT_OF_STEP = (End.MEMORY, End.BROKEN, End.LEFT)
"""After these, processes may have stopped at different places even where all say so."""


class MemberLost(RuntimeError):
    """A process of the crew ended in the middle of an order. The message is a sentence for people."""


class Crew:
    """Makes clips as :class:`opensora.jobs.queue.Generate` does, with several processes.

    Args:
        size: how many.
        generate: ``module:function`` that all of them run with the same arguments, see :mod:`opensora.jobs.member`.
    """

    def __init__(self, size: int, generate: str) -> None:
        self.size, self._generate = size, generate
        self._busy = threading.Lock()
        self._launched: Launched | None = None
        self._number = 0

    def __call__(
        self, request: GenerationRequest, *, on_progress: OnProgress, cancel: CancelFlag, lean: bool = False
    ) -> GenerationResult:
        """The clips of a request, whose seed is given.

        Raises:
            RequestError, GenerationError, Cancelled: as :func:`opensora.pipelines.video.generate`; where one process
                failed, what it said.
            MemberLost: a process ended.
            RuntimeError: a process failed in a way that nobody foresaw.
        """
        said = []
        if request.motion_score == DYNAMIC:  # asked for once, since the answers may differ
            score, sentence = dynamic_motion(request.prompt)
            request, said = replace(request, motion_score=score), [sentence]
        ended = self._carried_out(lambda number: Make(number, request, lean), on_progress, cancel)
        assert ended.result is not None
        return replace(ended.result, notes=[*said, *ended.result.notes])

    def warm_up(self, model: str) -> None:
        """Start the processes and let them load a bundled model. Raises: as when clips are made."""
        self._carried_out(lambda number: Warm(number, model), lambda _: None, threading.Event())

    def end(self) -> None:
        """End the processes; an order that they are at is broken off."""
        launched, self._launched = self._launched, None
        if launched is not None:
            launched.end()

    def _carried_out(self, order: Callable[[int], Order], on_progress: OnProgress, cancel: CancelFlag) -> Ended:
        with self._turn(cancel):
            if self._launched is not None and not self._launched.alive:
                self.end()
            self._launched = self._launched or Launched(self.size, self._generate)
            self._number += 1
            try:
                every = self._words(self._launched.links, order(self._number), on_progress, cancel)
            except BaseException:
                self.end()
                raise
            if not self._in_step(every):
                self.end()
        return _outcome(every)

    def _in_step(self, words: list[Ended]) -> bool:
        """Whether all processes broke off at the same place, or not at all, and can be used again."""
        same = {(word.how, word.place, word.text) for word in words}
        return len(words) == self.size and len(same) == 1 and words[0].how not in OUT_OF_STEP

    @contextmanager
    def _turn(self, cancel: CancelFlag) -> Iterator[None]:
        while not self._busy.acquire(timeout=LOOK):
            if cancel.is_set():
                raise Cancelled()
        try:
            yield
        finally:
            self._busy.release()

    def _words(self, links: list[Connection], order: Order, on_progress: OnProgress, cancel: CancelFlag) -> list[Ended]:
        """The last word of each process on an order; of those that are silent although others failed, none.

        Raises:
            MemberLost: a process ended.
        """
        for link in links:
            _tell(link, order)
        words: dict[int, Ended] = {}
        stopped, until = False, float("inf")
        while len(words) < len(links) and time.monotonic() < until:
            ready = wait([link for rank, link in enumerate(links) if rank not in words], LOOK)
            for rank in [rank for rank, link in enumerate(links) if link in ready]:
                said = _heard(links[rank])
                if isinstance(said, Progress):
                    on_progress(said)
                    continue
                if said is None:
                    raise MemberLost(say("crew.lost", rank=rank + 1, size=len(links)))
                words[rank] = said
                if said.how is not End.DONE:
                    until = min(until, time.monotonic() + GRACE)
            if not stopped and cancel.is_set():
                stopped = True
                for link in links:
                    _tell(link, Stop(order.number))
        return [words[rank] for rank in sorted(words)]


def _tell(link: Connection, message: Order | Stop) -> None:
    """Tell a process something; that it is gone shows where its words are awaited."""
    with suppress(OSError):
        link.send(message)


def _heard(link: Connection) -> Progress | Ended | None:
    """What a process says; ``None`` if it has ended."""
    try:
        said: Progress | Ended = link.recv()
    except (OSError, EOFError):
        return None
    return said


def _outcome(words: list[Ended]) -> Ended:
    """What the words of all processes come to: the error of one that failed by itself, if there is any."""
    weights = {End.DONE: 3, End.CANCELLED: 2, End.LEFT: 1}
    word = min(words, key=lambda word: weights.get(word.how, 0))
    match word.how:
        case End.CANCELLED:
            raise Cancelled()
        case End.MEMORY:
            raise OutOfMemory(word.place)
        case End.REFUSED:
            raise RequestError(word.place, word.text)
        case End.FAILED:
            raise GenerationError(word.place, word.text)
        case End.BROKEN | End.LEFT:
            raise RuntimeError(f"a process of the crew failed: {word.text}")
    return word

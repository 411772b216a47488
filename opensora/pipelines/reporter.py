"""Tells the caller how far a generation is, measures its stages, and stops it when asked."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import numpy as np
from torch import nn

from opensora.distributed.group import Group
from opensora.pipelines.memory import in_use
from opensora.pipelines.result import CancelFlag, Cancelled, OnProgress, Progress


class Reporter:
    """Progress, timings and cancellation of one generation.

    Args:
        on_progress: called from the generating thread; ``None`` for nobody.
        cancel: asked in every step and inside them.
        group: processes that generate together. They all stop when one is asked to, at the end of the same step.
    """

    def __init__(self, on_progress: OnProgress | None, cancel: CancelFlag | None, group: Group | None = None) -> None:
        self.timings: dict[str, float] = {}
        self.kept: list[int] = []  # numbers, from 1, of the pictures that were kept of several
        self._on_progress, self._cancel, self._group = on_progress, cancel, group or Group()
        self._expected: dict[str, float] = {}
        self._stage, self._began, self._step, self._total = "", 0.0, 0, 0
        self._peak = 0

    def check(self) -> None:
        """Raise :class:`Cancelled` if the caller asked to stop; of several processes none may do so by itself."""
        if self._group.size == 1 and self._asked():
            raise Cancelled("The generation was cancelled.")

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Say how long stages will probably take."""
        self._expected = dict(seconds)

    @contextmanager
    def stage(self, name: str, total: int = 0) -> Iterator[None]:
        """A stage of so many steps; its time is added up under its name."""
        self._agree()
        self._stage, self._began, self._step, self._total = name, time.perf_counter(), 0, total
        self._report(None)
        try:
            yield
        finally:
            spent = time.perf_counter() - self._began
            self.timings[name] = self.timings.get(name, 0.0) + spent

    def step(self, preview: np.ndarray | None = None) -> None:
        """One more step of the present stage is done."""
        self._step += 1
        self._report(preview)
        self._agree()

    @contextmanager
    def interrupting(self, *networks: nn.Module) -> Iterator[None]:
        """Inside the block every layer of the networks asks whether to stop, so that a long step does not delay it."""
        with ExitStack() as stack:
            if self._cancel is not None and self._group.size == 1:
                for network in networks:
                    for layer in network.modules():
                        handle = layer.register_forward_pre_hook(lambda *_: self.check())
                        stack.callback(handle.remove)
            yield

    def _asked(self) -> bool:
        return self._cancel is not None and self._cancel.is_set()

    def _agree(self) -> None:
        """Raise :class:`Cancelled` in all processes if the caller of one asked to stop."""
        if self._group.any(self._asked()):
            raise Cancelled("The generation was cancelled.")

    def _report(self, preview: np.ndarray | None) -> None:
        if self._on_progress is not None:
            left = self._seconds_left()
            memory, most = in_use()
            self._peak = max(self._peak, most or 0)
            peak = None if memory is None else self._peak
            self._on_progress(Progress(self._stage, self._step, self._total, left, preview, memory, peak))

    def _seconds_left(self) -> float | None:
        """By the pace of the present stage, and what is expected of those that have not begun."""
        spent = time.perf_counter() - self._began
        expected = self._expected.get(self._stage)
        if self._step and self._total:
            here = spent / self._step * (self._total - self._step)
        elif expected is not None:
            here = max(0.0, expected - spent)
        else:
            return None
        later = 0.0
        if expected and self._step and self._total:
            scale = min(4.0, max(0.25, spent / self._step * self._total / expected))
        else:
            scale = 1.0
        order = list(self._expected)
        if self._stage in order:
            later = sum(self._expected[name] for name in order[order.index(self._stage) + 1 :])
        return here + later * scale

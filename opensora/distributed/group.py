"""Processes that compute one thing together, and what they send each other.

Every collective is the identity in a group of one process. Tensors travel as bytes, so that any dtype can; no gradient
flows through.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from opensora.distributed.failures import LOOK, Failures
from opensora.distributed.workers import Workers

PATIENCE = timedelta(minutes=10)
"""How long a process waits for another that neither answers nor fails."""

Shape = Sequence[int]


def shares(length: int, count: int) -> list[int]:
    """``length`` things for ``count`` receivers: whole numbers that differ by 1 at most, larger ones first."""
    return [length // count + (i < length % count) for i in range(count)]


class Group:
    """Some processes of a run, this one among them, in the order of their numbers.

    Args:
        members: numbers in the run of the group's processes.
        rank: number in the run of this one.
        failures: of the run; ``None`` in a run of one process.
    """

    def __init__(self, members: Sequence[int] = (0,), rank: int = 0, failures: Failures | None = None) -> None:
        self.members, self.failures = tuple(members), failures
        self.size = len(self.members)
        """How many processes there are."""
        self.rank = self.members.index(rank)
        """Which of them this one is, from 0."""
        self._handle: Any = None
        self._parts: dict[int, Group] = {}
        if self.size > 1 and failures is not None:
            options: dict[str, Any] = {"use_local_synchronization": True, "timeout": failures.patience}
            self._handle = dist.new_group(list(self.members), **options)

    @classmethod
    def start(cls, patience: timedelta = PATIENCE) -> "Group":
        """All processes that ``torchrun`` started (gloo between CPUs, NCCL between GPUs), or this one alone.

        On a machine with GPUs the one of LOCAL_RANK becomes this process's own.
        """
        workers = Workers.start(patience)
        workers.device()
        if workers.count == 1:
            return cls()
        failures = Failures.of_this_run(workers.rank, workers.count, patience)
        return cls(range(workers.count), workers.rank, failures)

    @property
    def first(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run a body in all processes; if one raises, all end, the others with :class:`RankFailure` and its sentence.

        Afterwards the group cannot be used: its messages are out of step.
        """
        if self.failures is None:
            yield
            return
        with self.failures.shared():
            yield

    def cut(self, parts: int) -> list[range]:
        """Ranks of each of ``parts`` parts of the group, as equal as possible; every part has one at least."""
        if not 1 <= parts <= self.size:
            raise ValueError(f"got {parts} parts for {self.size} processes; expected 1 to {self.size}.")
        ends = list(accumulate(shares(self.size, parts)))
        return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def split(self, parts: int) -> "Group":
        """The part of :meth:`cut` that this process is in; all processes of the group have to call it."""
        if parts == 1:
            return self
        if parts not in self._parts:
            own = next(part for part in self.cut(parts) if self.rank in part)
            members = [self.members[i] for i in own]
            self._parts[parts] = Group(members, self.members[self.rank], self.failures)
        return self._parts[parts]

    def exchange(self, tensors: Sequence[Tensor], shapes: Sequence[Shape]) -> list[Tensor]:
        """Send a tensor to every process and receive one from every process (all-to-all).

        Args:
            tensors: for each process, of any shapes; one dtype.
            shapes: of what comes from each process.

        Returns:
            What came, in the order of the processes.

        Raises:
            RankFailure: another process failed or is gone.
        """
        if self._handle is None:
            return list(tensors)
        width = tensors[0].element_size()
        sent = torch.cat([x.reshape(-1) for x in tensors]).view(torch.uint8)
        sizes = [math.prod(shape) * width for shape in shapes]
        received = sent.new_empty(sum(sizes))
        lengths = [x.numel() * width for x in tensors]
        work = dist.all_to_all_single(received, sent, sizes, lengths, group=self._handle, async_op=True)
        self._finish([work], received)
        dtype = tensors[0].dtype
        return [x.view(dtype).view(*shape) for x, shape in zip(received.split(sizes), shapes, strict=True)]

    def gather(self, x: Tensor, shapes: Sequence[Shape]) -> list[Tensor]:
        """Everyone's tensor, on everyone.

        Args:
            x: this process's, of the shape that is its own in ``shapes``.
            shapes: of the tensors of all processes, which have one dtype.

        Returns:
            The tensors, in the order of the processes. On a GPU they are there: the host has waited for them.

        Raises:
            RankFailure: another process failed or is gone.
        """
        if self._handle is None:
            return [x]
        every = [x.contiguous() if i == self.rank else x.new_empty(tuple(s)) for i, s in enumerate(shapes)]
        works = [
            dist.broadcast(_bytes(tensor), group_src=i, group=self._handle, async_op=True)
            for i, tensor in enumerate(every)
            if tensor.numel()
        ]
        self._finish(works, x)
        if x.is_cuda:
            self._settle()
        return every

    def any(self, flag: bool) -> bool:
        """Whether one of the processes says so: the same answer in all of them, all of which have to ask.

        Raises:
            RankFailure: another process failed or is gone.
        """
        if self._handle is None:
            return flag
        return any(bool(told) for told in self.gather(torch.tensor([flag]), [(1,)] * self.size))

    def _finish(self, works: Sequence[Any], x: Tensor) -> None:
        """Wait for messages about a tensor like ``x``; on a GPU its stream waits, not the host."""
        assert self.failures is not None
        for work in works:
            if x.is_cuda:
                work.wait()
                continue
            while not self._arrived(work, self.failures):
                self.failures.check()

    @staticmethod
    def _arrived(work: Any, failures: Failures) -> bool:
        """Wait for a message, a moment only."""
        try:
            work.wait(timedelta(seconds=LOOK))
        except RuntimeError as error:
            if not work.is_completed():
                return False
            failures.check()
            raise failures.lost(error) from error
        return True

    def _settle(self) -> None:
        """Wait until the GPU has done what it was given, or a process has failed."""
        assert self.failures is not None
        event = torch.cuda.Event()
        event.record()
        look = time.monotonic() + LOOK
        while not event.query():
            if time.monotonic() > look:
                self.failures.check()
                look = time.monotonic() + LOOK
            time.sleep(0.0005)


def _bytes(x: Tensor) -> Tensor:
    """The bytes of a tensor, one after another; its own memory where it is contiguous."""
    return x.contiguous().view(-1).view(torch.uint8)

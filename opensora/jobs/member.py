"""One of the processes that make every clip together, started by ``torchrun`` for a worker; see :mod:`.crew`.

It waits for orders of its worker, which come to all processes alike, and says how each ended. The first process also
says how far they are, and hands over the result. When the worker is gone, so is this.
"""

import argparse
import importlib
import logging
import os
import queue
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection
from typing import Any

import torch

from opensora.distributed.failures import RankFailure
from opensora.distributed.group import Group
from opensora.jobs.messages import ADDRESS, KEY, End, Ended, Here, Make, Order, Stop
from opensora.jobs.warm import warm_up
from opensora.pipelines.errors import RequestError
from opensora.pipelines.lean import OutOfMemory
from opensora.pipelines.plan import choose_device
from opensora.pipelines.result import Cancelled, GenerationError
from opensora.sentences import say

log = logging.getLogger(__name__)


class Inbox:
    """What the worker says, read by a thread; the end of the worker is the end of this process."""

    def __init__(self, link: Connection) -> None:
        self.orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self.stopped = 0
        """Number of the last order that was to be broken off."""
        threading.Thread(target=self._read, args=(link,), name="opensora-inbox", daemon=True).start()

    def _read(self, link: Connection) -> None:
        try:
            while True:
                said = link.recv()
                if isinstance(said, Stop):
                    self.stopped = said.number
                else:
                    self.orders.put(said)
        except (OSError, EOFError):
            os._exit(0)


@dataclass(frozen=True)
class Asked:
    """Whether an order was broken off; for the generation's cancel flag."""

    inbox: Inbox
    number: int

    def is_set(self) -> bool:
        """Whether to stop."""
        return self.inbox.stopped >= self.number


class Member:
    """Carries out orders.

    Args:
        link: to the worker.
        rank: which of the processes this is.
        size: how many there are.
        generate: makes the clips of a request, as :func:`opensora.pipelines.video.generate` with its ``group``.
    """

    def __init__(self, link: Connection, rank: int, size: int, generate: Callable[..., Any]) -> None:
        self._link, self._rank, self._size, self._generate = link, rank, size, generate
        self._inbox = Inbox(link)
        self._group: Group | None = None

    def serve(self) -> None:
        """Carry out one order after the other."""
        while True:
            order = self._inbox.orders.get()
            self._link.send(self._carried_out(order))

    def _carried_out(self, order: Order) -> Ended:
        try:
            self._group = self._group or self._joined()
            return self._made(order, self._group) if isinstance(order, Make) else self._warmed(order.model, self._group)
        except Cancelled:
            return Ended(End.CANCELLED)
        except OutOfMemory as error:
            return Ended(End.MEMORY, error.stage, str(error))
        except RequestError as error:
            return Ended(End.REFUSED, error.field, str(error))
        except GenerationError as error:
            return Ended(End.FAILED, error.stage, str(error))
        except RankFailure as error:
            return Ended(End.LEFT, text=str(error))
        except Exception as error:
            log.exception("process %d of %d failed", self._rank + 1, self._size)
            return Ended(End.BROKEN, text=f"{type(error).__name__}: {error}")

    def _joined(self) -> Group:
        """All processes, each with a GPU of its own where there are any."""
        found = torch.cuda.device_count() if torch.cuda.is_available() else self._size
        if found < self._size:
            raise GenerationError("starting", say("crew.gpus", size=self._size, found=found))
        return Group.start()

    def _made(self, order: Make, group: Group) -> Ended:
        if choose_device(order.request.device).type == "mps":
            raise RequestError("device", say("crew.mps", size=self._size))
        result = self._generate(
            order.request,
            on_progress=self._link.send if group.first else None,
            cancel=Asked(self._inbox, order.number),
            group=group,
            lean=order.lean,
        )
        return Ended(End.DONE, result=result if group.first else None)

    def _warmed(self, model: str, group: Group) -> Ended:
        warm_up(model, group)
        return Ended(End.DONE)


def main() -> None:
    """What torchrun starts."""
    parser = argparse.ArgumentParser(description="One of the processes that make every clip of a worker together.")
    parser.add_argument("--generate", required=True, help="module:function")
    module, _, function = parser.parse_args().generate.partition(":")
    for asked in (signal.SIGINT, signal.SIGTERM):  # for the worker, whose end ends this
        signal.signal(asked, signal.SIG_IGN)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    form = f"%(asctime)s %(name)s: process {rank + 1} of {size}: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form)
    try:
        link = Client(os.environ.pop(ADDRESS), authkey=bytes.fromhex(os.environ.pop(KEY)))
    except OSError:
        raise SystemExit("The worker that started this process is gone.") from None
    link.send(Here(rank, os.getpid()))
    Member(link, rank, size, getattr(importlib.import_module(module), function)).serve()


if __name__ == "__main__":
    main()

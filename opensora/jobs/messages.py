"""What a worker and the processes of its crew tell each other; see :mod:`opensora.jobs.crew`."""

from dataclasses import dataclass, field
from enum import StrEnum

from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import GenerationResult

ADDRESS, KEY = "OPENSORA_CREW_ADDRESS", "OPENSORA_CREW_KEY"
"""Variables of the environment by which a process of a crew finds its worker, and proves that it belongs there."""


@dataclass(frozen=True)
class Here:
    """The first word of a process."""

    rank: int
    """Which of the crew it is, from 0."""
    pid: int
    """Its number in the system."""


@dataclass(frozen=True)
class Make:
    """Make the clips of a request; every process of the crew is told so."""

    number: int
    """Of the order, counted by the worker."""
    request: GenerationRequest = field(repr=False)
    lean: bool
    """Whether in less memory, see :mod:`opensora.pipelines.lean`."""


@dataclass(frozen=True)
class Warm:
    """Load a bundled model."""

    number: int
    """Of the order, counted by the worker."""
    model: str


Order = Make | Warm


@dataclass(frozen=True)
class Stop:
    """Break off an order; what has ended already is not changed by that."""

    number: int
    """Of the order."""


class End(StrEnum):
    """How an order ended in a process."""

    DONE = "done"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    """The request cannot be served."""
    FAILED = "failed"
    """A stage failed, with a sentence for people."""
    MEMORY = "memory"
    """The memory ran out."""
    BROKEN = "broken"
    """Anything else."""
    LEFT = "left"
    """Another process failed or is gone, and this one heard of it; that one's own word or end says more."""


@dataclass(frozen=True)
class Ended:
    """The last word of a process on an order."""

    how: End
    place: str = ""
    """Field of the request or stage that an error is about."""
    text: str = ""
    """What an error says."""
    result: GenerationResult | None = field(default=None, repr=False)
    """Of the first process, where clips were made."""

"""What a caption says, whatever the language."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


@dataclass(frozen=True)
class SaidSubject:
    """A subject as mentioned; None is not mentioned."""

    kind: str
    colour: str | None
    motion: str | None


@dataclass(frozen=True)
class Said:
    """Everything a caption mentions; None is not mentioned."""

    subjects: tuple[SaidSubject, ...]
    background: str | None
    weather: str | None
    strength: str | None
    camera: str | None
    aesthetic: str | None


def pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    """One of the items, all equally likely."""
    return items[int(rng.integers(len(items)))]

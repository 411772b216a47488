"""Which finished jobs are deleted to keep the output folder small."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from opensora.jobs.record import Record

DAY = 86_400.0


@dataclass(frozen=True)
class Retention:
    """How long and how much is kept; ``None``: for ever and everything. What is pinned is always kept."""

    days: float | None = None
    """Age at which a finished job and its files go."""
    size: int | None = None
    """Bytes of all results that are not pinned; the oldest go first. The newest stays, whatever it takes."""

    def __post_init__(self) -> None:
        for name, value in (("days", self.days), ("size", self.size)):
            if value is not None and value <= 0:
                raise ValueError(f"Got {value} for the {name} to keep; expected more than 0, or nothing to keep all.")

    def expired(self, records: Iterable[Record], sizes: dict[str, int], now: float) -> list[str]:
        """Jobs that have to go, the oldest first.

        Args:
            sizes: bytes of each job's results.
            now: seconds since 1970.
        """
        ended = sorted((r for r in records if not r.unfinished and not r.pinned), key=lambda r: r.finished or r.created)
        gone = []
        total = sum(sizes.get(record.id, 0) for record in ended)
        for record in ended:
            old = self.days is not None and now - (record.finished or record.created) > self.days * DAY
            large = self.size is not None and total > self.size and record is not ended[-1] and sizes.get(record.id)
            if old or large:
                gone.append(record.id)
                total -= sizes.get(record.id, 0)
        return gone


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder; 0 if there is none."""
    try:
        return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    except OSError:
        return 0

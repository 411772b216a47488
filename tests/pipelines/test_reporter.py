"""What a generation says of itself while it runs."""

import mmap

import pytest

from opensora.pipelines import reporter
from opensora.pipelines.memory import resident_bytes
from opensora.pipelines.reporter import Reporter
from opensora.pipelines.result import Progress


def test_every_report_has_the_memory_of_the_process() -> None:
    seen: list[Progress] = []
    made = Reporter(seen.append, None)
    before = resident_bytes()
    assert before is not None
    # Memory of its own: what numpy asks for may have been held before.
    with made.stage("sampling", 1), mmap.mmap(-1, 50_000_000) as held:
        held.write(b"1" * 50_000_000)
        made.step()
    assert seen[0].memory == pytest.approx(before, rel=0.1)
    assert seen[1].memory is not None and seen[1].memory - before > 40_000_000
    assert seen[1].peak is not None and seen[1].peak >= seen[1].memory


def test_the_peak_stays_when_memory_is_given_back_and_nothing_is_said_where_it_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Progress] = []
    made = Reporter(seen.append, None)
    told = iter([(5, 5), (9, 12), (4, 4), (None, None)])
    monkeypatch.setattr(reporter, "in_use", lambda: next(told))
    with made.stage("decoding", 3):
        for _ in range(3):
            made.step()
    assert [(report.memory, report.peak) for report in seen] == [(5, 5), (9, 12), (4, 12), (None, None)]

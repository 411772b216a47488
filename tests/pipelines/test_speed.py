"""What past runs tell of the next one: runs of its size and late ones count more, and scattered runs make it unsure."""

from pathlib import Path

import pytest

from opensora.pipelines import speed


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def known(work: float | None = None) -> speed.Speed:
    found = speed.rate("sampling", "key", work)
    assert found is not None and found.measured and found.low < found.likely < found.high
    return found


def test_one_run_is_believed_with_a_wide_range_and_equal_runs_narrow_it() -> None:
    assert speed.rate("sampling", "key") is None
    speed.remember("sampling", "key", 100.0, 2.0)
    first = known()
    assert first.likely == pytest.approx(50)
    assert first.high / first.low == pytest.approx(1.79, abs=0.01)  # e ** (2 * 1.64 * 0.25 / sqrt(2))
    for _ in range(5):
        speed.remember("sampling", "key", 100.0, 2.0)
    assert known().likely == pytest.approx(50)
    assert known().high / known().low < 1.5


def test_scattered_runs_widen_the_range() -> None:
    for took in (1.0, 4.0, 1.0, 4.0):
        speed.remember("sampling", "key", 100.0, took)
    assert known().low < 30 and known().high > 80


def test_runs_of_the_same_size_count_more() -> None:
    speed.remember("sampling", "key", 1e3, 1.0)  # 1000 a second
    speed.remember("sampling", "key", 1e6, 100.0)  # 10000 a second
    assert known(1e3).likely < 1300
    assert known(1e6).likely > 9000
    assert 1300 < known(3e4).likely < 9000


def test_only_the_last_runs_are_kept() -> None:
    for _ in range(speed.KEPT):
        speed.remember("sampling", "key", 1.0, 1.0)
    for _ in range(speed.KEPT):
        speed.remember("sampling", "key", 7.0, 1.0)
    assert speed.runs_of("sampling", "key") == speed.KEPT
    assert known().likely == pytest.approx(7)


@pytest.mark.parametrize(
    ("work", "took"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (float("nan"), 1.0), (1.0, float("inf"))]
)
def test_what_is_no_measurement_is_not_kept(work: float, took: float) -> None:
    speed.remember("sampling", "key", work, took)
    assert speed.rate("sampling", "key") is None

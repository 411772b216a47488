"""The precision that suits a processor is measured once, remembered per processor, and never a reason to fail."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from opensora.pipelines import bf16
from opensora.pipelines.plan import choose_dtype, fast_bf16

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache folder of its own, and a process that has not asked yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bf16.processor_prefers_bf16.cache_clear()
    yield tmp_path / "opensora" / "bf16.json"
    bf16.processor_prefers_bf16.cache_clear()


def slower(monkeypatch: pytest.MonkeyPatch, factor: float) -> list[torch.dtype]:
    """Let bfloat16 take so many times float32's time; the list fills with what was measured."""
    measured: list[torch.dtype] = []

    def work(dtype: torch.dtype) -> float:
        measured.append(dtype)
        return factor if dtype is torch.bfloat16 else 1.0

    monkeypatch.setattr(bf16, "_work", work)
    return measured


@pytest.mark.parametrize(("factor", "dtype"), [(0.4, torch.bfloat16), (1.6, torch.float32)])
def test_the_faster_precision_is_taken_and_measured_once(
    monkeypatch: pytest.MonkeyPatch, factor: float, dtype: torch.dtype
) -> None:
    measured = slower(monkeypatch, factor)
    assert choose_dtype(None, CPU) is dtype and len(measured) == 2 * bf16.ROUNDS
    bf16.processor_prefers_bf16.cache_clear()  # as another process does
    assert choose_dtype(None, CPU) is dtype and len(measured) == 2 * bf16.ROUNDS
    assert choose_dtype("fp32", CPU) is torch.float32  # what a person asks for counts


def test_another_processor_is_measured_anew_and_the_first_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    slower(monkeypatch, 0.5)
    assert bf16.processor_prefers_bf16("one")
    slower(monkeypatch, 2.0)
    assert not bf16.processor_prefers_bf16("another") and bf16.processor_prefers_bf16("one")
    assert sorted(json.loads(cache.read_text()).values()) == [False, True]


@pytest.mark.parametrize("text", ["", "[1]", '{"x": "yes"}', "\udcff"])
def test_a_damaged_memory_is_measured_again(monkeypatch: pytest.MonkeyPatch, cache: Path, text: str) -> None:
    cache.parent.mkdir()
    cache.write_text(text, errors="surrogateescape")
    assert len(slower(monkeypatch, 0.5)) == 0 and fast_bf16(CPU)


def test_a_folder_that_cannot_be_written_and_a_missing_kernel_are_no_failures(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    cache.parent.parent.joinpath("opensora").write_text("a file in the folder's place")

    def work(dtype: torch.dtype) -> float:
        if dtype is torch.bfloat16:
            raise RuntimeError("not implemented for 'BFloat16'")
        return 1.0

    monkeypatch.setattr(bf16, "_work", work)
    assert not fast_bf16(CPU)


def test_the_measurement_takes_moments() -> None:
    fp32, other = bf16.measure()
    assert 0 < fp32 < float("inf") and other > 0

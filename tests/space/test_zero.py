"""What the page's process and the child that has a GPU say to each other, without any GPU."""

import contextvars
import pickle
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stepwise import until

from opensora.pipelines import speed, verdict
from opensora.pipelines.errors import RequestError
from opensora.pipelines.lean import OutOfMemory
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import Cancelled, GenerationError, GenerationResult, Progress
from opensora.space.zero import Failure, Visitors, ZeroGpu, make, seconds_for

REQUEST = GenerationRequest("a red ball", length="1f")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], ZeroGpu]:
    """A ZeroGpu whose child is a call in this process, of another generation than the real one."""

    def build(generate: Callable[..., Any]) -> ZeroGpu:
        monkeypatch.setattr("opensora.pipelines.video.generate", generate)
        package = types.ModuleType("spaces")
        package.GPU = lambda task, duration: lambda *given: task(*pickle.loads(pickle.dumps(given)))  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "spaces", package)
        monkeypatch.setattr(speed, "_ASSUMED", {})
        return ZeroGpu()

    return build


def result() -> GenerationResult:
    return GenerationResult([np.zeros((1, 4, 4, 3), np.uint8)], 24.0, [1], {}, {}, {})


def test_progress_previews_and_the_result_come_back(gpu: Callable[[Callable[..., Any]], ZeroGpu]) -> None:
    preview = np.full((2, 4, 4, 3), 9, np.uint8)

    def generate(request: GenerationRequest, *, on_progress: Any, cancel: Any, lean: bool) -> GenerationResult:
        assert request.prompt == "a red ball" and lean and not cancel.is_set()
        on_progress(Progress("sampling", 1, 3, seconds_left=2.0, preview=preview))
        until(lambda: len(seen) == 2)
        return result()

    seen: list[Progress] = []
    made = gpu(generate)(REQUEST, on_progress=seen.append, cancel=threading.Event(), lean=True)
    assert made.seeds == [1]
    assert [progress.stage for progress in seen] == ["waiting for a GPU", "sampling"]
    assert (seen[1].step, seen[1].total, seen[1].seconds_left) == (1, 3, 2.0)
    assert np.array_equal(seen[1].preview, preview)


def test_a_wish_to_stop_reaches_the_child(gpu: Callable[[Callable[..., Any]], ZeroGpu]) -> None:
    def generate(request: GenerationRequest, *, on_progress: Any, cancel: Any, lean: bool) -> GenerationResult:
        stop.set()
        until(cancel.is_set)
        raise Cancelled()

    stop = threading.Event()
    with pytest.raises(Cancelled):
        gpu(generate)(REQUEST, on_progress=lambda progress: None, cancel=stop)


@pytest.mark.parametrize(
    "error",
    [GenerationError("decoding", "The clip is flat."), RequestError("seed", "Got a seed."), OutOfMemory("sampling")],
)
def test_errors_are_the_same_on_both_sides(
    gpu: Callable[[Callable[..., Any]], ZeroGpu], error: GenerationError | RequestError
) -> None:
    def generate(*arguments: Any, **options: Any) -> GenerationResult:
        raise error

    with pytest.raises(type(error)) as caught:
        gpu(generate)(REQUEST, on_progress=lambda progress: None, cancel=threading.Event())
    assert str(caught.value) == str(error)
    assert isinstance(make(REQUEST, "/nowhere", False), Failure)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("You have exceeded your free ZeroGPU quota (60s requested vs. 5s left).", "ZeroGPU gave no GPU: You have exc"),
        ("GPU task aborted", "The GPU was taken away before the clip was finished"),
        ("", "ZeroGPU gave no GPU. Try again in a while."),
    ],
)
def test_what_zero_gpu_refuses_is_a_sentence(
    gpu: Callable[[Callable[..., Any]], ZeroGpu], said: str, sentence: str
) -> None:
    def generate(*arguments: Any, **options: Any) -> GenerationResult:
        raise RuntimeError(said)

    with pytest.raises(GenerationError, match=sentence.replace("(", r"\(")) as caught:
        gpu(generate)(REQUEST, on_progress=lambda progress: None, cancel=threading.Event())
    assert caught.value.stage == "gpu"


def test_a_gpu_is_asked_for_as_long_as_the_preflight_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "turn_seconds", lambda request, lean: (request, lean))
    assert [seconds_for(REQUEST, "", lean) for lean in (False, True)] == [(REQUEST, False), (REQUEST, True)]


def test_each_owner_is_asked_for_in_the_request_that_came_last_and_few_are_remembered() -> None:
    request: contextvars.ContextVar[object] = contextvars.ContextVar("request", default=None)
    visitors = Visitors(most=2)

    def come(owner: str, token: object) -> None:
        request.set(token)
        visitors.remember(owner)

    for owner, token in (("a", 1), ("b", 2), ("a", 3), ("c", 4), ("c", None)):
        contextvars.copy_context().run(come, owner, token)
    assert [visitors.of(owner).get(request) for owner in "abc"] == [3, None, 4]


def test_a_package_that_cannot_report_the_start_says_so(
    gpu: Callable[[Callable[..., Any]], ZeroGpu], tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match=r"no spaces\.zero\.startup"):
        gpu(lambda: None).report()


def test_the_real_package_changes_nothing_outside_of_a_space() -> None:
    spaces = pytest.importorskip("spaces")
    assert spaces.GPU(make, duration=seconds_for) is make

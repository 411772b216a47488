"""One clip by two processes on the CPU: the same clip, stopped together, and nothing hangs when one of them ends."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import crew_jobs
import numpy as np
import psutil
import pytest
import typer

from opensora.commands.worker import own_gpus
from opensora.jobs import attempt, given
from opensora.jobs.attempt import Workplace
from opensora.jobs.board import Board
from opensora.jobs.crew import Crew
from opensora.jobs.crew import _outcome as outcome_of_words
from opensora.jobs.durable import DurableQueue
from opensora.jobs.fleet import gpu_sets
from opensora.jobs.messages import End, Ended
from opensora.jobs.places import Places
from opensora.jobs.queue import JobState
from opensora.jobs.record import Record
from opensora.jobs.storage import open_storage
from opensora.jobs.store import sqlite
from opensora.pipelines import speed
from opensora.pipelines.build import release_models
from opensora.pipelines.errors import RequestError
from opensora.pipelines.lean import OutOfMemory
from opensora.pipelines.preflight import count, estimate
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import Cancelled, GenerationError, Progress
from opensora.pipelines.video import generate

WAIT = 400
"""Seconds for anything: processes take a minute to start on a machine that is busy with other things."""
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module", autouse=True)
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("crew")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_JOBS", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join(str(Path(__file__).parents[n]) for n in (1, 2)))
        yield folder


@pytest.fixture(scope="module")
def crew(control: Path) -> Iterator[Crew]:
    crew = Crew(2, crew_jobs.GENERATE)
    yield crew
    crew.end()
    assert members() == {}


def members(of: int | None = None) -> dict[str, psutil.Process]:
    """Processes of crews below a process, by rank."""
    found = {}
    for process in psutil.Process(of).children(recursive=True):
        try:
            if "opensora.jobs.member" in process.cmdline() and "RANK" in (told := process.environ()):
                found[told["RANK"]] = process
        except psutil.Error:
            continue
    return found


def made(crew: Crew, request: GenerationRequest, told: Callable[[Progress], None] = lambda _: None) -> Any:
    return crew(request, on_progress=told, cancel=threading.Event())


def test_two_processes_make_the_clip_of_one_and_stay_for_the_next(crew: Crew) -> None:
    request = GenerationRequest("a red ball", length="1f", steps=2, seed=5, dtype="fp32").validated()
    told: list[Progress] = []
    keys = [count(request, request.bundle(), processes).key for processes in (1, 2)]
    result = made(crew, request, told.append)
    assert [speed.runs_of("sampling", key) for key in keys] == [0, 1]
    alone = generate(request)
    release_models()
    for processes, timings in ((1, alone.timings), (2, result.timings)):
        expected = estimate(request, processes).stages["sampling"]
        assert expected == pytest.approx(timings["sampling"], rel=0.01), processes
    assert result.plan["processes"] == 2 and result.seeds == alone.seeds and result.settings == alone.settings
    assert np.abs(result.frames.astype(int) - alone.frames.astype(int)).max() <= 1
    sampling = [(progress.step, progress.total) for progress in told if progress.stage == "sampling"]
    assert sampling == [(0, 2), (1, 2), (2, 2)] and any(progress.preview is not None for progress in told)
    before = members()
    assert len(before) == 2 and np.array_equal(made(crew, request).frames, result.frames) and members() == before


def test_all_stop_within_the_step_and_stay(crew: Crew) -> None:
    cancel, steps = threading.Event(), list[int]()

    def told(progress: Progress) -> None:
        steps.append(progress.step)
        if progress.step == 2:
            cancel.set()

    with pytest.raises(Cancelled):
        crew(GenerationRequest("stop"), on_progress=told, cancel=cancel)
    assert steps in ([0, 1, 2], [0, 1, 2, 3])  # the wish came before or during the step that follows
    before = members()
    with pytest.raises(GenerationError, match="The clip is flat"):
        made(crew, GenerationRequest("flat"))
    assert members() == before


@pytest.fixture
def at(tmp_path: Path, crew: Crew) -> Iterator[Workplace]:
    places = Places(tmp_path / "out")
    places.work.mkdir(parents=True)
    board = Board(sqlite(places.database))
    yield Workplace(places, board, open_storage(places, None), crew, "worker", most=2)
    board.close()


def outcome_of(at: Workplace, prompt: str) -> dict[str, Any]:
    """Of a job that was queued."""
    folder = at.places.given(prompt, 0)
    folder.mkdir(parents=True)
    at.board.add([Record(prompt, "me", given.pack(GenerationRequest(prompt), folder), created=1.5)])
    outcome = attempt.run(prompt, 1, at)
    assert outcome is not None and at.board.some([prompt])[0].outcome == outcome
    return outcome


def test_a_process_that_is_killed_is_an_attempt_and_the_next_makes_the_clip(at: Workplace) -> None:
    outcome = outcome_of(at, "die once")
    assert (outcome["state"], outcome["attempts"], outcome["plan"]) == ("done", 2, {"processes": 2})
    assert "this is attempt 2" in outcome["notes"][0]


def test_memory_that_runs_out_in_one_process_is_a_second_try_with_less(at: Workplace) -> None:
    outcome = outcome_of(at, "big")
    assert (outcome["state"], outcome["attempts"]) == ("done", 1)
    assert "The memory ran out in the sampling stage, so the clip was made again" in outcome["notes"][0]


def test_processes_that_are_killed_at_the_last_attempt_end_the_job_with_a_sentence(at: Workplace) -> None:
    outcome = outcome_of(replace(at, most=1), "die")
    assert (outcome["state"], outcome["attempts"]) == ("failed", 1)
    assert outcome["error"].startswith("Process 2 of the 2 that make a clip together ended in the middle of it")
    assert "attempt 1 of 1" in outcome["error"]


def test_what_one_process_says_of_itself_counts_more_than_what_others_heard_of_it() -> None:
    done, heard = Ended(End.DONE), Ended(End.LEFT, text="another process of the run ended without a word")
    with pytest.raises(RuntimeError, match="a process of the crew failed: ZeroDivisionError: x"):
        outcome_of_words([heard, Ended(End.BROKEN, text="ZeroDivisionError: x")])
    with pytest.raises(OutOfMemory, match="ran out in the decoding stage"):
        outcome_of_words([heard, Ended(End.MEMORY, "decoding", "no memory")])
    with pytest.raises(RequestError, match="no such seed"):
        outcome_of_words([Ended(End.CANCELLED), Ended(End.REFUSED, "seed", "no such seed")])
    with pytest.raises(RuntimeError, match="ended without a word"):
        outcome_of_words([heard, done])
    assert outcome_of_words([done, done]) is done


def test_a_worker_with_a_span_makes_jobs_and_its_processes_end_with_it(tmp_path: Path) -> None:
    queue = DurableQueue(tmp_path / "out", crew_jobs.GENERATE, span=2)
    try:
        view = queue.wait(queue.submit(GenerationRequest("die once"), "me"), "me", WAIT)  # it has died before
        assert view is not None and (view.state, view.plan) == (JobState.DONE, {"processes": 2}), view
        worker = next(p for p in psutil.Process().children() if "opensora.jobs.worker" in p.cmdline())
        ended = [*members(worker.pid).values()]
        assert len(ended) == 2
        worker.kill()
        assert psutil.wait_procs(ended, WAIT)[1] == []
    finally:
        queue.close()


def test_gpus_fall_into_sets_of_the_span() -> None:
    assert gpu_sets("0,1,2,3") == ("0", "1", "2", "3") and gpu_sets("0, 1,2,3", 2) == ("0,1", "2,3")
    assert gpu_sets("3,1", 2) == ("3,1",)
    with pytest.raises(ValueError, match="Got 3 GPUs for clips that span 2"):
        gpu_sets("0,1,2", 2)
    assert own_gpus("0,1", 2) == "0,1"
    with pytest.raises(typer.BadParameter, match=r"Start a worker for each of 0,1 and 2,3, or let all .* --span 4"):
        own_gpus("0,1,2,3", 2)

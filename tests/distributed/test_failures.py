"""What a failing process says reaches the others, with threads in the place of processes."""

import threading
from datetime import timedelta

import pytest
import torch.distributed as dist

from opensora.distributed.failures import Failures, RankFailure


def pair(patience: float = 200.0) -> list[Failures]:
    store = dist.HashStore()
    return [Failures(store, rank, 2, timedelta(seconds=patience)) for rank in range(2)]


def test_the_first_sentence_counts() -> None:
    first, second = pair()
    second.check()
    first.say(ValueError("prompt is empty; give one."))
    second.say(OSError("later"))
    for failures in (first, second):
        with pytest.raises(RankFailure, match="process 0 of 2 failed with ValueError: prompt is empty; give one"):
            failures.check()


@pytest.mark.parametrize("failing", [0, 1])
def test_who_has_finished_hears_of_a_failure(failing: int) -> None:
    both, raised = pair(), dict[int, BaseException]()

    def run(rank: int) -> None:
        try:
            with both[rank].shared():
                if rank == failing:
                    raise MemoryError("none left")
        except BaseException as error:
            raised[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert isinstance(raised[failing], MemoryError)
    heard = raised[1 - failing]
    assert isinstance(heard, RankFailure) and "MemoryError: none left" in str(heard)


def test_both_go_on_when_both_are_done() -> None:
    both, done = pair(), list[int]()

    def run(failures: Failures) -> None:
        for _ in range(2):
            with failures.shared():
                pass
        done.append(failures.rank)

    threads = [threading.Thread(target=run, args=(failures,)) for failures in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert sorted(done) == [0, 1]


def test_a_process_that_hangs_ends_the_run() -> None:
    waiting, _ = pair(patience=0.3)
    with pytest.raises(RankFailure, match=r"waited .* for another process"), waiting.shared():
        pass


def test_a_process_that_is_gone_is_named_so() -> None:
    failures, _ = pair()
    assert "ended without a word" in str(failures.lost(RuntimeError("Connection closed by peer\nmore")))

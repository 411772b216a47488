"""One request over 2 and 4 processes on CPUs equals one process's, and a process that fails ends all of them."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora.acceleration.parallel.network import parallelize, row_parts
from opensora.acceleration.parallel.tiles import parallelize_tiles
from opensora.distributed.group import Group, shares
from opensora.models.mmdit.mmdit import MMDiT, MMDiTConfig

CASES = Path(__file__).with_name("parallel_cases.py")
FAILING, SENTENCE = 1, "there is no memory left for the second block"
"""As in parallel_cases.py."""
ALLOWED = 1e-5
"""Relative Frobenius error in float32."""
ENDED = 80.0
"""Seconds after which a failure has ended all processes: before the patience of the cases, 90 s, is over."""


def environment(**more: str) -> dict[str, str]:
    root = str(CASES.parents[2])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root, **more}


def by_torchrun(count: int, folder: Path) -> list[tuple[int, str]]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    done = subprocess.run(
        [*command, str(CASES), str(folder)], env=environment(), capture_output=True, text=True, timeout=900
    )
    return [(done.returncode, done.stderr)]


def by_hand(count: int, folder: Path) -> list[tuple[int, str]]:
    """Without torchrun, which would end the others itself when one fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": str(count)}
    started = [
        subprocess.Popen(
            [sys.executable, str(CASES), str(folder)],
            env=environment(**place, RANK=str(rank)),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        errors = [process.communicate(timeout=900)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, error) for process, error in zip(started, errors, strict=True)]


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("count, start", [(2, by_torchrun), (4, by_hand)], ids=["2", "4"])
def test_processes_together_equal_one(
    count: int, start: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = start(count, tmp_path)
    assert all(code != 0 and SENTENCE in error for code, error in ended), "\n".join(error for _, error in ended)
    files = sorted(tmp_path.glob("*.pt"))
    assert len(files) == count, ended
    found = [torch.load(file) for file in files]
    worst: dict[str, float] = {}
    share: dict[str, float] = {}
    for result in found:
        for name, error, work in result["results"]:
            worst[name] = max(worst.get(name, 0.0), error)
            share[name] = max(share.get(name, 0.0), work)
    with capsys.disabled():
        print(f"\n{count} processes: the worst relative Frobenius error, and the largest share of the work")
        for name, error in worst.items():
            print(f"  {name:45} {error:.1e} {share[name]:5.0%}")
    assert max(worst.values()) <= ALLOWED, worst
    assert all(work <= 1.2 / count for name, work in share.items() if " rows " in name), share
    for rank, result in enumerate(found):
        kind = "MemoryError: " if rank == FAILING else "RankFailure: process 1 "
        assert result["error"].startswith(kind) and SENTENCE in result["error"], result["error"]
        assert result["seconds"] < ENDED, (rank, result["seconds"])


def test_rows_are_divided_before_tokens() -> None:
    assert [row_parts(rows, 2) for rows in (1, 2, 3, 4, 6)] == [1, 2, 1, 2, 2]
    assert [row_parts(rows, 4) for rows in (1, 2, 3, 4, 6)] == [1, 2, 1, 4, 2]
    assert [row_parts(rows, 8) for rows in (1, 2, 3, 6)] == [1, 2, 1, 2]


@given(st.integers(0, 100), st.integers(1, 9))
def test_shares_are_as_equal_as_they_can_be(length: int, count: int) -> None:
    parts = shares(length, count)
    assert len(parts) == count and sum(parts) == length and max(parts) - min(parts) <= 1


def unconnected(size: int) -> Group:
    """As a process sees a group, without others to talk to."""
    return Group(range(size), 0)


def test_parts_of_a_group() -> None:
    assert unconnected(5).cut(3) == [range(0, 2), range(2, 4), range(4, 5)]
    assert unconnected(4).cut(1) == [range(4)]
    with pytest.raises(ValueError, match="got 5 parts for 4 processes"):
        unconnected(4).cut(5)


def small() -> MMDiT:
    sizes = {"in_channels": 8, "vec_in_dim": 4, "context_in_dim": 4, "hidden_size": 48, "num_heads": 2}
    return MMDiT(MMDiTConfig(**sizes, depth=1, depth_single_blocks=1, axes_dim=(4, 8, 12)))


def test_one_process_changes_nothing() -> None:
    network, group = small(), Group()
    hooks = [len(network._forward_pre_hooks), len(network.final_layer._forward_hooks)]
    assert parallelize(network, group) is network and parallelize_tiles(network, group) is network
    assert hooks == [len(network._forward_pre_hooks), len(network.final_layer._forward_hooks)]
    x = torch.ones(2)
    assert group.exchange([x], [(2,)])[0] is x and group.gather(x, [(2,)])[0] is x and group.split(1) is group
    with group.together():
        pass


def test_what_cannot_be_divided_is_refused_before_the_run() -> None:
    with pytest.raises(ValueError, match="3 processes for 2 attention heads; start at most 2"):
        parallelize(small(), unconnected(3))
    with pytest.raises(ValueError, match="got a Linear; expected MMDiT or STDiT3"):
        parallelize(torch.nn.Linear(1, 1), unconnected(2))  # type: ignore[type-var]
    with pytest.raises(ValueError, match="got a Linear; expected an autoencoder"):
        parallelize_tiles(torch.nn.Linear(1, 1), unconnected(2))
    network = parallelize(small(), unconnected(2))
    with pytest.raises(ValueError, match="not parallel yet"):
        parallelize(network, unconnected(2))
    with pytest.raises(ValueError, match="while gradients are recorded"):
        network(torch.zeros(1, 1, 8), None, None, None, None, None)

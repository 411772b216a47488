"""Processes that train together: gradients are averaged, and every process ends with the same weights."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from opensora.distributed.workers import Workers

SCRIPT = """
import sys
from pathlib import Path
import torch
from opensora.distributed.workers import Workers

workers = Workers.start()
torch.manual_seed(0)
layer, unused = torch.nn.Linear(3, 1), torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.SGD([*layer.parameters(), unused], lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    layer(torch.full((1, 3), float(workers.rank + step))).sum().backward()
    workers.average_gradients([*layer.parameters(), unused])
    optimizer.step()
agreed = workers.agree(workers.first), workers.agree(not workers.first)
result = workers.rank, workers.count, workers.first, agreed, layer.state_dict()
torch.save(result, Path(sys.argv[1]) / f"{workers.rank}.pt")
workers.stop()
"""


def test_two_processes_take_the_step_of_their_mean_gradient(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run([*command, str(script), str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first[:4] == (0, 2, True, (True, False)) and second[:4] == (1, 2, False, (True, False))
    torch.manual_seed(0)
    alone = torch.nn.Linear(3, 1)
    weight = alone.weight.detach() - 0.1 * sum(0.5 + step for step in range(3))  # mean input of a step: step + 1/2
    for state in (first[4], second[4]):
        torch.testing.assert_close(state["weight"], weight)
        torch.testing.assert_close(state["bias"], alone.bias.detach() - 0.3)


def test_one_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    workers = Workers.start()
    parameter = torch.nn.Parameter(torch.ones(2))
    workers.average_gradients([parameter])
    assert (workers.rank, workers.count, workers.first, parameter.grad) == (0, 1, True, None)
    assert workers.agree(True) and not workers.agree(False)
    workers.stop()

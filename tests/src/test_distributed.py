"""Two processes with a share of each batch learn what one process learns on the whole."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from vqbook.quantizers.distributed import all_mean, all_sum, from_first, global_rows, place, world_size

WORKER = Path(__file__).with_name("distributed_worker.py")
LAUNCHERS = {  # port 0: the rendezvous takes a free one itself
    "torchrun": "torch.distributed.run --standalone --nproc-per-node 2",
    "accelerate": "accelerate.commands.accelerate_cli launch --multi_gpu --num_processes 2 --num_machines 1 "
    "--mixed_precision no --dynamo_backend no --rdzv_backend c10d --main_process_ip localhost --main_process_port 0",
}


@pytest.fixture(scope="module")
def alone() -> dict[str, Tensor]:
    return runpy.run_path(str(WORKER))["everything"](0, 1)


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch without gloo")
@pytest.mark.parametrize("launcher", list(LAUNCHERS))
def test_two_processes_learn_what_one_learns(launcher: str, alone: dict[str, Tensor], tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", *LAUNCHERS[launcher].split(), str(WORKER), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert set(first) == set(second) == set(alone)
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), f"{name} differs between the ranks"
        torch.testing.assert_close(first[name], value, msg=lambda text, name=name: f"{name}: {text}")


def test_the_scenarios_test_something(alone: dict[str, Tensor]) -> None:
    """Codes died and were restarted, all vectors were counted, statistics and codebooks moved."""
    assert alone["ema.usage"].sum() == 6 * 96
    for name, timeout in (("ema", 2), ("plain", 2), ("cosine", 1)):
        assert (alone[f"{name}.countdown"] < timeout).any()
    assert alone["opt.quantizer.seen"]
    assert alone["opt.velocity"].abs().sum() > 0
    assert alone["priced.prices"].abs().max() > 0.01
    for name in ("gmvq", "gmvq, ema"):
        assert (
            alone[f"{name}.values"].max() > 30
            and (alone[f"{name}.0.weight"] - torch.eye(4)).abs().max() > 0.01
        )


def test_alone_nothing_is_exchanged() -> None:
    x = torch.arange(6.0).reshape(3, 2).requires_grad_()
    assert world_size() == 1
    assert place(3, x.device) == (0, 3)
    assert torch.equal(all_sum(x), x) and not all_sum(x).requires_grad
    assert from_first(x) is x
    assert torch.equal(all_mean(x.sum(0), 3), x.mean(0)) and all_mean(x.sum(0), 3).requires_grad
    assert torch.equal(global_rows(x, torch.tensor([2, 0, 2]), 0), x[[2, 0, 2]])

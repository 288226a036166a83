"""Run by test_processes.py in each of two real processes: learns, and the first one writes down what all of them saw.

python tests/together.py OUT JOB...   with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from tacit.errors import InputError, TacitError
from tacit.parts.batch_norm import SharedBatchNorm
from tacit.parts.processes import agreed, gathered, is_first, meet, own_rows, rank, summed, together
from tacit.parts.train import Batch, TrainConfig, fit
from tacit.parts.weights import save_tensors

torch.set_num_threads(1)
BATCH = 12  # pictures of all processes together


class Losses:
    """Every step's values."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def log(self, step: int, values: dict[str, float]) -> None:
        self.rows.append({k: v for k, v in values.items() if k != "seconds"})

    def advance(self, done: int, total: int) -> None: ...


def train_config(name: str) -> TrainConfig:
    """Plain gradient descent, which follows rounding errors in proportion; Adam divides by tiny gradients and makes them large.
    The network has no ReLU before its head and no maximum, where a rounding error tips a whole gradient over."""
    lr = 0.05 if name == "simclr" else 0.01
    return TrainConfig(epochs=2, steps=4, batch=BATCH, average=0.0, precision="fp32", optimizer="sgd", lr=lr, checkpoint_every=3, log_every=1)


def learn(name: str, folder: Path | None = None, killed_at: int | None = None) -> tuple[nn.Module, list[dict[str, float]]]:
    """The module after training on this process's rows of every batch, and every step's values."""
    from test_pretraining import SIDES, SMALLEST, batch, made

    def share(step: int) -> Batch:
        if step == killed_at and not is_first():
            os.kill(os.getpid(), signal.SIGKILL)
        return {key: own_rows(rows) for key, rows in batch(step, BATCH, SIDES.get(name, 32)).items()}

    losses = Losses()
    return fit(made(name, SMALLEST), share, train_config(name), seed=1, folder=folder, tracker=losses), losses.rows


def normed(kind: type[nn.Module]) -> tuple[nn.Module, torch.Tensor]:
    """A batch norm with weights of its own, and rows of both processes for it."""
    torch.manual_seed(3)
    norm = kind(4)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(4)), norm.bias.copy_(torch.randn(4))
    return norm.double(), 3 + 2 * torch.randn(6, 4, *[5, 3][: 2 if kind is nn.BatchNorm2d else 0], dtype=torch.double)


def loss_of(y: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Any loss that weighs every place of y (rows: which places of all of them) its own way."""
    return (y * torch.sin(rows)).sum() + (y**3).mean(0).sum()


def main(out: Path, jobs: list[str]) -> None:
    found: dict[str, object] = {}
    for job in jobs:
        name, _, how = job.partition(":")
        if name == "norm":
            for kind in (nn.BatchNorm1d, nn.BatchNorm2d):
                norm, rows = normed(kind)
                shared, x = SharedBatchNorm(norm), own_rows(rows).clone().requires_grad_()
                y = shared.train()(x)
                loss_of(y, own_rows(rows)).backward()
                tensors = {"y": gathered(y), "x": gathered(x.grad), "weight": summed(shared.weight.grad), "bias": summed(shared.bias.grad)}
                tensors |= shared.state_dict(prefix="state.")
                if is_first():
                    save_tensors(out / f"{kind.__name__}.safetensors", tensors)
        elif name == "rows":
            x = (torch.arange(2.0) + 10 * rank()).requires_grad_()
            (gathered(x) * torch.arange(1.0, 5.0) * (1 + rank())).sum().backward()
            found |= {"rows": gathered(x).tolist(), "gradient": gathered(x.grad).tolist(), "sum": summed(x).tolist()}
        elif name == "stops":
            try:
                with agreed():
                    if rank() == 1:
                        raise InputError("no pictures here")
            except TacitError as error:
                found |= {"heard": str(error), "code": error.exit_code, "told": error.told}
                assert error.told == (rank() == 1)
            found["asked"] = meet(asked=rank() == 1)
        else:
            folder = out / "checkpoint" if how else None
            module, rows_seen = learn(name, folder, int(how) if how.isdigit() else None)
            found[name] = rows_seen
            if is_first():
                save_tensors(out / f"{name}.safetensors", module.state_dict())
    if is_first():
        (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    try:
        with together("cpu"):
            main(Path(sys.argv[1]), sys.argv[2:])
    except TacitError as failure:
        sys.exit(f"{type(failure).__name__}: {failure}")

"""Several processes that learn together: who is who, rows and sums over all of them, and how all stop when one fails.

torchrun starts them and says in the environment who each is. Here they meet, by gloo on processors and NCCL on GPUs. For one process
alone every function gives what it was given.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tacit.errors import TacitError, TrainingError, UsageError

PATIENCE = timedelta(hours=1)  # one process may work alone for so long while the others wait; one that dies is noticed at once
LOST = ("gloo", "nccl", "connection", "socket", "store")  # words in torch's errors when another process is gone
MOST_BYTES = 1000  # of an error's message that the others hear


class ElsewhereError(TacitError):
    """Another process failed, and so do all; it carries that one's message and exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def size() -> int:
    """How many processes learn together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if size() > 1 else 0


def is_first() -> bool:
    """Whether this process writes and speaks for all."""
    return rank() == 0


def here() -> tuple[int, int]:
    """(which process of this machine this one is, how many it has)."""
    return int(os.environ.get("LOCAL_RANK", rank())), int(os.environ.get("LOCAL_WORLD_SIZE", size()))


@contextmanager
def together(device: str) -> Iterator[None]:
    """Inside, the processes that torchrun started know each other; does nothing for one alone. device: cpu or cuda.

    Raises UsageError where the environment names others but not where to meet, TrainingError where another process is lost.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or size() > 1:
        yield
        return
    if ":" in device:
        raise UsageError(f"--device {device}: torchrun gives each of its processes a GPU of its own; use --device cuda")
    if device == "cuda":
        torch.cuda.set_device(here()[0])
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the processes cannot meet ({_line(error)}); start them by torchrun, or unset WORLD_SIZE"
        ) from error
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(word in str(error).lower() for word in LOST):
            raise
        raise TrainingError(f"process {rank()} of {size()} lost another one ({_line(error)}); its own message says why; repeat with --resume") from error
    finally:
        dist.destroy_process_group()


@contextmanager
def agreed() -> Iterator[None]:
    """What is done inside must succeed on every process: where it raises a TacitError on one, it raises on all."""
    error = None
    try:
        yield
    except TacitError as own:
        error = own
    meet(error)


def meet(error: TacitError | None = None, asked: bool = False) -> bool:
    """Whether any process was asked to stop. Raises on all where one has an error: its own there, ElsewhereError on the others."""
    if size() == 1:
        if error is not None:
            raise error
        return asked
    flags = torch.tensor([int(error is not None), int(asked)])
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    if not flags[0]:
        return bool(flags[1])
    words = str(error).encode()[:MOST_BYTES] if error is not None else b""
    note = torch.zeros(MOST_BYTES + 2, dtype=torch.uint8)
    if error is not None:
        note[: len(words) + 2] = torch.tensor([1, error.exit_code, *words], dtype=torch.uint8)
    notes = _every(note[None])
    failed = int(notes[:, 0].argmax())
    if error is None:
        message = bytes(notes[failed, 2:].tolist()).rstrip(b"\0").decode(errors="replace")
        error = ElsewhereError(f"process {failed} of {size()}: {message}", int(notes[failed, 1]))
    error.told = not is_first()
    raise error


def alike(number: int) -> bool:
    """Whether a number below 2⁶³ is the same on all processes."""
    if size() == 1:
        return True
    ends = torch.tensor([number, -number])
    dist.all_reduce(ends, dist.ReduceOp.MAX)
    return bool(ends[0] == -ends[1])


def summed(x: Tensor) -> Tensor:
    """The sum of a tensor over the processes, the same on all; no gradient."""
    if size() == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total


def gathered(x: Tensor) -> Tensor:
    """Rows (b, …) of all processes in their order, (processes·b, …); the gradient finds its way back to each row's own process."""
    return x if size() == 1 else _Gathered.apply(x)


def own_rows(rows: Tensor) -> Tensor:
    """This process's share of rows that all of them hold, (processes·b, …) → (b, …)."""
    return rows.chunk(size())[rank()]


def _every(x: Tensor) -> Tensor:
    rows = [torch.empty_like(x) for _ in range(size())]
    dist.all_gather(rows, x)
    return torch.cat(rows)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _every(x.detach().contiguous())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return own_rows(summed(grad.contiguous()))


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]

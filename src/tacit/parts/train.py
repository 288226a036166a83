"""The only training loop: any module with `loss(batch)`, on CPU or GPU, resumed to bit-equal weights.

A batch is a pure function of its step (counter-based randomness), the learning rate too, and the generator of torch is
reseeded at every step; so a run killed anywhere and resumed from its last checkpoint ends where an unbroken one ends.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count, Positive, Share
from tacit.errors import TrainingError
from tacit.interrupt import HeldInterrupt
from tacit.parts.weights import load_tensors, save_tensors

Batch = dict[str, Any]
CHECKPOINT = "last.safetensors"


class TrainConfig(Config):
    epochs: Annotated[int, Field(ge=0)] = 6  # an epoch is `steps` batches
    steps: Annotated[int, Field(ge=0)] = 100
    batch: Count = 16  # items a batch
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 3e-3  # peak
    momentum: float = 0.9  # sgd
    weight_decay: float = 1e-2
    schedule: Literal["one-cycle", "poly", "constant"] = "one-cycle"
    average: Share = 0.3  # weights are averaged over this last share of the steps; 0 = off
    precision: Literal["bf16", "fp32"] = "bf16"
    checkpoint_every: Count = 100  # steps

    @property
    def total(self) -> int:
        return self.epochs * self.steps


class Tracker(Protocol):
    def log(self, step: int, values: dict[str, float]) -> None: ...

    def advance(self, done: int, total: int) -> None: ...


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate at `step`: a pure function, so that resuming needs no scheduler state.

    one-cycle: linear rise over the first 25%, cosine fall to 0 (Smith 2018, arXiv 1803.09820) · poly: (1 − t)^0.9.
    """
    t = step / max(config.total, 1)
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "poly":
        return config.lr * (1 - t) ** 0.9
    rise = 0.25
    return config.lr * (t / rise + 1e-2 if t < rise else 0.5 * (1 + math.cos(math.pi * (t - rise) / (1 - rise))))


def fit(
    module: nn.Module,
    batches: Callable[[int], Batch],
    config: TrainConfig,
    *,
    seed: int,
    folder: Path | None = None,
    device: str = "cpu",
    tracker: Tracker | None = None,
    before_epoch: Callable[[int], None] | None = None,
) -> nn.Module:
    """Trains `module` in place for `config.total` steps and returns it in eval mode, weights averaged if asked.

    batches(step) gives the batch of that step; `before_epoch(epoch)` runs before an epoch's first step; the module's own
    `after_step(progress)` after each. folder: where the checkpoint lives; a checkpoint found there is resumed.
    Raises TrainingError naming the step when the loss is not finite.
    """
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision at every start
    precision = "bf16-mixed" if config.precision == "bf16" else "32-true"
    kind, _, number = device.partition(":")  # "cuda:1" is the second GPU
    fabric = Fabric(accelerator=kind, devices=[int(number)] if number else 1, precision=precision)  # type: ignore[arg-type]
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(module, config)
    wrapped, optimizer = fabric.setup(module, optimizer)
    wrapped.mark_forward_method("loss")
    average: dict[str, Tensor] = {}
    start = _resume(module, optimizer, average, folder)
    clock = time.monotonic()
    first_averaged = math.ceil(config.total * (1 - config.average)) if config.average else config.total
    with HeldInterrupt() as interrupt:
        for step in range(start, config.total):
            if before_epoch is not None and step % config.steps == 0:
                before_epoch(step // config.steps)
            values = _step(fabric, module, wrapped, optimizer, batches(step), config, step, seed)
            if step >= first_averaged:
                _accumulate(average, module, step - first_averaged + 1)
            done = step + 1
            if tracker is not None:
                if step % 10 == 0 or done == config.total:
                    scalars = {k: float(v.detach()) for k, v in values.items() if v.numel() == 1}
                    tracker.log(step, scalars | {"lr": learning_rate(config, step), "seconds": time.monotonic() - clock})
                tracker.advance(done, config.total)
            if folder is not None and (done % config.checkpoint_every == 0 or done == config.total or interrupt.asked):
                _checkpoint(folder, module, optimizer, average, done)
            if interrupt.asked:
                raise KeyboardInterrupt
    if average:
        module.load_state_dict({k: average[k].to(v.dtype) if k in average else v for k, v in module.state_dict().items()})
    return module.eval()


def _step(fabric: Any, module: nn.Module, wrapped: Any, optimizer: Any, batch: Batch, config: TrainConfig, step: int, seed: int) -> dict[str, Tensor]:
    """One step of the optimizer, its randomness a function of (seed, step). Raises TrainingError on a loss that is not finite."""
    torch.manual_seed((seed * 1_000_003 + step) % 2**63)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
    module.train()
    with fabric.autocast():
        values: dict[str, Tensor] = wrapped.loss(_on(fabric.device, batch))
    loss = values["loss"]
    if not torch.isfinite(loss):
        raise TrainingError(
            f"the loss became {float(loss.detach())} at step {step} of {config.total}; batch {step} or the learning rate "
            f"({learning_rate(config, step):.2g}) is to blame: look at the inputs, or lower it with --set train.lr=…"
        )
    optimizer.zero_grad(set_to_none=True)
    fabric.backward(loss)
    optimizer.step()
    after_step: Callable[[float], None] | None = getattr(module, "after_step", None)
    if after_step is not None:
        after_step((step + 1) / config.total)
    return values


def _optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    trained = [p for p in module.parameters() if p.requires_grad]
    if config.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    return torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)


def _on(device: torch.device, batch: Batch) -> Batch:
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}


def _accumulate(average: dict[str, Tensor], module: nn.Module, count: int) -> None:
    """Running mean of every floating-point weight and buffer; `count` is 1 at the first call."""
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            mean = average.setdefault(name, torch.zeros_like(value, dtype=torch.float32, memory_format=torch.contiguous_format))
            mean += (value.float() - mean) / max(count, 1)


def _checkpoint(folder: Path, module: nn.Module, optimizer: Any, average: dict[str, Tensor], done: int) -> None:
    tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items() if v is not None}
    save_tensors(folder / CHECKPOINT, tensors, {"done": done})


def _resume(module: nn.Module, optimizer: Any, average: dict[str, Tensor], folder: Path | None) -> int:
    if folder is None or not (folder / CHECKPOINT).exists():
        return 0
    tensors, note = load_tensors(folder / CHECKPOINT)
    parts: dict[str, dict[str, Tensor]] = {"module": {}, "average": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    module.load_state_dict(parts["module"])
    average.update({k: v.to(next(module.parameters()).device) for k, v in parts["average"].items()})
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(note["done"])

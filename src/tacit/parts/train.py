"""The only training loop: any module with `loss(batch)`, on CPU or GPU, in one process or many, resumed to bit-equal weights.

A batch is a pure function of its step (counter-based randomness), the learning rate too, and the generator of torch is
reseeded at every step; so a run killed anywhere and resumed from its last checkpoint ends where an unbroken one ends.
Of several processes each brings its share of the batch; gradients are averaged, batch norm and the losses see the whole batch,
so they learn what one process would. The first one writes; all stop together.
"""

from __future__ import annotations

import inspect
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
from tacit.errors import TacitError, TrainingError
from tacit.interrupt import HeldInterrupt
from tacit.parts.batch_norm import share_batch_norm
from tacit.parts.collapse import spread
from tacit.parts.processes import agreed, alike, gathered, here, is_first, meet, size, summed
from tacit.parts.weights import load_tensors, save_tensors

Batch = dict[str, Any]
CHECKPOINT = "last.safetensors"


class TrainConfig(Config):
    epochs: Annotated[int, Field(ge=0)] = 6  # an epoch is `steps` batches
    steps: Annotated[int, Field(ge=0)] = 100
    batch: Count = 16  # items a batch; of several processes all together
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 3e-3  # peak
    momentum: float = 0.9  # sgd
    weight_decay: float = 1e-2
    schedule: Literal["one-cycle", "poly", "constant", "halving"] = "one-cycle"
    average: Share = 0.3  # weights are averaged over this last share of the steps; 0 = off
    precision: Literal["bf16", "fp32"] = "bf16"
    checkpoint_every: Count = 100  # steps
    log_every: Count = 10  # steps between rows of metrics.csv

    @property
    def total(self) -> int:
        return self.epochs * self.steps


class Tracker(Protocol):
    def log(self, step: int, values: dict[str, float]) -> None: ...

    def advance(self, done: int, total: int) -> None: ...


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate at `step`: a pure function, so that resuming needs no scheduler state.

    one-cycle: linear rise over the first 25%, cosine fall to 0 (Smith 2018, arXiv 1803.09820) · poly: (1 − t)^0.9 ·
    halving: half as much after every tenth of the steps.
    """
    t = step / max(config.total, 1)
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "halving":
        return float(config.lr * 0.5 ** int(10 * t))
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
    after_step: Callable[[int], None] | None = None,
) -> nn.Module:
    """Trains `module` in place for `config.total` steps and returns it in eval mode, weights averaged if asked.

    batches(step) gives the batch of that step (this process's share of it); `before_epoch(epoch)` runs before an epoch's first
    step, `after_step(done)` after each, after the module's own `after_step(progress)`. folder: where the checkpoint lives; a checkpoint
    found there is resumed. What the module's loss calls `embedding` (b, f) is watched for collapse. A module whose parts learn at
    rates of their own says so by `rate_shares`: {name of the part: share of the rate}; parts that play against each other detach what
    is the other's inside the one loss.
    Raises TrainingError naming the step when the loss is not finite.
    """
    steps = Steps(module, config, seed=seed, device=device)
    average: dict[str, Tensor] = {}
    start = _start(module, steps.optimizer, average, folder)
    clock = time.monotonic()
    first_averaged = math.ceil(config.total * (1 - config.average)) if config.average else config.total
    with HeldInterrupt() as interrupt:
        for step in range(start, config.total):
            if before_epoch is not None and step % config.steps == 0:
                before_epoch(step // config.steps)
            batch, stopping = _next(batches, step, interrupt)
            values = steps(batch, step)
            if step >= first_averaged:
                _accumulate(average, module, step - first_averaged + 1)
            done = step + 1
            if after_step is not None:
                after_step(done)
            if tracker is not None:
                if step % config.log_every == 0 or done == config.total:
                    tracker.log(step, _scalars(values) | {"lr": learning_rate(config, step), "seconds": time.monotonic() - clock})
                tracker.advance(done, config.total)
            stopping = interrupt.asked if size() == 1 else stopping  # several stop at a step that all know
            if folder is not None and is_first() and (done % config.checkpoint_every == 0 or done == config.total or stopping):
                _checkpoint(folder, module, steps.optimizer, average, done)
            if stopping:
                raise KeyboardInterrupt
    if average:
        module.load_state_dict({k: average[k].to(v.dtype) if k in average else v for k, v in module.state_dict().items()})
    return module.eval()


class Steps:
    """One step after the other on `module`: of its own `before_step`, of the optimizer at its rate, of its own `after_step`; its randomness a function of (seed, step).

    Called with this process's share of a batch and the step's number, it gives the scalars of the loss as their means over the processes, and
    other tensors as they are. Raises TrainingError on a loss that is not finite, on all processes.
    """

    def __init__(self, module: nn.Module, config: TrainConfig, *, seed: int, device: str = "cpu") -> None:
        self.module, self.config, self.seed = module, config, seed
        self.fabric = _fabric(config, device)
        if size() > 1:
            share_batch_norm(module)
        for weight in module.parameters():
            if weight.ndim == 4:  # not those of volumes, which torch would refuse
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        self.wrapped, self.optimizer = self.fabric.setup(module, _optimizer(module, config))
        self.wrapped.mark_forward_method("loss")

    def __call__(self, batch: Batch, step: int) -> dict[str, Tensor]:
        config, rate = self.config, learning_rate(self.config, step)
        torch.manual_seed((self.seed * 1_000_003 + step) % 2**63)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self.module.train()
        before_step: Callable[[float], None] | None = getattr(self.module, "before_step", None)
        if before_step is not None:
            before_step(step / config.total)
        with self.fabric.autocast():
            values: dict[str, Tensor] = self.wrapped.loss(_on(self.fabric.device, batch))
        loss, values = values["loss"], _averaged(values)
        if not torch.isfinite(values["loss"]):
            raise TrainingError(
                f"the loss became {float(values['loss'])} at step {step} of {config.total}; batch {step} or the learning rate "
                f"({rate:.2g}) is to blame: look at the inputs, or lower it with --set train.lr=…"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.optimizer.step()
        after_step: Callable[[float], None] | None = getattr(self.module, "after_step", None)
        if after_step is not None:
            after_step((step + 1) / config.total)
        return values


def _fabric(config: TrainConfig, device: str) -> Any:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision at every start
    precision: Any = "bf16-mixed" if config.precision == "bf16" else "32-true"
    kind, _, number = device.partition(":")  # "cuda:1" is the second GPU
    if size() == 1:
        return Fabric(accelerator=kind, devices=[int(number)] if number else 1, precision=precision)
    local = here()[1]
    known = inspect.signature(nn.parallel.DistributedDataParallel).parameters
    strategy = DDPStrategy(**{"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False})  # they are equal already
    fabric = Fabric(accelerator=kind, devices=local, num_nodes=size() // local, strategy=strategy, precision=precision)
    fabric.launch()
    return fabric


def _next(batches: Callable[[int], Batch], step: int, interrupt: HeldInterrupt) -> tuple[Batch, bool]:
    """The batch of a step, and whether any process was asked to stop. A process that cannot read its share stops all."""
    batch, error = Batch(), None
    try:
        batch = batches(step)
    except TacitError as own:
        error = own
    return batch, meet(error, interrupt.asked)


def _averaged(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every scalar as its mean over the processes; other tensors as they are."""
    names = [k for k, v in values.items() if v.numel() == 1 and k != "embedding"]
    means = summed(torch.stack([values[k].detach().float().reshape(()) for k in names])) / size()
    return {k: v.detach() for k, v in values.items()} | dict(zip(names, means, strict=True))


def _scalars(values: dict[str, Tensor]) -> dict[str, float]:
    """What is written down of a step; the embeddings of all processes as two signs of collapse."""
    scalars = {k: float(v) for k, v in values.items() if v.numel() == 1 and k != "embedding"}
    return scalars | ({k: float(v) for k, v in spread(gathered(values["embedding"])).items()} if "embedding" in values else {})


def _optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    trained = _groups(module)
    if config.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True)
    return torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay, fused=True)  # a third of the time of the plain loop


def _groups(module: nn.Module) -> list[dict[str, Any]]:
    """The weights, those of each part that `rate_shares` names in a group of their own, with its share of the rate."""
    shares: dict[str, float] = getattr(module, "rate_shares", {})
    named = [(next((part for part in shares if name.startswith(f"{part}.")), ""), p) for name, p in module.named_parameters() if p.requires_grad]
    groups = [{"params": [p for part, p in named if part == own], "share": shares.get(own, 1.0)} for own in ("", *shares)]
    return [group for group in groups if group["params"]]


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


def _start(module: nn.Module, optimizer: Any, average: dict[str, Tensor], folder: Path | None) -> int:
    """The step to begin with: after the checkpoint's, the same for all processes."""
    with agreed():
        start = _resume(module, optimizer, average, folder)
    if not alike(start):
        raise TrainingError(f"the processes found different checkpoints (this one step {start}); OUT must lie on storage that all of them see")
    return start


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
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    for name, tensor in parts["optimizer"].items():
        index, _, key = name.partition(".")
        like = weights[int(index)]  # a fused optimizer goes through memory as it lies, and files hold rows of their own order
        state.setdefault(int(index), {})[key] = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor) if tensor.shape == like.shape else tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(note["done"])

"""One step of BYOL with a ResNet-18 at 224 px beside lightly's own modules, one thread: forwards, loss, backward, optimizer, slow copy.

    python benchmarks/byol_step.py [BATCH]     prints a table, writes benchmarks/results/byol_step.json

Both take the same batch of two views that are already made, heads of the same sizes (hidden 4096, projection 256) and SGD with
momentum. The peer is the step of lightly's BYOL example: torchvision's ResNet-18, its heads, NegativeCosineSimilarity both ways,
update_momentum; ours is the step of the training loop. The two take turns, so that a busy machine slows both alike; CPU time counts.
Our bf16 stands beside the peer's fp32, which is what its example runs, and beside the peer under the same autocast.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from interleaved import one_thread, race, write
from tacit.learn.byol import Byol, ByolConfig
from tacit.parts.decoder import declare_torchvision_operators
from tacit.parts.train import Steps, TrainConfig

LR, MOMENTUM, DECAY = 0.03, 0.9, 1e-4
SIDE = 224


def ours(views: list[Tensor], precision: str) -> Callable[[], float]:
    config = TrainConfig(optimizer="sgd", lr=LR, momentum=MOMENTUM, weight_decay=DECAY, schedule="constant", precision=precision, average=0.0)
    torch.manual_seed(0)
    module = Byol(ByolConfig())
    step = Steps(module, config, seed=0)
    batch, count = {"a": views[0], "b": views[1]}, iter(range(10**9))
    return lambda: float(step(batch, next(count))["loss"])


def peer(views: list[Tensor], bf16: bool = False) -> Callable[[], float]:
    declare_torchvision_operators()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torchvision
            from lightly.loss import NegativeCosineSimilarity
            from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
            from lightly.models.utils import deactivate_requires_grad, update_momentum
        except ImportError as error:
            sys.exit(f"lightly is not here ({error}), so there is nothing to compare with and nothing is written; pip install lightly")
    torch.manual_seed(0)
    backbone = nn.Sequential(*list(torchvision.models.resnet18().children())[:-1])
    projection, prediction = BYOLProjectionHead(512, 4096, 256), BYOLPredictionHead(256, 4096, 256)
    slow_backbone, slow_projection = copy.deepcopy(backbone), copy.deepcopy(projection)
    deactivate_requires_grad(slow_backbone), deactivate_requires_grad(slow_projection)
    parameters = [p for m in (backbone, projection, prediction) for p in m.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    criterion = NegativeCosineSimilarity()

    def forward(x: Tensor) -> Tensor:
        return prediction(projection(backbone(x).flatten(start_dim=1)))

    def target(x: Tensor) -> Tensor:
        return slow_projection(slow_backbone(x).flatten(start_dim=1)).detach()

    def step() -> float:
        update_momentum(backbone, slow_backbone, m=0.996)
        update_momentum(projection, slow_projection, m=0.996)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            p0, z0, p1, z1 = forward(views[0]), target(views[0]), forward(views[1]), target(views[1])
            loss = 0.5 * (criterion(p0, z1) + criterion(p1, z0))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def main(count: int) -> None:
    one_thread()
    torch.manual_seed(1)
    views = [torch.randn(count, 3, SIDE, SIDE) for _ in range(2)]
    rows = {}
    for row, precision, bf16 in (("fp32", "fp32", False), ("bf16 beside fp32", "bf16", False), ("bf16 beside bf16", "bf16", True)):
        rows[f"a step of {count} images, {row}"] = found = race(ours(views, precision), peer(views, bf16), calls=1, rounds=7)
        found["ours_cpu_ms_an_image"], found["peer_cpu_ms_an_image"] = (round(found[f"{who}_cpu_ms"] / count, 1) for who in ("ours", "peer"))
    write("byol_step", rows, ["lightly", "torchvision", "timm"])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 16)

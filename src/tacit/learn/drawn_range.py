"""What the drawings were like, kept beside the weights of the network they taught: how far a real picture is from them.

A picture is summed up by the mean of the network's deepest feature map; the distance is Gaussian, each number on its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.learn.far import distance, remembered
from tacit.learn.lessons import Lesson, seen
from tacit.prepare.colour import lab_statistics


def hold_drawn_range(module: Any) -> None:
    """Gives a module (nn.Module) with a `config.network` and a UNet `network` the buffers that `remember_drawings` fills."""
    c = module.config.network
    deepest = c.width * 2 ** min(c.depth, 3)
    module.register_buffer("drawn_mean", torch.zeros(deepest))  # of the drawings' summaries
    module.register_buffer("drawn_deviation", torch.ones(deepest))
    module.register_buffer("drawn_share", torch.tensor([0.0, 1.0]))  # share of the structure in 98% of the drawings: from, to
    module.register_buffer("drawn_far", torch.ones(()))  # 99% of the drawings are nearer to their mean than this


@torch.no_grad()
def remember_drawings(module: Any, lessons: list[Lesson]) -> None:
    """Fills the buffers from drawn lessons."""
    shares = torch.tensor([float(lesson.target[..., 0].mean()) / 255 for lesson in lessons])
    module.drawn_share = shares.quantile(torch.tensor([0.01, 0.99]))
    summaries = torch.stack([_summary(module, lesson.picture) for lesson in lessons])
    module.drawn_mean, module.drawn_deviation, module.drawn_far = remembered(summaries)


@torch.no_grad()
def far_from_drawing(module: Any, picture: NDArray[np.uint8]) -> float:
    """Above 1, `picture` (RGB, or a standardised plane, at the network's scale) is farther from the drawings' mean than 99% of them."""
    return float(distance(_summary(module, picture), module.drawn_mean, module.drawn_deviation) / module.drawn_far)


def _summary(module: Any, picture: NDArray[np.uint8]) -> Tensor:
    statistics = lab_statistics(picture) if picture.ndim == 3 else None
    x = torch.from_numpy(seen(picture, statistics))[None].to(module.drawn_mean.device)
    return module.network.summary(x)[0]

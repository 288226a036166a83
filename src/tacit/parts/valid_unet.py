"""A U-Net of valid convolutions, and the exact overlap-tile way to run it on pictures of any size.

Ronneberger, Fischer and Brox 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (arXiv 1505.04597, sections 2
and 2.1, figures 1 and 2). A pixel of the answer is a function of the input within `margin` of it and of where it lies on the pooling
grid, of nothing else. So tiles that start on that grid and see the mirrored picture beyond its edge join to what one pass over
the whole picture gives, up to float32 rounding (within 1e-5).
Ours differs: width and depth are free (theirs 64 and 4), batch norm is on unless told otherwise (in evaluation a constant scale,
which leaves tiles exact), pixels may be repeated when going up instead of the up-convolution, and no dropout.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count
from tacit.errors import InputError


class ValidUNetConfig(Config):
    width: Count = 64  # channels at full resolution; doubled at every halving
    depth: Annotated[int, Field(ge=0, le=8)] = 4  # halvings
    channels_in: Count = 1
    up: Literal["transposed", "repeat"] = "transposed"  # the paper's 2×2 up-convolution, or pixels repeated after a 1×1 convolution
    norm: bool = True  # batch norm after each 3×3 convolution; the paper has none


class ValidUNet(nn.Module):
    """(b, channels_in, h, w) → logits (b, channels_out, h − 2·margin, w − 2·margin); h and w as `legal_input` says."""

    def __init__(self, config: ValidUNetConfig, channels_out: int) -> None:
        super().__init__()
        self.config = config
        self.channels_out = channels_out
        widths = [config.width * 2**level for level in range(config.depth + 1)]
        self.down = nn.ModuleList(_double(a, b, config.norm) for a, b in zip([config.channels_in, *widths[:-1]], widths, strict=True))
        falling = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.rise = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) if config.up == "transposed" else nn.Conv2d(a, b, 1) for a, b in falling)
        self.up = nn.ModuleList(_double(2 * b, b, config.norm) for _, b in falling)
        self.head = nn.Conv2d(widths[0], channels_out, 1)

    @property
    def margin(self) -> int:
        """Pixels by which the answer is smaller than the input, on each side."""
        return margin(self.config.depth)

    def forward(self, x: Tensor) -> Tensor:
        for length in x.shape[2:]:
            fitting = legal_input(length, self.config.depth)
            if length != fitting:
                raise InputError(f"a valid U-Net of depth {self.config.depth} cannot take {length} px a side; the next size that fits is {fitting}")
        sides: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            sides.append(x)
        for rise, block, side in zip(self.rise, self.up, sides[-2::-1], strict=True):
            x = rise(x)
            if self.config.up == "repeat":
                x = F.interpolate(x, scale_factor=2.0)
            x = block(torch.cat([_cropped(side, x.shape[2], x.shape[3]), x], 1))  # figure 1: copy and crop
        return self.head(x)


def margin(depth: int) -> int:
    """Pixels that valid convolutions take from each side. The paper's depth of 4 takes (572 − 388) / 2.

    >>> margin(4)
    92
    """
    return 6 * 2**depth - 4


def legal_output(least: int, depth: int) -> int:
    """The smallest size of an answer, px a side, that is at least `least` and that every halving divides evenly.

    >>> legal_output(380, 4), legal_output(1, 3)
    (388, 4)
    """
    if depth == 0:
        return max(least, 1)
    return 4 + 2**depth * max(-(-(least - 4) // 2**depth), 0)


def legal_input(least: int, depth: int) -> int:
    """The smallest size of an input, px a side, that is at least `least` and that the network can take.

    >>> legal_input(572, 4), legal_input(573, 4)
    (572, 588)
    """
    return legal_output(least - 2 * margin(depth), depth) + 2 * margin(depth)


def legal_tile(wanted: int, depth: int) -> int:
    """The answer's size, px a side, that `overlap_tiled` uses where `wanted` is asked for: the largest legal one up to it, if tiles of it can join.

    >>> legal_tile(100, 3), legal_tile(1, 3)
    (100, 12)
    """
    least = legal_output(2**depth, depth)
    fitting = legal_output(wanted, depth)
    return max(fitting if fitting <= wanted else fitting - 2**depth, least)


@torch.no_grad()
def overlap_tiled(network: ValidUNet, picture: Tensor, tile: int) -> Tensor:
    """Logits (b, k, h, w) for a picture (b, c, h, w) of any size, at least 1 px a side, tile by tile; the same whatever the tile.

    tile: px a side of a tile's answer at most, brought to a legal size by `legal_tile`. The network is in evaluation mode and says
    where it computes; the answer lies on the picture's device. Beyond the picture it is mirrored, the edge's own pixels once
    (figure 2), as often as the margin needs. Memory: the answer, and one tile with its margin. Raises InputError for other shapes,
    a tile below 1, or a network in training mode, whose batch norm would make tiles depend on one another.
    """
    if picture.ndim != 4 or picture.shape[1] != network.config.channels_in or min(picture.shape[2:]) < 1 or tile < 1:
        raise InputError(f"overlap-tile wants (b, {network.config.channels_in}, h, w) and a tile of at least 1 px, not {tuple(picture.shape)} and {tile}")
    if network.training:
        raise InputError("overlap-tile wants a network in evaluation mode; call network.eval() first")
    depth, edge = network.config.depth, network.margin
    size = legal_tile(tile, depth)
    step = size // 2**depth * 2**depth  # tiles start on the pooling grid, so the last 4 px of a tile may be computed twice
    h, w = picture.shape[2:]
    device = next(network.parameters()).device
    answer = picture.new_empty((picture.shape[0], network.channels_out, h, w), dtype=torch.float32)
    for top in range(0, h, step):
        rows = mirrored(top - edge, min(size, legal_output(h - top, depth)) + 2 * edge, h)
        for left in range(0, w, step):
            cols = mirrored(left - edge, min(size, legal_output(w - left, depth)) + 2 * edge, w)
            seen = picture[:, :, rows[:, None].to(picture.device), cols.to(picture.device)].to(device)
            logits = network(seen)[:, :, : min(step, h - top), : min(step, w - left)]
            answer[:, :, top : top + step, left : left + step] = logits.float().to(answer.device)
    return answer


def mirrored(start: int, count: int, length: int) -> Tensor:
    """Indices of `count` pixels from `start` on, each within 0 … length − 1, mirrored at the first and the last pixel.

    >>> mirrored(-2, 8, 3).tolist()
    [2, 1, 0, 1, 2, 1, 0, 1]
    """
    period = max(2 * (length - 1), 1)
    place = torch.arange(start, start + count) % period
    return torch.minimum(place, (period - place) % period) if length > 1 else place


def _double(channels_in: int, channels_out: int, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in ((channels_in, channels_out), (channels_out, channels_out)):
        layers += [nn.Conv2d(a, b, 3, bias=not norm), *([nn.BatchNorm2d(b)] if norm else []), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _cropped(x: Tensor, h: int, w: int) -> Tensor:
    """The middle (h, w) of x."""
    top, left = (x.shape[2] - h) // 2, (x.shape[3] - w) // 2
    return x[:, :, top : top + h, left : left + w]

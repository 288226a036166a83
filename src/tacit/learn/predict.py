"""One picture → probabilities: several networks, flips and zooms averaged, in windows so that memory stays flat."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tacit.learn.lessons import seen
from tacit.prepare.colour import lab_statistics

FLIPS = ((1, 1), (-1, 1), (1, -1), (-1, -1))
WINDOW, MARGIN = 384, 64  # px at the network's spacing; the margin is more than the U-Net's effective sight


@torch.no_grad()
def mean_probability(networks: list[nn.Module], picture: NDArray[np.uint8], *, zooms: tuple[float, ...] = (1.0,), flips: int = 4) -> NDArray[np.float32]:
    """Mean over networks, flips and zooms of the sigmoid. picture (h, w, 3) RGB at the networks' spacing, or a standardised plane (h, w) → (k, h, w)."""
    statistics = lab_statistics(picture) if picture.ndim == 3 else None
    h, w = picture.shape[:2]
    answer: NDArray[np.float32] | None = None
    for top in range(0, h, WINDOW):
        for left in range(0, w, WINDOW):
            low, right = min(top + WINDOW, h), min(left + WINDOW, w)
            a, b = max(top - MARGIN, 0), max(left - MARGIN, 0)
            x = seen(picture[a : low + MARGIN, b : right + MARGIN], statistics)
            p = _window(networks, x, zooms, FLIPS[:flips])
            if answer is None:
                answer = np.empty((len(p), h, w), np.float32)
            answer[:, top:low, left:right] = p[:, top - a : low - a, left - b : right - b]
    assert answer is not None  # a picture has at least one pixel
    return answer


@torch.no_grad()
def tiles_probability(
    networks: list[nn.Module], tiles: NDArray[np.uint8], statistics: NDArray[np.float32], *, zooms: tuple[float, ...] = (1.0,), flips: int = 4
) -> NDArray[np.float32]:
    """As `mean_probability`, for tiles of one slide together: tiles (b, s, s, 3) RGB, statistics (2, 3) of the slide's tissue → (b, k, s, s)."""
    x = np.stack([seen(tile, statistics) for tile in tiles])
    side = x.shape[-1]
    total = torch.zeros(())
    for zoom in zooms:
        size = max(round(side * zoom), 8)
        how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        zoomed = x if size == side else np.stack([cv2.resize(t.transpose(1, 2, 0), (size, size), interpolation=how).transpose(2, 0, 1) for t in x])
        for network in networks:
            device = next(network.parameters()).device
            given = torch.from_numpy(np.ascontiguousarray(zoomed)).to(device)
            mean = torch.zeros((), device=device)
            for turn in FLIPS[:flips]:
                axes = [axis for axis, way in zip((2, 3), turn, strict=True) if way < 0]
                with torch.autocast(device.type, torch.bfloat16):
                    logits = network(given.flip(axes).contiguous(memory_format=torch.channels_last))
                mean = mean + torch.sigmoid(logits.float()).flip(axes)
            mean = mean / flips
            if size != side:
                mean = nn.functional.interpolate(mean, (side, side), mode="bilinear", align_corners=False)
            total = total + mean.cpu()
    return (total / (len(zooms) * len(networks))).numpy().astype(np.float32, copy=False)


@torch.no_grad()
def zoomed_mean(networks: list[nn.Module], x: NDArray[np.float32], zooms: tuple[float, ...]) -> NDArray[np.float32]:
    """Mean over networks of the sigmoid at each zoom, for a whole small picture x (c, h, w) ready for the networks → (zooms, k, h, w)."""
    return np.stack([_window(networks, x, (zoom,), FLIPS[:1]) for zoom in zooms])


def _window(networks: list[nn.Module], x: NDArray[np.float32], zooms: tuple[float, ...], flips: tuple[tuple[int, int], ...]) -> NDArray[np.float32]:
    h, w = x.shape[1:]
    total = np.zeros((h, w, 1), np.float32)
    for zoom in zooms:
        size = (max(round(w * zoom), 8), max(round(h * zoom), 8))
        how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        zoomed = x if size == (w, h) else cv2.resize(x.transpose(1, 2, 0), size, interpolation=how).reshape(size[1], size[0], -1).transpose(2, 0, 1)
        views = torch.from_numpy(np.stack([zoomed[:, ::r, ::c] for r, c in flips]))
        for network in networks:
            device = next(network.parameters()).device
            with torch.autocast(device.type, torch.bfloat16):
                logits = network(views.to(device, memory_format=torch.channels_last))
            p = torch.sigmoid(logits.float()).cpu().numpy()
            mean: NDArray[np.float32] = np.add.reduce([p[i, :, ::r, ::c] for i, (r, c) in enumerate(flips)]) / len(flips)
            back = np.ascontiguousarray(mean.transpose(1, 2, 0))
            back = back if size == (w, h) else cv2.resize(back, (w, h))
            total = total + back.reshape(h, w, -1)
    return np.asarray((total / (len(zooms) * len(networks))).transpose(2, 0, 1), np.float32)

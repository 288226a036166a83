"""Crowded scenes read by dilated convolutions: the first ten convolutions of VGG-16, then six that look wide without halving again.

"CSRNet: Dilated Convolutional Neural Networks for Understanding the Highly Congested Scenes", Li, Zhang and Chen 2018, arXiv 1802.10062;
section and table numbers are theirs. Ours differs: without weights at hand both halves begin at He's random values (theirs: VGG-16
of ImageNet, and a Gaussian of σ 0.01), the width can be a share of theirs, and the back-end stands alone as a reader of any network's maps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from tacit.config import Config, Count
from tacit.errors import ConfigError, MissingError
from tacit.parts.train import Batch
from tacit.parts.weights import check_finite, load_tensors

FRONT = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512)  # table 3: channels of each convolution, 0 = a pooling that halves
BACK = (512, 512, 512, 256, 128, 64)
DILATIONS = {"A": (1, 1, 1, 1, 1, 1), "B": (2, 2, 2, 2, 2, 2), "C": (2, 2, 2, 4, 4, 4), "D": (4, 4, 4, 4, 4, 4)}
PUBLISHED = 64  # channels of the first convolution


class BackEndConfig(Config):
    kind: Literal["A", "B", "C", "D"] = "B"  # dilations: A 1 · B 2 · C 2, 2, 2, 4, 4, 4 · D 4 (the paper's best: B)
    width: Count = 64  # 64 = as published; 16 is a quarter of every layer's channels
    batch_norm: bool = False  # after each convolution


class CsrnetConfig(Config):
    back: BackEndConfig = BackEndConfig()
    channels_in: Count = 3  # of the picture
    density: bool = True  # a last 1 × 1 convolution to one channel
    weights: str | None = None  # FILE.safetensors of VGG-16 under timm's names, for a front-end of width 64; none = random


class Csrnet(nn.Module):
    """x (b, channels_in, h, w) → the density (b, 1, h/8, w/8), or the features (b, width, h/8, w/8) where `density` is off. h and w at least 8."""

    Config = CsrnetConfig

    def __init__(self, config: CsrnetConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or CsrnetConfig()
        self.front = front_end(c.channels_in, c.back.width)
        self.back = back_end(512 * c.back.width // PUBLISHED, c.back)
        self.width = back_width(c.back)
        self.density = nn.Conv2d(self.width, 1, 1) if c.density else None
        if c.weights:
            _fill(self.front, Path(c.weights))

    def features(self, x: Tensor) -> Tensor:
        """(b, channels_in, h, w) → (b, width, h/8, w/8)"""
        found: Tensor = self.back(self.front(x))
        return found

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        return features if self.density is None else self.density(features)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (n, channels_in, h, w), density (n, 1, h/8, w/8). Raises ConfigError where there is no density head."""
        if self.density is None:
            raise ConfigError("this CSRNet gives features, not a density; learn with density=true, or inside COVNet")
        return {"loss": (self(batch["x"]).float() - batch["density"]).square().sum() / (2 * len(batch["x"]))}  # their Euclidean loss


def front_end(channels_in: int, width: int) -> nn.Sequential:
    """VGG-16 up to its tenth convolution, (b, channels_in, h, w) → (b, 8·width, h/8, w/8); its layers are numbered as there."""
    layers: list[nn.Module] = []
    for published in FRONT:
        if published == 0:
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [_convolution(channels_in, published * width // PUBLISHED), nn.ReLU(inplace=True)]
        channels_in = published * width // PUBLISHED
    return nn.Sequential(*layers)


def back_end(channels_in: int, config: BackEndConfig) -> nn.Sequential:
    """Six dilated 3 × 3 convolutions, (b, channels_in, h, w) → (b, width, h, w)."""
    layers: list[nn.Module] = []
    for published, dilation in zip(BACK, DILATIONS[config.kind], strict=True):
        channels = published * config.width // PUBLISHED
        norm = [nn.BatchNorm2d(channels)] if config.batch_norm else []
        layers += [_convolution(channels_in, channels, dilation, bias=not norm), *norm, nn.ReLU(inplace=True)]
        channels_in = channels
    return nn.Sequential(*layers)


def back_width(config: BackEndConfig) -> int:
    """The channels that a back-end gives."""
    return BACK[-1] * config.width // PUBLISHED


def _convolution(channels_in: int, channels: int, dilation: int = 1, *, bias: bool = True) -> nn.Conv2d:
    layer = nn.Conv2d(channels_in, channels, 3, padding=dilation, dilation=dilation, bias=bias)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _fill(front: nn.Sequential, path: Path) -> None:
    if not path.is_file():
        raise MissingError(f"weights={path}: there is no such file")
    tensors, own = load_tensors(path)[0], front.state_dict()
    found = {name: tensors[f"features.{name}"] for name in own if f"features.{name}" in tensors}
    unlike = [name for name in own if name not in found or found[name].shape != own[name].shape]
    if unlike:
        raise ConfigError(f"weights={path} do not fit: features.{unlike[0]} is missing or not {tuple(own[unlike[0]].shape)}; give VGG-16's, with back.width=64")
    check_finite(path, found)
    front.load_state_dict(found)

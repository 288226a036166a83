"""The networks that few labels teach, and how the weights of an earlier run get into them: by name, never by place.

vgg-unet   what local discrimination pretrains: the encoder goes on, the decoder is new unless it is asked for
timm       any timm encoder (of byol, simclr, simsiam, moco, vae-byol, densecl, pixpro), with a new decoder
fundus     the U-Net of phantom-fundus on the even green of a retina      chest   that of phantom-chest on the ranks of a radiograph
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tacit.config import Config
from tacit.errors import UsageError
from tacit.learn.chest_taught import ChestNetworkConfig, ChestTaught
from tacit.learn.fundus_taught import FundusTaught
from tacit.learn.local_discrimination import LocalDiscrimination
from tacit.parts.timm_unet import TimmUNet, encoder_tensors
from tacit.parts.unet import UNet, UNetConfig
from tacit.parts.vgg_unet import VggUNet, VggUNetConfig

Kind = Literal["vgg-unet", "timm", "fundus", "chest"]
ENCODER: dict[str, str] = {"vgg-unet": "net.encoder", "timm": "encoder", "fundus": "down", "chest": "down"}  # names of an encoder's weights begin so
DECODER: dict[str, str] = {"vgg-unet": "net.decoder", "fundus": "up", "chest": "up"}
OWN: dict[str, UNetConfig] = {"fundus": UNetConfig(channels_in=1), "chest": ChestNetworkConfig()}
SHOWN = 4  # names in a message
VIEW_SHARE = 8 / 7  # the shorter side of a picture over that of the views that a backbone learnt from, which were cut out of it


class FewNetworkConfig(Config):
    kind: Kind = "vgg-unet"  # vgg-unet, timm, or the U-Net of phantom-fundus or phantom-chest: fundus, chest; --model brings its own
    vgg: VggUNetConfig = VggUNetConfig()
    backbone: str = "resnet18"  # of timm
    group_norm: bool = False  # of timm: instead of batch norm
    unet: UNetConfig | None = None  # of fundus and chest; none = their own
    keep: Literal["encoder", "network"] | None = None  # what is taken from --model; none = the encoder of pretraining, the network of a taught U-Net


@dataclass(frozen=True)
class Start:
    """Where a network begins. Made by `start_of`."""

    method: str  # that taught it
    settings: dict[str, Any]  # of FewLabelsConfig, as the earlier run had them
    network: nn.Module  # what holds the weights
    classes: tuple[str, ...] = ()  # of its head


class VggSegmenter(nn.Module):
    """The U-Net of local discrimination with a head for answers: (b, 3, h, w) → logits (b, channels_out, h, w)."""

    def __init__(self, config: VggUNetConfig, channels_out: int) -> None:
        super().__init__()
        self.net = VggUNet(config)
        inner = config.width
        self.head = nn.Sequential(
            nn.Conv2d(self.net.width, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(inplace=True), nn.Conv2d(inner, channels_out, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.head(self.net(x))
        return answer


def network_of(c: FewNetworkConfig, classes: int) -> nn.Module:
    """A network with random weights, logits of `classes` planes."""
    if c.kind == "vgg-unet":
        return VggSegmenter(c.vgg, classes)
    if c.kind == "timm":
        return TimmUNet(c.backbone, classes, group_norm=c.group_norm)
    return UNet(c.unet or OWN[c.kind], classes)


def start_of(network: Any, method: str) -> Start:
    """What a network that an earlier run has learnt brings. Raises UsageError for one whose network few labels cannot teach."""
    c = network.config
    if isinstance(network, LocalDiscrimination):
        return Start(method, {"network": {"kind": "vgg-unet", "vgg": c.network.model_dump()}, "side": c.size}, network.network)
    if isinstance(network, (FundusTaught, ChestTaught)):
        kind, side = ("fundus", c.diameter) if isinstance(network, FundusTaught) else ("chest", c.side)
        unet = {name: getattr(c.network, name) for name in UNetConfig.model_fields}
        return Start(method, {"network": {"kind": kind, "unet": unet}, "side": side}, network.network, tuple(network.CLASSES))
    inner = network.byol if hasattr(network, "byol") else network
    if not hasattr(inner, "encoder") or not hasattr(inner.encoder, "net"):
        raise UsageError(
            f"--model holds a run of {method}, which few labels cannot teach; give a run of tacit pretrain, or of tacit segment --phantom fundus or chest"
        )
    backbone = inner.config.backbone
    settings = {"network": {"kind": "timm", "backbone": backbone.name, "group_norm": backbone.group_norm}, "side": round(c.size * VIEW_SHARE)}
    return Start(method, settings, inner.encoder.net)


def fill(network: nn.Module, c: FewNetworkConfig, start: Start, classes: Sequence[str]) -> list[str]:
    """Puts the weights of `start` into `network`, in place. Gives the names that were filled.

    Of a head those rows are taken whose class has the same name. Raises UsageError naming what is missing or of another shape.
    """
    whole = c.keep == "network" or (c.keep is None and bool(start.classes))
    if whole and c.kind not in DECODER:
        raise UsageError("network.keep=network: a timm encoder was pretrained without a decoder; leave it out")
    tensors = _named(network, c, start)
    parts = (ENCODER[c.kind], DECODER[c.kind]) if whole else (ENCODER[c.kind],)
    own = network.state_dict()
    wanted = [name for name in own if name.startswith(tuple(f"{part}." for part in parts))]
    missing = [name for name in wanted if name not in tensors]
    unlike = [name for name in wanted if name in tensors and tensors[name].shape != own[name].shape]
    if missing or unlike:
        shapes = [f"{name} {tuple(tensors[name].shape)} for {tuple(own[name].shape)}" for name in unlike[:SHOWN]]
        raise UsageError(
            f"--model's weights do not fit: of {len(wanted)} tensors {len(missing)} are missing ({', '.join(missing[:SHOWN]) or 'none'}) and "
            f"{len(unlike)} of another shape ({'; '.join(shapes) or 'none'}); leave network.… as the run has it"
        )
    with torch.no_grad():
        for name in wanted:
            own[name].copy_(tensors[name])
        if whole and isinstance(network, UNet):
            wanted += _fill_head(network.head, tensors, start.classes, classes)
    return wanted


def _named(network: nn.Module, c: FewNetworkConfig, start: Start) -> dict[str, Tensor]:
    """The start's weights under the names that they have here."""
    tensors = start.network.state_dict()
    if isinstance(network, TimmUNet):
        return encoder_tensors(network, tensors)
    return {f"net.{name}": value for name, value in tensors.items()} if c.kind == "vgg-unet" else dict(tensors)


def _fill_head(head: nn.Conv2d, tensors: dict[str, Tensor], learnt: Sequence[str], classes: Sequence[str]) -> list[str]:
    assert head.bias is not None  # the U-Net's head has one
    taken = [(row, learnt.index(name)) for row, name in enumerate(classes) if name in learnt]
    for row, source in taken:
        head.weight[row], head.bias[row] = tensors["head.weight"][source], tensors["head.bias"][source]
    return [f"head of {classes[row]}" for row, _ in taken]

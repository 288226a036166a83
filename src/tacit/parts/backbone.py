"""Any timm network as an encoder: pictures in, one feature vector each out; random, from a file, or from timm's hub when asked."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tacit.config import Config
from tacit.errors import ConfigError, MissingError
from tacit.parts.decoder import declare_torchvision_operators
from tacit.parts.weights import check_finite, load_tensors


class BackboneConfig(Config):
    name: str = "resnet18"  # any timm name
    weights: str | None = None  # FILE.safetensors, or hub:NAME where a network is allowed (hub: alone = timm's own); None = random
    group_norm: bool = False  # group norm instead of batch norm: no statistics over the batch, for small batches and many processes


class Backbone(nn.Module):
    """x (b, channels_in, h, w), normalised as ImageNet is → features (b, f), of the mean over places. `width` is f, `channels` that of `map`.

    Most networks give the mean itself, so that both are equal; MobileNetV3 and VGG put a layer after it.
    """

    def __init__(self, config: BackboneConfig, channels_in: int = 3) -> None:
        super().__init__()
        self.net = timm_network(config, channels_in)
        self.width: int = int(getattr(self.net, "head_hidden_size", self.net.num_features))
        self.channels: int = int(self.net.num_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def map(self, x: Tensor) -> Tensor:
        """What the mean over places is taken of: x (b, 3, h, w) → (b, channels, h', w'), for most networks h' = h / 32."""
        found: Tensor = self.net.forward_features(x)
        return found

    def pooled(self, maps: Tensor) -> Tensor:
        """What `forward` makes of `map`'s answer: (b, channels, h', w') → (b, f)."""
        found: Tensor = self.net.forward_head(maps)
        return found

    @torch.no_grad()
    def check_map(self, side: int) -> None:
        """Raises ConfigError for a network whose features of a picture of `side` px are no map, such as a transformer's tokens."""
        training = self.training
        try:
            shape = tuple(self.eval().map(torch.zeros(1, 3, side, side)).shape)
        except (AssertionError, RuntimeError) as error:
            raise ConfigError(
                f"this backbone takes no views of size={side} ({str(error).splitlines()[0]}); use a convolutional one such as resnet18"
            ) from error
        self.train(training)
        if len(shape) != 4 or shape[1] != self.channels:
            raise ConfigError(
                f"this backbone gives features of shape {shape}, a map (1, {self.channels}, h, w) is needed; use a convolutional one such as resnet18"
            )


def timm_network(config: BackboneConfig, channels_in: int = 3) -> Any:
    """A timm network without its classifier, filled with weights where the settings name some; those for colours are summed for one channel.

    Raises ConfigError for an unknown name, MissingError for weights that are not there.
    """
    declare_torchvision_operators()
    import timm

    check_known(config.name)
    name, hub = config.name, (config.weights or "").startswith("hub:")
    wanted = (config.weights or "").removeprefix("hub:") if hub else ""
    try:
        net = timm.create_model(wanted or name, pretrained=hub, num_classes=0, global_pool="avg", in_chans=channels_in)
    except (RuntimeError, OSError, ValueError) as error:
        raise MissingError(f"--weights {config.weights}: they could not be fetched ({str(error).splitlines()[0]}); give a FILE.safetensors") from error
    if config.group_norm:
        to_group_norm(net)
    if config.weights and not hub:
        _fill(net, Path(config.weights))
    return net


def is_known(name: str) -> bool:
    """Whether timm knows a network of this name, with or without the tag of its weights."""
    declare_torchvision_operators()
    import timm

    return bool(timm.is_model(name.split(".")[0]))


def check_known(name: str) -> None:
    """Raises ConfigError, naming the nearest, for a network that timm does not know."""
    if not is_known(name):
        import timm

        near = difflib.get_close_matches(name, timm.list_models(), 1)
        raise ConfigError(f"backbone {name!r} is unknown to timm" + (f"; did you mean {near[0]!r}?" if near else ""))


def _fill(net: Any, path: Path) -> None:
    """Weights of a file into the network; a classifier's last layer in the file is passed by. Raises MissingError, ConfigError or ReadError."""
    if not path.is_file():
        raise MissingError(f"--weights {path}: there is no such file")
    tensors, _ = load_tensors(path)
    own = net.state_dict()
    first = f"{net.pretrained_cfg.get('first_conv')}.weight"
    if first in own and own[first].shape[1] == 1 and first in tensors:
        tensors[first] = tensors[first].sum(1, keepdim=True)  # a grey picture in three equal channels gives the same
    shared = {k: v for k, v in tensors.items() if k in own and v.shape == own[k].shape}
    if len(shared) < len(own):
        missing = next(k for k in own if k not in shared)
        raise ConfigError(f"--weights {path} do not fit this backbone: {len(own) - len(shared)} of {len(own)} tensors are missing or differ, first {missing}")
    check_finite(path, shared)
    net.load_state_dict(shared)


def to_group_norm(net: nn.Module) -> None:
    """Every batch norm becomes a group norm of 32 groups, or of the largest number below that divides its channels."""
    for name, child in net.named_children():
        if isinstance(child, nn.BatchNorm2d):
            groups = next(g for g in range(min(32, child.num_features), 0, -1) if child.num_features % g == 0)
            act = getattr(child, "act", None)  # timm fuses norm and activation in some networks
            norm: nn.Module = nn.GroupNorm(groups, child.num_features)
            setattr(net, name, nn.Sequential(norm, act) if isinstance(act, nn.Module) and not isinstance(act, nn.Identity) else norm)
        else:
            to_group_norm(child)

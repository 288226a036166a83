"""A timm network stage by stage: cut at a stride, with attention behind its stages, its maps recomputed instead of kept where memory is short.

The weights bear the names of timm's `features_only` below `net.`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tacit.errors import ConfigError
from tacit.parts.backbone import BackboneConfig, check_known, timm_network, to_group_norm
from tacit.parts.batch_norm import held_statistics
from tacit.parts.cbam import cbam
from tacit.parts.eca import eca
from tacit.parts.residual_attention import ResidualAttention
from tacit.parts.squeeze import squeeze

Attention = Literal["none", "se", "cbam", "eca", "residual"]
KINDS: dict[str, Callable[[int], nn.Module]] = {"se": squeeze, "cbam": cbam, "eca": eca}
DEPTHS = {4: 3, 8: 2, 16: 1}  # stride → poolings of a residual mask, as Wang et al. have them at 224 px, down to 7 × 7; none at 32


class Stages(nn.Module):
    """x (n, channels_in, h, w) → the map (n, width, h/stride, w/stride) of the deepest stage, or of the one at `stride`.

    attention: what follows each stage from stride 4 on. recompute: stages are run again on the way back instead of kept; the same loss,
    gradients and running statistics for less memory and more time. Raises ConfigError for networks that are not a row of stages.
    """

    def __init__(
        self, config: BackboneConfig, channels_in: int = 3, *, stride: int | None = None, attention: Attention = "none", recompute: bool = False
    ) -> None:
        super().__init__()
        net, found = _cut(config, channels_in, stride)
        if config.weights:
            tensors = {_plain(name): tensor for name, tensor in timm_network(config, channels_in).state_dict().items()}
            net.load_state_dict({name: tensors[_plain(name)] for name in net.state_dict()})
        self.net, self.recompute = nn.ModuleDict(dict(net.items())), recompute
        self.attention = nn.ModuleDict()
        for stage in found:
            kind = _attention(attention, stage["num_chs"], stage["reduction"])
            if kind is not None:
                self.attention[stage["module"].replace(".", "_")] = kind
        self.width = int(found[-1]["num_chs"])

    def forward(self, x: Tensor) -> Tensor:
        for name, layer in self.net.items():
            x = self._run(layer, x)
            if name in self.attention:
                x = self._run(self.attention[name], x)
        return x

    def _run(self, layer: nn.Module, x: Tensor) -> Tensor:
        if not (self.recompute and self.training and torch.is_grad_enabled()) or not any(True for _ in layer.parameters()):
            answer: Tensor = layer(x)
            return answer
        # the second run sees the same batch and must not move the running statistics again
        return checkpoint(layer, x, use_reentrant=False, context_fn=lambda: (nullcontext(), held_statistics(layer)))


def _plain(name: str) -> str:
    """A weight's name in which a network and its row of stages agree: timm joins some dots by underscores when it cuts."""
    return name.replace(".", "_")


def _cut(config: BackboneConfig, channels_in: int, stride: int | None) -> tuple[Any, list[dict[str, Any]]]:
    """timm's row of stages up to the wanted one, and what is known of those from stride 4 on."""
    check_known(config.name)
    import timm
    from timm.models._features import FeatureListNet

    wrong = f"backbone {config.name!r} is not a row of convolutional stages" + (f" with one at stride {stride}" if stride else "")
    try:
        net = timm.create_model(config.name, features_only=True, in_chans=channels_in)
        found = [stage for stage in net.feature_info.info if stage["reduction"] >= 4]
        last = next((i for i, s in enumerate(net.feature_info.info) if s["reduction"] == stride), None) if stride else len(net.feature_info.info) - 1
        if not isinstance(net, FeatureListNet) or not found or last is None:
            raise ConfigError(f"{wrong}; give one such as resnet18, densenet169 or vgg16")
        if stride:
            net = timm.create_model(config.name, features_only=True, in_chans=channels_in, out_indices=(last,))
    except (RuntimeError, AttributeError, ValueError) as error:
        raise ConfigError(f"{wrong} ({str(error).splitlines()[0]}); give one such as resnet18, densenet169 or vgg16") from error
    if config.group_norm:
        to_group_norm(net)
    return net, [stage for stage in found if stride is None or stage["reduction"] <= stride]


def _attention(kind: Attention, channels: int, stride: int) -> nn.Module | None:
    if kind == "residual":
        return ResidualAttention(channels, DEPTHS[stride]) if stride in DEPTHS else None
    return KINDS[kind](channels) if kind in KINDS else None

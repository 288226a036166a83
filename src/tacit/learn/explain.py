"""Where a network that classifies series saw its class, and what values its layers hold.

"Grad-CAM", Selvaraju et al. 2017, arXiv 1610.02391: maps weighted by the mean of their gradients, positive parts, by captum (Kokhlikyan et al. 2020, arXiv
2009.07896). "Visualizing and Understanding Convolutional Networks", Zeiler and Fergus 2014, arXiv 1311.2901, section 4.2: occlusion. Ours differs: a case has one
scale for all its slices; of ConvLSTM, where only the last slice's map reaches the answer straight away, the gradients are summed from the mean grey to
the case over patches ("Axiomatic Attribution for Deep Networks", Sundararajan et al. 2017, arXiv 1703.01365: integrated gradients).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.errors import ConfigError
from tacit.learn.conv_lstm import ConvLstm
from tacit.parts.batch_norm import own_statistics

Map = NDArray[np.float32]
PATCH = 1 / 8  # of a slice's side, that occlusion hides at a time and gradients are summed over
PATH_STEPS = 16  # from grey to the case
HELD = 20_000  # values of a layer that its histogram is drawn from
BINS = 60
MOST_LAYERS = 8  # of a network without an encoder

Histograms = dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]


def grad_cam(network: nn.Module, x: Tensor, k: int) -> Map:
    """Evidence of class k in each slice of a case x (s, c, h, w): (s, h, w) ≥ 0, 1 at the strongest place of the case, all 0 where nothing speaks for it.

    Raises ConfigError for a network without a last map, such as a transformer.
    """
    from captum.attr import IntegratedGradients, LayerGradCam

    network.eval()
    present = torch.ones(1, len(x), dtype=torch.bool, device=x.device)
    if hasattr(network, "answered"):  # what goes before the last maps needs no gradient, so its memory is that of an answer
        tail = _Tail(network, present)
        maps = _last_maps(network, x)
        if maps.ndim != 4:
            raise ConfigError(f"the last map of this network is {tuple(maps.shape)}, wanted is (slices, features, rows, columns); set explain=occlusion")
        found = LayerGradCam(tail, tail.entry).attribute(maps, target=k, relu_attributions=True)  # (s, 1, h', w')
        grown = F.interpolate(found.float(), x.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    elif isinstance(network, ConvLstm):
        pixels = IntegratedGradients(lambda batch: network(batch).logits).attribute(x[None], baselines=0.0, target=k, n_steps=PATH_STEPS)[0]  # (s, c, h, w)
        side = _patch(x)
        patches = F.avg_pool2d(pixels.float().sum(1, keepdim=True), side, ceil_mode=True)
        grown = F.interpolate(patches, x.shape[2:], mode="bilinear", align_corners=False)[:, 0].clamp_min(0)
    else:
        asked = LayerGradCam(lambda batch: network(batch).logits, network.last_map)
        volume = asked.attribute(x[None], target=k, relu_attributions=True)  # (1, 1, d', h', w')
        grown = F.interpolate(volume.float(), (len(x), *x.shape[2:]), mode="trilinear", align_corners=False)[0, 0]
    return _scaled(grown)


@torch.no_grad()
def occlusion(network: nn.Module, x: Tensor, k: int) -> Map:
    """How much the logit of class k falls where a patch is hidden by the mean grey, (s, h, w) as `grad_cam`. Patches overlap by half.

    Slices are asked one by one where the network has evidence for each; else a patch is hidden in all slices at once.
    """
    from captum.attr import Occlusion

    network.eval()
    side = _patch(x)
    asked = Occlusion(lambda batch: network(batch).logits)
    single = network(x[None]).evidence is not None and hasattr(network, "answered")
    series = x[:, None] if single else x[None]  # (s, 1, c, h, w): each slice a series of its own
    window = (series.shape[1], x.shape[1], side, side)
    strides = (series.shape[1], x.shape[1], max(side // 2, 1), max(side // 2, 1))
    hidden = asked.attribute(series, sliding_window_shapes=window, strides=strides, target=k, baselines=0.0)
    return _scaled(hidden.reshape(x.shape).sum(1).clamp_min(0))


def feature_histograms(network: nn.Module, cases: Sequence[Tensor]) -> Histograms:
    """What values the layers of a network hold for each of n cases (s, c, h, w): layer → counts (n, BINS) and edges (BINS + 1,), in the order of the layers.

    Layers are the stages of the encoder, or the first convolutions of a network that has none. Of each up to HELD values of a pass, evenly taken.
    """
    each = [_held(network, x) for x in cases]
    drawn = {}
    for name in each[0]:
        values = [held[name] for held in each]
        edges = np.histogram_bin_edges(np.concatenate(values), BINS)
        drawn[name] = np.stack([np.histogram(v, edges)[0] for v in values]), edges
    return drawn


@torch.no_grad()
def _held(network: nn.Module, x: Tensor) -> dict[str, NDArray[np.float32]]:
    """Layer → values that it holds for a case x (s, c, h, w)."""
    found: dict[str, list[Tensor]] = {}

    def watch(name: str) -> Any:
        def keep(_: nn.Module, __: Any, answer: Any) -> None:
            if isinstance(answer, Tensor) and answer.ndim >= 4:
                values = answer.float().flatten()
                found.setdefault(name, []).append(values[:: max(values.numel() // HELD, 1)].cpu().clone())  # a layer behind may work in place

        return keep

    hooks = [layer.register_forward_hook(watch(name)) for name, layer in _stages(network)]
    try:
        network.eval()(x[None])
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


class _Tail(nn.Module):
    """What comes after the last maps of a network."""

    def __init__(self, network: Any, present: Tensor) -> None:
        super().__init__()
        self.entry, self.network, self.present = nn.Identity(), network, present

    def forward(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.network.answered(self.entry(maps), self.present).logits
        return logits


@torch.no_grad()
def _last_maps(network: Any, x: Tensor) -> Tensor:
    rows = x.expand(-1, network.config.channels_in, -1, -1)
    if network.config.batch_norm == "per-case":
        with own_statistics(network):
            return network.maps(rows)
    return torch.cat([network.maps(part) for part in rows.split(network.config.slices_at_once)])


def _stages(network: Any) -> Sequence[tuple[str, nn.Module]]:
    encoder = getattr(network, "encoder", None)
    if encoder is None:
        return [(name, layer) for name, layer in network.named_modules() if isinstance(layer, (nn.Conv2d, nn.Conv3d))][:MOST_LAYERS]
    return list(encoder.net.items() if isinstance(encoder.net, nn.ModuleDict) else encoder.net.named_children())


def _patch(x: Tensor) -> int:
    return max(round(PATCH * min(x.shape[2:])), 1)


def _scaled(found: Tensor) -> Map:
    found = found.detach().float().cpu()
    most = float(found.max())
    return np.asarray((found / most if most > 0 else torch.zeros_like(found)).numpy(), np.float32)

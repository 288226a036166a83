"""What else than grey values pictures are registered by: the features of a run, or a structure that a network finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import MissingError, UsageError
from tacit.learn.dense_match import FeaturePlanes, Features
from tacit.learn.located import Picture
from tacit.learn.pretraining import METHODS as PRETRAINED
from tacit.learn.structures import STRUCTURES
from tacit.prepare.space import to_size
from tacit.prepare.views import IMAGENET_MEAN, IMAGENET_SD
from tacit.use.model import load_model

DEEP = 0.125  # of the frame's side: deeper inside a structure, or farther outside, all is alike


def features_of_run(run: str | Path, device: str) -> Features:
    """Unit features (d, s, s) of every pixel of a picture by what `tacit pretrain` learnt, s the side of its views.

    Local discrimination: its embedding. Others: the maps of every stage of the backbone, each at unit length, brought to a quarter of s and joined.
    """
    import torch
    import torch.nn.functional as F

    network, about = load_model(run, PRETRAINED)
    network.to(device)
    side = int(network.config.size)

    @torch.no_grad()
    def features(picture: Picture) -> NDArray[np.float32]:
        rgb = picture if picture.ndim == 3 else cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
        x = (to_size(rgb, (side, side)).astype(np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_SD
        views = torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1), np.float32))[None].to(device)
        if about["method"] == "local-discrimination":
            v = network(views)[0]
        else:
            net: Any = getattr(network.byol.encoder if hasattr(network, "byol") else network.encoder, "net", None)
            if not hasattr(net, "forward_intermediates"):
                raise UsageError(f"--model {run}: the backbone {network.config.backbone.name} gives no maps of its stages; use a convolutional one")
            maps = [F.normalize(m.float(), dim=1) for m in net.forward_intermediates(views, intermediates_only=True)]
            v = F.normalize(torch.cat([F.interpolate(m, (side // 4, side // 4), mode="bilinear") for m in maps], 1), dim=1)
        return np.asarray(v[0].float().cpu().numpy(), np.float32)

    return features


def structure_planes(network: Any, side: int) -> Callable[[Picture], NDArray[np.uint8]]:
    """How deep each pixel lies inside (above 128) or outside the first structure that `network.probability` finds, (1, side, side).

    The first alone: a plane each for heart and clavicles made the lungs' landmarks of chests worse (LOG.md).
    """

    def planes(picture: Picture) -> NDArray[np.uint8]:
        inside = (cv2.resize(network.probability(picture)[0], (side, side), interpolation=cv2.INTER_AREA) > 0.5).astype(np.uint8)
        depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
        deep = DEEP * side  # where nothing, or everything, is inside, OpenCV's distances are without measure
        return np.asarray(128 + 127 / deep * np.clip(depth, -deep, deep), np.uint8)[None]

    return planes


def method_of(run: str | Path) -> str:
    """The method that a run's model.json names. Raises MissingError or UsageError."""
    place = Path(run)
    place = place / "model" if (place / "model").is_dir() else place
    try:
        return str(json.loads((place / "model.json").read_text(encoding="utf-8"))["method"])
    except FileNotFoundError as error:
        raise MissingError(f"--model {run}: no model.json there or in its model/ folder; give the OUT of a finished run") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--model {run}: model.json is damaged ({error!r})") from error


def planes_of_run(run: str | Path, template: Picture, side: int, device: str) -> Callable[[Picture], NDArray[np.uint8]]:
    """Planes of a run of `tacit pretrain` (its features), or of `tacit segment` (the structure it finds)."""
    method = method_of(run)
    if method in PRETRAINED:
        return FeaturePlanes(features_of_run(run, device), template, side)
    if method in STRUCTURES:
        network = load_model(run, STRUCTURES)[0]
        network.to(device)
        return structure_planes(network, side)
    raise UsageError(
        f"--model {run} holds {method}, which finds nothing that pictures can be registered by; give a run of tacit pretrain, or of segment --phantom chest"
    )


def planes_for(method: str, model: str | Path | None, phantom: str | None, template: Picture, taught: Callable[[], Any], side: int, device: str) -> Any:
    """What a way of `tacit locate` is given besides its settings: features, planes, or nothing. taught: gives the network that drawings of `phantom` teach."""
    if method == "embedding":
        return features_of_run(str(model), device)
    if model is not None:
        return planes_of_run(model, template, side, device)
    return structure_planes(taught(), side) if phantom is not None else None

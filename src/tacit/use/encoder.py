"""Encoders by name: images in, one vector each out, with the hashes that say which vectors may be compared.

phantom            a small network taught by drawings (learn/phantom_encoder.py)
texture            binary patterns and colour (learn/texture.py)
phantom+texture    both side by side: the default
timm:NAME          any timm backbone, random or with `weights` (a file, or hub:NAME where a network is allowed)
--model RUN        what `tacit pretrain` learnt
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import UsageError
from tacit.image import Image
from tacit.prepare.lab_views import LabViewConfig
from tacit.prepare.space import to_size, to_spacing
from tacit.prepare.views import IMAGENET_MEAN, IMAGENET_SD

Pictures = Sequence[NDArray[np.uint8]]  # each (h, w, 3) RGB
VIEW_SHARE = 8 / 7  # a run looks at pictures whose shorter side is this many times its views' side (256 for 224: the report, section 4)
BATCH = 32  # pictures of one size that go through a network together
DEFAULT_ENCODER = "phantom+texture"
BESIDE = {"phantom": 1.0, "texture": 0.5}  # what each counts where they stand side by side


@dataclass(frozen=True)
class Encoder:
    """Made by `find_encoder`. Vectors of two encoders may be compared only where `weights_hash` and `preprocessing_hash` are equal."""

    name: str
    width: int  # numbers a vector
    weights_hash: str  # of the method, its settings and its weights
    preprocessing: dict[str, Any]  # how a picture is prepared, in plain values
    embed: Callable[[Pictures], NDArray[np.float32]]  # prepared pictures → (n, width)

    @property
    def preprocessing_hash(self) -> str:
        return digest(self.preprocessing)

    def features(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Vectors (n, width) of RGB images; those that state their spacing are brought to the encoder's, the others are taken as they are."""
        wanted = self.preprocessing.get("um_per_px")
        pictures = [to_spacing(i.pixels, i.mpp, wanted) if wanted and i.mpp else i.pixels for i in images]
        return self.embed(pictures) if pictures else np.zeros((0, self.width), np.float32)


def find_encoder(name: str = DEFAULT_ENCODER, *, model: str | Path | None = None, weights: str | None = None, device: str = "cpu", seed: int = 0) -> Encoder:
    """The encoder `name`, or that of the run `model`. seed: of the drawings that teach phantom and texture; 0 comes with Tacit. Raises UsageError for an unknown one, MissingError where weights are not there."""
    if model is not None:
        return _of_run(Path(model), device)
    if name.startswith("timm:"):
        return _of_timm(name, weights, device)
    if weights is not None:
        raise UsageError(f"--weights go with --encoder timm:NAME, not with {name!r}")
    parts = name.split("+")
    if set(parts) <= set(BESIDE) and len(set(parts)) == len(parts):
        found = [_taught(part, device, seed) for part in parts]
        return found[0] if len(found) == 1 else _beside(found, tuple(BESIDE[part] for part in parts))
    raise UsageError(f"--encoder {name!r} is unknown; known are phantom, texture, phantom+texture, timm:NAME, or --model RUN")


def digest(values: Any, *arrays: bytes) -> str:
    """The first 16 hex digits of SHA-256 over plain values and bytes."""
    found = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode())
    for each in arrays:
        found.update(each)
    return found.hexdigest()[:16]


def _taught(name: str, device: str, seed: int) -> Encoder:
    """One that needs no image of the user's: its weights come with Tacit, or are taught by drawings once."""
    from tacit.use.taught import deciding, phantom_features, taught

    network = taught(name, seed=seed)
    return Encoder(
        name=name,
        width=network.width,
        weights_hash=digest([name, deciding(network.config)], *_bytes_of(network)),
        preprocessing={"um_per_px": network.config.um_per_px},
        embed=phantom_features(network, device) if name == "phantom" else lambda pictures: np.stack([network.features(p) for p in pictures]),
    )


def _beside(encoders: list[Encoder], weights: Sequence[float]) -> Encoder:
    """Several encoders that see the same pictures, their vectors joined, each times its weight."""

    def embed(pictures: Pictures) -> NDArray[np.float32]:
        return np.concatenate([weight * e.embed(pictures) for e, weight in zip(encoders, weights, strict=True)], axis=1)

    return Encoder(
        name="+".join(e.name for e in encoders),
        width=sum(e.width for e in encoders),
        weights_hash=digest([[e.name, e.weights_hash, weight] for e, weight in zip(encoders, weights, strict=True)]),
        preprocessing=encoders[0].preprocessing,
        embed=embed,
    )


def _of_run(run: Path, device: str) -> Encoder:
    from tacit.learn.pretraining import METHODS
    from tacit.use.model import load_model

    network, about = load_model(run, METHODS)
    c = network.config
    preprocessing, embed = embedding(network, c, device)
    own = Encoder(
        name=f"{about['method']}:{c.backbone.name}" if about["method"] != "phantom-byol" else "phantom-byol",
        width=_width(network),
        weights_hash=digest(about["config"], *_bytes_of(network)),
        preprocessing=preprocessing,
        embed=embed,
    )
    return _beside([own, _taught("texture", device, 0)], (1.0, c.texture)) if getattr(c, "texture", 0) else own


def embedding(network: Any, c: Any, device: str) -> tuple[dict[str, Any], Callable[[Pictures], NDArray[np.float32]]]:
    """How pictures are prepared for a network of `tacit pretrain` with the config `c`, and prepared pictures → (n, width)."""
    from tacit.use.taught import phantom_features

    if isinstance(c.views, LabViewConfig):
        return {"um_per_px": c.encoder.um_per_px}, phantom_features(network.encoder, device)
    side = round(c.size * VIEW_SHARE)
    return {"shorter_side": side, "normalised": "imagenet"}, through(network.features, network, side, device)


def _of_timm(name: str, weights: str | None, device: str) -> Encoder:
    import torch

    from tacit.parts.backbone import Backbone, BackboneConfig

    torch.manual_seed(0)
    network = Backbone(BackboneConfig(name=name.removeprefix("timm:"), weights=weights)).eval()
    side = int(network.net.default_cfg.get("input_size", (3, 224, 224))[1])
    return Encoder(
        name=name,
        width=network.width,
        weights_hash=digest(name, *_bytes_of(network)),
        preprocessing={"shorter_side": side, "normalised": "imagenet"},
        embed=through(network, network, side, device),
    )


def _width(network: Any) -> int:
    encoder = network.byol.encoder if hasattr(network, "byol") else network.encoder
    return int(encoder.width)


def through(features: Callable[[Any], Any], network: Any, side: int, device: str) -> Callable[[Pictures], NDArray[np.float32]]:
    """Pictures through a network in eval mode: shorter side to `side`, normalised as ImageNet is; those of one size go together."""
    import torch

    network.to(device)

    @torch.no_grad()
    def embed(pictures: Pictures) -> NDArray[np.float32]:
        ready = [_at_side(p, side) for p in pictures]
        out: list[NDArray[np.float32] | None] = [None] * len(ready)
        for chosen in of_one_size(ready):
            x = np.stack([ready[i] for i in chosen]).astype(np.float32) / 255
            x = ((x - IMAGENET_MEAN) / IMAGENET_SD).transpose(0, 3, 1, 2).astype(np.float32)
            found = features(torch.from_numpy(np.ascontiguousarray(x)).to(device)).float().cpu().numpy()
            for i, row in zip(chosen, found, strict=True):
                out[i] = row
        return np.stack([row for row in out if row is not None])

    return embed


def _at_side(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    h, w = picture.shape[:2]
    zoom = side / min(h, w)
    return np.asarray(to_size(picture, (round(h * zoom), round(w * zoom))), np.uint8)


def of_one_size(pictures: Pictures) -> Iterator[list[int]]:
    """Indices of pictures of equal shape, at most BATCH at a time."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, p in enumerate(pictures):
        groups.setdefault(p.shape, []).append(i)
    for group in groups.values():
        for first in range(0, len(group), BATCH):
            yield group[first : first + BATCH]


def _bytes_of(module: Any) -> Iterator[bytes]:
    for _, tensor in sorted(module.state_dict().items()):
        yield tensor.detach().cpu().numpy().tobytes()

"""Networks taught by drawings alone: their weights come with Tacit; others are taught once and kept, by the hash of their settings.

Kept in TACIT_CACHE, else XDG_CACHE_HOME/tacit, else ~/.cache/tacit. No real image takes part, so the weights hold nobody's data.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.config import Config
from tacit.errors import StorageError
from tacit.prepare.colour import standardised
from tacit.use.encoder import Pictures, digest, of_one_size

SHIPPED = Path(__file__).resolve().parents[1] / "weights"
LOOKED_AT = 200  # drawings by which texture is standardised


def taught(name: str, config: Config | None = None, seed: int = 0) -> Any:
    """The network `name` (phantom, texture, lesions or ct) in eval mode: shipped, from the cache, or taught now (minutes on one core)."""
    from tacit.learn.ct_encoder import CtEncoder
    from tacit.learn.lesion_taught import LesionTaught
    from tacit.learn.phantom_encoder import PhantomEncoder
    from tacit.learn.texture import Texture
    from tacit.parts.weights import load_into

    network: Any = {"phantom": PhantomEncoder, "texture": Texture, "lesions": LesionTaught, "ct": CtEncoder}[name](config)
    file = weights_file(name, network.config, seed)
    for folder in (SHIPPED, cache_folder()):
        if (folder / file).is_file():
            load_into(network, folder / file)
            return network.eval()
    teach(network, seed)
    keep(network, cache_folder() / file)
    return network.eval()


def give_weights(pipeline: Any) -> None:
    """Fills the lesion networks of a way to classify, where it has any, with what drawings taught. In place."""
    from tacit.learn.lesion_taught import LesionTaught

    for part in pipeline.modules():
        if isinstance(part, LesionTaught):
            part.load_state_dict(taught("lesions", part.config).state_dict())


def drawn_backbone(name: str) -> Path:
    """The file of a timm network that drawn CT slices taught, kept below TACIT_CACHE; minutes of one core where it is not there yet."""
    from tacit.learn.ct_encoder import CtEncoder, CtEncoderConfig
    from tacit.parts.backbone import BackboneConfig
    from tacit.parts.weights import save_tensors

    config = CtEncoderConfig(backbone=BackboneConfig(name=name))
    path = cache_folder() / weights_file("ct-backbone", config, 0)
    if not path.is_file():
        network: CtEncoder = taught("ct", config)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, network.encoder.net.state_dict())
    return path


def weights_file(name: str, config: Config, seed: int) -> str:
    """The name that belongs to a network's settings and seed."""
    return f"{name}-{digest([deciding(config), seed])}.safetensors"


def deciding(config: Config) -> dict[str, Any]:
    """The settings that decide a network's weights, as plain values: how often a loss is logged does not."""
    values = config.model_dump(mode="json")
    if "train" in values:
        values["train"].pop("log_every", None)
    return values


def cache_folder() -> Path:
    """Where weights that were taught here are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("TACIT_CACHE") or Path(home) / "tacit")


def teach(network: Any, seed: int) -> None:
    """Teaches a network by drawings, in place; a pure function of its settings and the seed."""
    from tacit.learn.ct_encoder import CtEncoder
    from tacit.learn.lesion_taught import LesionTaught
    from tacit.learn.phantom_encoder import PhantomEncoder, PhantomEncoderConfig, draw_named
    from tacit.learn.workshop import Workshop

    shop = Workshop(seed)
    if isinstance(network, PhantomEncoder | LesionTaught | CtEncoder):
        network.fit(shop)
        return
    c = PhantomEncoderConfig(um_per_px=network.config.um_per_px, drawings=LOOKED_AT, field=PhantomEncoderConfig().size)
    network.fit([drawing.picture for drawing in draw_named(c, shop)], seed)


def keep(network: Any, path: Path) -> None:
    """Writes the weights in half precision; where nothing can be written they are used without being kept."""
    from tacit.parts.weights import load_into, save_tensors

    tensors = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, tensors, {"taught": "by drawings alone"})
    except (OSError, StorageError):
        network.load_state_dict(tensors)  # what a file would have given back
        return
    load_into(network, path)


def phantom_features(network: Any, device: str) -> Callable[[Pictures], NDArray[np.float32]]:
    """Pictures of any sizes through a phantom encoder; those of one size go together."""
    import torch

    network.to(device)

    def embed(pictures: Pictures) -> NDArray[np.float32]:
        out = np.empty((len(pictures), network.width), np.float32)
        for chosen in of_one_size(pictures):
            x = torch.from_numpy(np.stack([standardised(pictures[i]) for i in chosen]))
            out[chosen] = network.features(x.to(device)).cpu().numpy()
        return out

    return embed

"""Networks that classify a CT series, and every published or tried combination of their settings by name.

What a name stands for, and where its origin leaves that open the reading taken, is in docs/series_models.md.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from tacit.config import Config, build
from tacit.errors import ConfigError
from tacit.learn.c3d import C3d
from tacit.learn.conv_lstm import ConvLstm
from tacit.learn.covnet import Covnet
from tacit.learn.p3d import P3d

MODELS: dict[str, Any] = {"covnet": Covnet, "c3d": C3d, "p3d": P3d, "conv-lstm": ConvLstm}

R18, R34, R50 = ({"backbone": {"name": name}} for name in ("resnet18", "resnet34", "resnet50"))
CSR: dict[str, Any] = {**R50, "features": "csr"}
FOCAL: dict[str, Any] = {"loss": {"kind": "focal", "gamma": 2.0, "alpha": 0.25}}

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {  # name → network, settings
    "01_pure_resnet": ("covnet", {**R50, "over_slices": "mean"}),
    "02_densenet_selftrans": ("covnet", {"backbone": {"name": "densenet169"}, "over_slices": "mean"}),
    "03_COVNet": ("covnet", R50),
    "03_senet": ("covnet", {"backbone": {"name": "seresnet50"}}),
    "04_resnet_plus": ("covnet", {**R50, "attention": "residual"}),
    "01_COVNet-50": ("covnet", R50),
    "02_COVNet-18": ("covnet", R18),
    "03_COVNet-34": ("covnet", R34),
    "04_COVNet-50-dropout-only": ("covnet", {**R50, "dropout": 0.5, "train": {"weight_decay": 0.0}}),
    "05_COVNet-FCN": ("covnet", {**R50, "features": "fcn"}),
    "06_COVNet-CSR": ("covnet", CSR),
    "06_COVNet-CSR_inf": ("covnet", {**CSR, "batch_norm": "per-case"}),
    "07_COVNet-50-CBAM": ("covnet", {**R50, "attention": "cbam"}),
    "08_COVNet-50-ECA": ("covnet", {**R50, "attention": "eca"}),
    "09_COVNet-CSR-Gate": ("covnet", CSR),
    "10_COVNet-CSR-Focal": ("covnet", {**CSR, **FOCAL}),
    "11_COVNet-CSR-Focal-CBAM": ("covnet", {**CSR, **FOCAL, "attention": "cbam"}),
    "c3d": ("c3d", {}),
    "p3d": ("p3d", {}),
    "conv-lstm": ("conv-lstm", {}),
    "covnet-small": ("covnet", {"backbone": {"name": "resnet10t"}, "train": {"lr": 1e-3}}),
    "c3d-small": ("c3d", {"width": 16, "train": {"batch": 8}}),
    "p3d-small": ("p3d", {"width": 16, "layers": 63}),
    "conv-lstm-small": ("conv-lstm", {"side": 112, "patch": 8, "hidden": [32, 32], "kernel": 3}),
}


def series_model(name: str, *settings: dict[str, Any]) -> nn.Module:
    """The network of a preset, or of MODELS with its defaults; `settings` are laid over, later ones winning. Random weights by torch's generator."""
    kind, config = series_config(name, *settings)
    model: nn.Module = MODELS[kind](config)
    return model


def series_config(name: str, *settings: dict[str, Any]) -> tuple[str, Config]:
    """Which of MODELS, and its settings. Raises ConfigError for an unknown name or setting."""
    if name not in PRESETS and name not in MODELS:
        raise ConfigError(f"network {name!r} is unknown; known are {', '.join([*PRESETS, 'covnet'])}")
    kind, preset = PRESETS.get(name, (name, {}))
    return kind, build(MODELS[kind].Config, preset, *settings)

"""PSPNet and other decoders of segmentation-models-pytorch on timm encoders, giving embeddings beside logits."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from tacit.config import Config
from tacit.errors import ConfigError, MissingError
from tacit.parts.weights import check_finite, load_tensors

_schemas: list[object] = []  # keeps the declared operators alive


def declare_torchvision_operators() -> None:
    """Lets `import torchvision` (which timm and smp need) work beside a CPU-only torch.

    PyPI's torchvision is built for CUDA; its compiled operators cannot load there, and registering the shapes of two of
    them then fails. Declaring their schemas first cures it. Does nothing where the operators exist.
    """
    if _schemas or torch.cuda.is_available():
        return
    try:
        torch._C._dispatch_find_schema_or_throw("torchvision::nms", "")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _schemas.append(library)


class PspConfig(Config):
    encoder: str = "resnet18"  # any timm name
    weights: str | None = None  # FILE.safetensors of that encoder, or "hub" for timm's own where a network is allowed; None = random
    depth: int = 3  # halvings in the encoder; the pyramid works at 1/2^depth
    channels: int = 64  # of the embedding


class PspNet(nn.Module):
    """Pyramid scene parsing (Zhao et al. 2017, arXiv 1612.01105) with an auxiliary head on the encoder.

    forward(x (b, 3, h, w)) → logits (b, k, h, w), embedding (b, channels, h', w'), auxiliary logits (b, k, h, w).
    """

    def __init__(self, config: PspConfig, channels_out: int) -> None:
        super().__init__()
        declare_torchvision_operators()
        import segmentation_models_pytorch as smp

        hub = config.weights == "hub"
        try:
            net = smp.PSPNet(
                encoder_name=f"tu-{config.encoder}",
                encoder_weights="imagenet" if hub else None,
                encoder_depth=config.depth,
                psp_out_channels=config.channels,
                psp_dropout=0.1,
                classes=channels_out,
            )
        except (KeyError, RuntimeError, ValueError) as error:
            raise ConfigError(f"encoder {config.encoder!r} cannot be built ({str(error).splitlines()[0]}); give a timm name such as resnet18") from error
        except OSError as error:
            raise MissingError(f"the weights {config.weights} cannot be fetched ({error}); give a local FILE.safetensors") from error
        self.encoder, self.decoder, self.head = net.encoder, net.decoder, net.segmentation_head[0]
        self.auxiliary = nn.Conv2d(self.encoder.out_channels[-1], channels_out, 1)
        if config.weights and not hub:
            self._fill_encoder(Path(config.weights))

    def _fill_encoder(self, path: Path) -> None:
        if not path.is_file():
            raise MissingError(f"the weights file {path} does not exist")
        tensors, _ = load_tensors(path)
        inner = self.encoder.model
        own = inner.state_dict()
        fitting = {k: v for k, v in tensors.items() if k in own and own[k].shape == v.shape}
        if len(fitting) < 0.9 * len(own):
            raise ConfigError(f"{path} fits {len(fitting)} of the encoder's {len(own)} tensors; is it for another encoder?")
        check_finite(path, fitting)
        inner.load_state_dict(fitting, strict=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, w = x.shape[2:]
        unit = 2 ** (len(self.encoder.out_channels) - 1)
        padded = nn.functional.pad(x, (0, -w % unit, 0, -h % unit), mode="replicate")
        features = self.encoder(padded)
        embedding = self.decoder(features)
        full = padded.shape[2:]
        logits = nn.functional.interpolate(self.head(embedding), size=full, mode="bilinear", align_corners=False)[..., :h, :w]
        auxiliary = nn.functional.interpolate(self.auxiliary(features[-1]), size=full, mode="bilinear", align_corners=False)[..., :h, :w]
        return logits, embedding, auxiliary

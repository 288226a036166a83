"""A U-Net whose encoder is any timm network that gives maps at strides 2, 4, 8, 16 and 32, and whose decoder is segmentation-models-pytorch's.

Ronneberger et al. 2015 (arXiv 1505.04597). The encoder's weights bear timm's own names below `encoder.model.`.
"""

from __future__ import annotations

import re

from torch import Tensor, nn

from tacit.errors import ConfigError
from tacit.parts.backbone import to_group_norm
from tacit.parts.decoder import declare_torchvision_operators

UNIT = 32  # px; a picture is repeated at its edge up to a multiple of it
CHANNELS = (128, 64, 32, 16, 16)  # of the decoder, from coarse to fine


class TimmUNet(nn.Module):
    """(b, 3, h, w) → logits (b, channels_out, h, w), any h and w ≥ 1. Random weights. Raises ConfigError for a network that gives no such maps."""

    def __init__(self, backbone: str, channels_out: int, *, group_norm: bool = False) -> None:
        super().__init__()
        declare_torchvision_operators()
        import segmentation_models_pytorch as smp

        try:
            net = smp.Unet(encoder_name=f"tu-{backbone}", encoder_weights=None, decoder_channels=CHANNELS, classes=channels_out)
        except (KeyError, RuntimeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"a U-Net on {backbone!r} cannot be built ({str(error).splitlines()[0]}); give a convolutional timm name such as resnet18"
            ) from error
        if group_norm:
            to_group_norm(net.encoder.model)
        self.encoder, self.decoder, self.head = net.encoder, net.decoder, net.segmentation_head[0]

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        padded = nn.functional.pad(x, (0, -w % UNIT, 0, -h % UNIT), mode="replicate")
        answer: Tensor = self.head(self.decoder(self.encoder(padded)))
        return answer[..., :h, :w]


def timm_name(name: str) -> str:
    """timm's own name of a weight in a network that was cut into maps, where its stages are numbered after an underscore.

    >>> timm_name("stages_1.blocks.0.gamma"), timm_name("layer1.0.conv1.weight")
    ('stages.1.blocks.0.gamma', 'layer1.0.conv1.weight')
    """
    return re.sub(r"^(\w+?)_(\d+)\.", r"\1.\2.", name)


def encoder_tensors(network: TimmUNet, backbone: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under timm's names as this network names them; those that it has no place for (the end of a classifier) are left out."""
    own = network.encoder.model.state_dict()
    return {f"encoder.model.{name}": backbone[source] for name in own for source in (name, timm_name(name)) if source in backbone}

"""Slices read one after the other by a memory whose gates are convolutions.

"Convolutional LSTM Network: A Machine Learning Approach for Precipitation Nowcasting", Shi et al. 2015, arXiv 1506.04214; section and
equation numbers are theirs. Ours differs: it classifies. The last state's mean over places goes through a linear layer; AdamW instead of RMSProp.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count
from tacit.errors import ConfigError
from tacit.learn.fixed_length import of_side
from tacit.parts.focal import LabelLossConfig, label_loss
from tacit.parts.series import Answer, checked, placed
from tacit.parts.train import Batch, TrainConfig


class ConvLstmConfig(Config):
    side: Count = 224  # px; the peepholes are maps of a fixed size, so slices of another are resampled
    patch: Count = 4  # px; a patch of this side becomes the channels of one place (section 4.1)
    hidden: Annotated[tuple[Count, ...], Field(min_length=1)] = (128, 64, 64)  # channels of the state, layer by layer (section 4.1)
    kernel: Count = 5  # of both convolutions; odd (section 4.1)
    channels_in: Count = 1  # of a slice
    classes: Count = 3  # normal, community-acquired pneumonia, COVID-19
    loss: LabelLossConfig = LabelLossConfig()
    train: TrainConfig = TrainConfig(epochs=30, steps=50, batch=4, lr=1e-3, average=0.0)  # rate of section 4


class ConvLstm(nn.Module):
    """A series → its class, any length; the order of slices matters. Where there is no slice every state stays as it was."""

    Config = ConvLstmConfig

    def __init__(self, config: ConvLstmConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or ConvLstmConfig()
        if c.side % c.patch or c.kernel % 2 == 0:
            raise ConfigError(f"side={c.side}, patch={c.patch}, kernel={c.kernel}: side must be a multiple of patch, kernel odd")
        widths = (c.channels_in * c.patch**2, *c.hidden)
        self.unfold = nn.PixelUnshuffle(c.patch)
        self.cells = nn.ModuleList(ConvLstmCell(a, b, c.side // c.patch, c.kernel) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.head = nn.Linear(c.hidden[-1], c.classes)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Answer:
        """x (b, s, c, h, w), present (b, s), all where None. Evidence is what a series that ends at that slice would be answered."""
        x, present = checked(x, present, self.config.channels_in)
        x = torch.where(present[:, :, None, None, None], x, 0)  # what fills up may be anything, NaN included
        states: Tensor = self.unfold(of_side(x, self.config.side))
        for cell in self.cells:
            states = cell(states, present)
        features = states.mean((3, 4))  # (b, s, hidden)
        last = features[:, -1]  # a state stays until the next slice, so the last is that of the last slice
        return Answer(self.head(last), placed(self.head(features[present]), present), last)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, s, c, h, w), label (b,), and present (b, s) where series differ in length."""
        answer = self(batch["x"], batch.get("present"))
        return {"loss": label_loss(self.config.loss, answer.logits, batch["label"])}


class ConvLstmCell(nn.Module):
    """x (b, s, c, h, w), present (b, s) → the hidden states H (b, s, hidden, h, w), from zero states; h = w = side."""

    def __init__(self, channels_in: int, hidden: int, side: int, kernel: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.from_input = nn.Conv2d(channels_in, 4 * hidden, kernel, padding=kernel // 2)  # W_x· and b_·, of i, f, c and o
        self.from_state = nn.Conv2d(hidden, 4 * hidden, kernel, padding=kernel // 2, bias=False)  # W_h·
        self.peephole = nn.Parameter(torch.zeros(3, hidden, side, side))  # W_ci, W_cf, W_co

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        b, s = present.shape
        from_input = self.from_input(x.flatten(0, 1)).unflatten(0, (b, s))  # of all slices at once
        state = memory = from_input.new_zeros(b, self.hidden, *x.shape[3:])
        w_ci, w_cf, w_co = self.peephole
        states = []
        for t in range(s):
            i, f, c, o = (from_input[:, t] + self.from_state(state)).chunk(4, 1)
            i, f = torch.sigmoid(i + w_ci * memory), torch.sigmoid(f + w_cf * memory)  # Eq. 3
            new_memory = f * memory + i * torch.tanh(c)
            o = torch.sigmoid(o + w_co * new_memory)
            there = present[:, t, None, None, None]
            state, memory = torch.where(there, o * torch.tanh(new_memory), state), torch.where(there, new_memory, memory)
            states.append(state)
        return torch.stack(states, 1)

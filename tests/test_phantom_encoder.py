from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.learn.phantom_encoder import PhantomEncoder, PhantomEncoderConfig, draw_named, named_batches, parameter_names
from tacit.learn.workshop import Workshop
from tacit.parts.train import TrainConfig
from tacit.phantom import tissue
from tacit.prepare.colour import standardised

SMALL = PhantomEncoderConfig(drawings=20, field=64, size=48, width=8, train=TrainConfig(epochs=3, steps=20, batch=8, average=0.0, precision="fp32"))


@pytest.fixture(scope="module")
def taught() -> PhantomEncoder:
    return PhantomEncoder(SMALL).fit(Workshop(0)).eval()


def seen(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(standardised(picture))[None]


def test_a_picture_is_described_the_same_however_it_is_turned(taught: PhantomEncoder) -> None:
    x = seen(tissue.draw(np.random.default_rng(3), (64, 64), 1.24).picture)
    whole = taught.features(x)
    assert whole.shape == (1, taught.width) and torch.isfinite(whole).all()
    assert torch.allclose(whole, taught.features(torch.rot90(x, 1, (2, 3))), atol=1e-4)
    assert not torch.allclose(whole, taught.features(seen(tissue.draw(np.random.default_rng(4), (64, 64), 1.24).picture)), atol=1e-2)


def test_pictures_of_any_size_from_32_px(taught: PhantomEncoder) -> None:
    for shape in ((32, 32), (33, 47), (130, 65)):
        assert taught.features(torch.zeros(2, 3, *shape)).shape == (2, taught.width)


def test_each_group_weighs_what_the_settings_say(taught: PhantomEncoder) -> None:
    x = torch.cat([seen(tissue.draw(np.random.default_rng(k), (64, 64), 1.24).picture) for k in range(6)])
    pooled, named, mask = taught.features(x).split(taught.sizes, 1)
    z = (taught._raw(x) - taught.mean) / taught.deviation
    g = SMALL.groups
    for part, raw, weight in zip((pooled, named, mask), z.split(taught.sizes, 1), (g.pooled, g.parameters, g.mask), strict=True):
        assert torch.allclose(part.norm(dim=1), raw.norm(dim=1) * weight / raw.shape[1] ** 0.5, rtol=1e-4)


def test_teaching_names_what_was_drawn(taught: PhantomEncoder) -> None:
    lessons = draw_named(SMALL, Workshop(0))
    known = np.stack([d.parameters for d in lessons])
    batch = named_batches(lessons, known.mean(0), np.maximum(known.std(0), 1e-6), SMALL, 5)(0)
    with torch.no_grad():
        after, before = (network.eval().loss(batch) for network in (taught, PhantomEncoder(SMALL)))
    assert after["mask"] < 0.9 * before["mask"] and after["parameters"] < 0.97 * before["parameters"]


def test_the_same_seed_teaches_the_same_whatever_was_in_the_network() -> None:
    c = SMALL.model_copy(update={"drawings": 6, "train": SMALL.train.model_copy(update={"epochs": 1, "steps": 3})})
    torch.manual_seed(3)
    first = PhantomEncoder(c).fit(Workshop(4)).state_dict()
    second = PhantomEncoder(c).fit(Workshop(4)).state_dict()
    other = PhantomEncoder(c).fit(Workshop(5)).state_dict()
    assert all(torch.equal(a, b) for a, b in zip(first.values(), second.values(), strict=True))
    assert not torch.equal(first["join.weight"], other["join.weight"])


def test_drawings_come_with_every_parameter_by_name() -> None:
    c = SMALL.model_copy(update={"drawings": 2})
    names = parameter_names(c)
    made = draw_named(c, Workshop(0))
    assert len(names) == len(made[0].parameters) and names == sorted(names)
    assert made[0].parameters[names.index("malignancy")] != made[1].parameters[names.index("malignancy")]
    assert made[0].mask.shape == (64, 64) and made[0].picture.shape == (64, 64, 3)

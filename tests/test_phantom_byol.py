"""BYOL begun from the drawn encoder: its loss by hand, its views, drawings beside pictures, and the way from a folder to an index."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import tacit
from tacit.errors import UsageError
from tacit.learn.phantom_byol import PhantomByol, PhantomByolConfig
from tacit.learn.phantom_encoder import PhantomEncoder, PhantomEncoderConfig
from tacit.learn.sources import Pictures
from tacit.learn.workshop import Workshop
from tacit.parts.train import TrainConfig, fit
from tacit.phantom import tissue
from tacit.prepare.colour import lab_statistics, standardised
from tacit.prepare.lab_views import LabViewConfig, as_rgb, lab_views, spot_of
from tacit.report.pair_score import area
from tacit.report.picture import png
from tacit.use.encoder import find_encoder

ENCODER = PhantomEncoderConfig(drawings=8, field=64, size=48, width=4, train=TrainConfig(epochs=1, steps=2, batch=4, average=0.0, precision="fp32"))
SMALL = PhantomByolConfig(
    encoder=ENCODER, drawings=6, hidden=16, projection=8, size=32, train=TrainConfig(epochs=1, steps=4, batch=4, average=0.0, precision="fp32")
)
TINY = [f"encoder.{s}" for s in ("drawings=8", "field=64", "size=48", "width=4", "train.epochs=1", "train.steps=2", "train.batch=4")]
TINY += ["drawings=6", "hidden=16", "projection=8", "size=32", "train.steps=4", "train.batch=4", "train.checkpoint_every=2", "train.log_every=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tissue")
    for k in range(6):
        (place / f"{k}.png").write_bytes(png(tissue.draw(np.random.default_rng(k), (80, 100), 1.24).picture))
    return place


def views(seed: int = 0) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 3, 32, 32, generator=rng)
    return {"a": x, "b": x.flip(3)}


def test_the_loss_is_byols_half_beside_that_of_the_drawings() -> None:
    torch.manual_seed(0)
    m, batch = PhantomByol(SMALL.model_copy(update={"byol": 3.0})).train(), views()
    with torch.no_grad():
        values = m.loss(batch)
        said = [m.predictor(m.projector(m.encoder.answers(batch[k])[0])) for k in "ab"]
        heard = [m.slow_projector(m.slow_encoder.answers(batch[k])[0]) for k in "ba"]
        apart = sum(float(((p / p.norm(dim=1, keepdim=True) - z / z.norm(dim=1, keepdim=True)) ** 2).sum(1).mean()) for p, z in zip(said, heard, strict=True))
        assert float(values["views"]) == pytest.approx(apart / 2, abs=1e-5) and float(values["loss"]) == pytest.approx(3 * apart / 2, abs=1e-5)
        drawn = {"x": batch["a"], "mask": torch.rand(4, 8, 8), "parameters": torch.randn(4, m.encoder.sizes[1])}
        both, alone = m.loss(batch | drawn), m.encoder.loss(drawn)
        assert float(both["loss"]) == pytest.approx(3 * float(both["views"]) + float(alone["loss"]), abs=1e-5)


def test_it_begins_as_the_drawn_encoder_and_the_slow_copy_follows() -> None:
    torch.manual_seed(1)
    start, m = PhantomEncoder(ENCODER).eval(), PhantomByol(SMALL).eval()
    m.begin(start)
    x = views()["a"]
    assert torch.equal(m.features(x), start.features(x)) and torch.equal(m.slow_encoder.features(x), start.features(x))
    with torch.no_grad():
        m.encoder.stem[0].weight.add_(1.0)
    before = m.slow_encoder.stem[0].weight.clone()
    m.after_step(0.0)
    assert torch.allclose(m.slow_encoder.stem[0].weight, before + (1 - SMALL.momentum), atol=1e-6)


def test_drawings_come_beside_the_views_and_only_where_they_are_wanted() -> None:
    m = PhantomByol(SMALL)
    batches = m.with_drawings(lambda step: views(step), Workshop(3))
    assert {k: tuple(v.shape) for k, v in batches(1).items()} == {
        "a": (4, 3, 32, 32), "b": (4, 3, 32, 32), "x": (4, 3, 48, 48), "mask": (4, 12, 12), "parameters": (4, m.encoder.sizes[1]),
    }  # fmt: skip
    assert torch.equal(batches(1)["x"], m.with_drawings(lambda step: views(step), Workshop(3))(1)["x"])
    assert set(PhantomByol(SMALL.model_copy(update={"drawings": 0})).with_drawings(lambda step: views(step), Workshop(3))(0)) == {"a", "b"}


def test_numbers_are_standardised_over_the_pictures_that_taught(folder: Path) -> None:
    torch.manual_seed(2)
    m = PhantomByol(SMALL).eval()
    source = Pictures(sorted(folder.glob("*.png")), lambda p: cv2.imread(str(p))[..., ::-1].copy())
    m.standardise(source, 4)
    rng = np.random.default_rng(9)
    spots = np.stack([standardised(spot_of(rng, source[k % 6], 48)) for k in range(400)])
    group = m.encoder.config.groups.pooled / m.encoder.sizes[0] ** 0.5
    z = m.features(torch.from_numpy(spots))[:, : m.encoder.sizes[0]] / group
    used = z.std(0) > 1e-3  # a number that never moves stays 0
    assert used.sum() > 10 and z.mean(0).abs().max() < 0.3 and (z.std(0)[used] - 1).abs().max() < 0.3


def test_learning_brings_views_of_one_spot_together() -> None:
    """On drawn stripes of many directions and widths: after learning, views of one spot are nearer than those of others more often than before."""
    rng = np.random.default_rng(0)
    pictures = []
    for k in range(12):
        rows, cols = np.mgrid[:72, :72]
        wave = np.sin((rows * np.cos(k) + cols * np.sin(k)) * (0.2 + 0.08 * k))
        pictures.append(np.clip(150 + 60 * wave[..., None] * [1, 0.5, 1] + rng.normal(0, 8, (72, 72, 3)), 0, 255).astype(np.uint8))

    def batch(step: int, seed: int = 0) -> dict[str, torch.Tensor]:
        rows = [lab_views(np.random.default_rng([seed, step, k]), pictures[k], 32) for k in range(12)]
        return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in "ab"}

    def worth(m: PhantomByol) -> float:
        """Area under the ROC curve of the likeness between views of one spot and of two."""
        found = []
        for step in range(8):
            a, b = (torch.nn.functional.normalize(m.encoder.answers(batch(step, 1)[k])[0], dim=1) for k in "ab")
            found.append(area(1 - (a @ b.T).flatten().numpy(), np.eye(12, dtype=bool).ravel()))
        return float(np.mean(found))

    torch.manual_seed(0)
    m = PhantomByol(SMALL.model_copy(update={"rate": 1.0, "momentum": 0.9})).eval()
    with torch.no_grad():
        before = worth(m)
    fit(m, batch, TrainConfig(epochs=1, steps=150, batch=12, average=0.0, precision="fp32"), seed=0)
    with torch.no_grad():
        assert worth(m) > before + 0.04


def test_views_are_of_one_spot_and_can_be_looked_at() -> None:
    picture = tissue.draw(np.random.default_rng(5), (300, 400), 1.24).picture
    a, b = (lab_views(np.random.default_rng(1), picture, 64) for _ in range(2))
    assert a["a"].shape == (3, 64, 64) and all(np.array_equal(a[k], b[k]) for k in "ab") and not np.array_equal(a["a"], a["b"])
    still = LabViewConfig(colour=0.0, own=0.0)
    assert np.abs(as_rgb(standardised(picture, lab_statistics(picture)), picture).astype(int) - picture).mean() < 4  # clipping at 4 SD and rounding
    tiny = lab_views(np.random.default_rng(0), picture[:9, :7], 64, still)
    assert tiny["a"].shape == (3, 64, 64) and np.isfinite(tiny["a"]).all()
    spot = spot_of(np.random.default_rng(0), picture[:9, :70], 24)
    assert spot.shape == (24, 24, 3) and np.array_equal(spot[9:18], spot[8::-1])


def test_a_folder_becomes_a_run_that_indexes_and_resumes(folder: Path, tmp_path: Path) -> None:
    result = tacit.pretrain(folder, tmp_path / "a", method="phantom-byol", mpp=1.24, set=TINY)
    assert (result.images, result.backbone, result.warnings) == (6, "phantom", ()) and np.isfinite(result.loss) and result.rank > 1
    seen = (tmp_path / "a" / "metrics.csv").read_text()
    assert all(word in seen for word in ("views", "mask", "parameters"))
    assert "drawings" in (tmp_path / "a" / "model" / "card.md").read_text()
    again = tacit.pretrain(folder, tmp_path / "b", method="phantom-byol", mpp=1.24, set=TINY)
    assert again.loss == result.loss
    weights = [(tmp_path / run / "model" / "weights.safetensors").read_bytes() for run in "ab"]
    assert weights[0] == weights[1]
    encoder = find_encoder(model=tmp_path / "a")
    assert encoder.preprocessing == {"um_per_px": 1.24} and encoder.name == "phantom-byol+texture"
    own = PhantomEncoder(ENCODER).width
    assert encoder.width == own + find_encoder("texture").width
    assert tacit.index_images(folder, tmp_path / "index", model=tmp_path / "a").added == 6
    alone = tacit.pretrain(folder, tmp_path / "c", method="phantom-byol", mpp=1.24, set=[*TINY, "texture=0"])
    assert find_encoder(model=tmp_path / "c").width == own and alone.loss == result.loss


def test_pictures_are_seen_at_the_encoders_spacing_and_unknown_ones_are_named(folder: Path, tmp_path: Path) -> None:
    tacit.pretrain(folder, tmp_path / "near", method="phantom-byol", mpp=1.24, set=TINY)
    tacit.pretrain(folder, tmp_path / "far", method="phantom-byol", mpp=2.48, set=TINY)
    unknown = tacit.pretrain(folder, tmp_path / "unknown", method="phantom-byol", set=TINY)
    near, far, without = ((tmp_path / run / "model" / "weights.safetensors").read_bytes() for run in ("near", "far", "unknown"))
    assert near == without != far
    assert len(unknown.warnings) == 1 and "6 pictures do not state their µm per pixel" in unknown.warnings[0]
    assert "6 pictures do not state" in (tmp_path / "unknown" / "report.html").read_text()


def test_labelled_pairs_can_choose_its_checkpoint_and_what_it_cannot_do_is_refused(folder: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("a,b,label\n0.png,1.png,1\n2.png,3.png,0\n4.png,5.png,1\n")
    result = tacit.pretrain(folder, tmp_path / "a", method="phantom-byol", mpp=1.24, select=pairs, root=folder, set=TINY)
    assert "uses labels" in result.selection and json.loads((tmp_path / "a" / "run.json").read_text())["uses_labels"] is True
    with pytest.raises(UsageError, match="phantom-byol has its own, the encoder that drawings taught"):
        tacit.pretrain(folder, tmp_path / "o", method="phantom-byol", backbone="resnet18")
    (tmp_path / "points.csv").write_text("image,point,row,col\n0.png,p,20,20\n")
    with pytest.raises(UsageError, match="maps of its stages"):
        tacit.locate(folder, tmp_path / "l", template=folder / "0.png", points=tmp_path / "points.csv", model=tmp_path / "a")
    with pytest.raises(UsageError, match="phantom-byol"):
        tacit.segment(folder, tmp_path / "s", method="clusters", model=tmp_path / "a")

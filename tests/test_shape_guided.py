"""Shape guidance: both sides of the game against closed forms, priors good and bad, a run on drawn fundus photographs from folder to report."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import tacit
from tacit.config import build, parse_assignments
from tacit.errors import ConfigError, InputError, MissingError, ReadError, TacitError, UsageError
from tacit.learn.local_discrimination import LocalDiscrimination
from tacit.learn.shape_guided import Guided, ShapeGuided, ShapeGuidedConfig, apart, darkest, unsure_where
from tacit.learn.workshop import Workshop
from tacit.parts.discriminator import Discriminator, DiscriminatorConfig
from tacit.parts.train import Steps, TrainConfig, fit
from tacit.phantom import fundus
from tacit.prepare.shape_prior import ShapePriorConfig, cut_shape, prepared_shapes, read_shapes, shapes, simulated_shapes
from tacit.report.picture import in_tints, png

LOCAL = ["local.network.width=4", "local.dimensions=4", "local.clusters=4", "local.grid=4", "local.size=80"]
REFINED = ["network.width=4", "network.depth=2", "crop.size=48", "refine.epochs=1", "refine.steps=3", "refine.batch=2"]
TRAIN = ["local.train.epochs=5", "local.train.steps=2", "local.train.batch=2", "local.train.log_every=1"]
TINY = ["side=128", "prior.drawn=2", *LOCAL, *TRAIN, *REFINED]


def made(*changes: str) -> ShapeGuided:
    return ShapeGuided(build(ShapeGuidedConfig, parse_assignments([*TINY, *changes])))


def photographs(count: int = 2) -> list[np.ndarray]:
    return [fundus.draw(np.random.default_rng([7, i]), (150, 160)).picture for i in range(count)]


def learnt(*changes: str, folder: Path | None = None) -> ShapeGuided:
    method = made(*changes)
    return method.fit([method.working(p) for p in photographs()], Workshop(folder=folder))


def game(*changes: str, n: int = 2, size: int = 80) -> tuple[Guided, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    method = made("adversary=0.7", *changes)
    method.local.second_stage = True
    rows, cols = torch.meshgrid(*[(torch.arange(size) + 0.5) * 2 / size - 1] * 2, indexing="ij")
    x = torch.randn(n, 3, size, size)
    batch = {"a": x, "b": x + 0.1, "grid": torch.stack([cols, rows], -1).expand(n, size, size, 2), "inside": torch.ones(n, size, size), "mix": torch.rand(n)}
    return Guided(method.local, method.discriminator, method.config), batch | {"shape": torch.rand(n, 1, size, size)}


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_both_sides_of_the_game_by_hand() -> None:
    d = Discriminator()
    prior, clusters = torch.rand(3, 1, 96, 96), torch.rand(3, 1, 96, 96)
    torch.nn.init.zeros_(d.layers[-1].weight)
    torch.nn.init.constant_(d.layers[-1].bias, 0.4)  # every mask's logit is .4
    assert d.fooled(clusters).item() == pytest.approx(math.log(1 + math.exp(-0.4)), rel=1e-5)
    assert d.told_apart(prior, clusters).item() == pytest.approx(math.log(1 + math.exp(-0.4)) + math.log(1 + math.exp(0.4)), rel=1e-5)
    d = Discriminator()
    p, q = torch.sigmoid(d(prior)), torch.sigmoid(d(clusters))
    assert d.fooled(clusters).item() == pytest.approx(-q.log().mean().item(), rel=1e-5)
    assert d.told_apart(prior, clusters).item() == pytest.approx((-p.log().mean() - (1 - q).log().mean()).item(), rel=1e-5)


def test_the_discriminator_is_the_papers() -> None:
    kinds = [type(layer).__name__ for layer in Discriminator().layers]
    assert kinds.count("Conv2d") == 7 and kinds.count("MaxPool2d") == 4 and kinds.count("LeakyReLU") == 6
    shapes_of = [tuple(layer.weight.shape[:2]) for layer in Discriminator().layers if isinstance(layer, torch.nn.Conv2d)]
    assert shapes_of == [(16, 1), (32, 16), (32, 32), (32, 32), (32, 32), (32, 32), (1, 32)]
    assert Discriminator()(torch.rand(2, 1, 80, 80)).shape == (2,)


def test_each_side_has_a_gradient_of_its_own() -> None:
    d, made_ = Discriminator(), torch.rand(2, 1, 96, 96, requires_grad=True)
    d.fooled(made_).backward()
    assert made_.grad is not None and made_.grad.abs().sum() > 0 and all(p.grad is None for p in d.parameters())
    made_.grad = None
    d.told_apart(torch.rand(2, 1, 96, 96), made_).backward()
    assert made_.grad is None and all(p.grad is not None and p.grad.abs().sum() > 0 for p in list(d.parameters())[-2:])


def test_the_one_loss_gives_each_player_the_gradient_of_its_own_side() -> None:
    guided, batch = game("lean=0.0")
    guided.before_step(0.0)
    guided.train().loss(batch)["loss"].backward()
    got = {name: p.grad.clone() for name, p in guided.named_parameters()}
    guided.zero_grad()
    values, m, other = guided.local.losses(batch)
    values["loss"].backward(retain_graph=True)  # the clusters' side, without a discriminator's weight in reach
    (0.7 * guided.discriminator.fooled(m[:, :1])).backward(retain_graph=True)
    apart(m[:, :1] * batch["inside"][:, None], other[:, :1]).backward()
    for name, p in guided.local.named_parameters():
        assert torch.allclose(p.grad, got[f"local.{name}"], rtol=1e-3, atol=1e-6 + 1e-5 * float(p.grad.abs().max())), name
    guided.zero_grad()
    guided.discriminator.told_apart(batch["shape"], m[:, :1].detach()).backward()
    for name, p in guided.discriminator.named_parameters():
        assert torch.allclose(p.grad, got[f"discriminator.{name}"], rtol=1e-3, atol=1e-7), name


def test_the_lead_is_to_dark_pixels_and_falls_to_nothing() -> None:
    guided, batch = game("led=0.5", "lean=2.0", "steady=0.0")
    losses = []
    for progress in (0.0, 0.25, 0.5, 0.9):
        guided.before_step(progress)
        losses.append(float(guided.eval().loss(batch)["loss"].detach()))
    assert guided.lead == 0.0 and losses[0] - losses[2] == pytest.approx(2 * (losses[1] - losses[2]), rel=1e-3) and losses[2] == pytest.approx(losses[3])
    for changes in (["structure=structure"], ["adversary=0.0"]):
        other = Guided(guided.local, guided.discriminator, made(*changes).config)
        other.before_step(0.0)
        assert other.lead == 0.0


def test_what_is_dark_by_hand() -> None:
    view = torch.linspace(-2, 2, 80).expand(1, 3, 80, 80).clone()  # ever brighter to the right
    view[..., 40:43] -= 1.0  # a line, darker than what is around it, but not than the left half
    line, left = darkest(view, 4 / 80, around=True)[0, 0], darkest(view, 0.25, around=False)[0, 0]
    assert line[:, 40:43].all() and not line[:, 15:40].any() and not line[:, 43:].any()
    assert left[:, :19].all() and not left[:, 21:].any()
    noise = torch.randn(2, 3, 80, 80)
    assert darkest(noise, 0.1, around=True).mean(dim=(1, 2, 3)).tolist() == pytest.approx([0.1, 0.1], abs=2e-3)


def test_planes_apart_by_hand() -> None:
    a, b = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    a[..., :4], b[..., 2:6] = 1.0, 1.0
    assert float(apart(a, a)) == 0.0 and float(apart(a, b)) == pytest.approx(0.5) and float(apart(a, 1 - a)) == 1.0


def test_the_discriminator_learns_at_its_share_of_the_rate() -> None:
    """Adam's first step is the rate, whatever the gradient's size."""
    guided, batch = game()
    guided.rate_shares["discriminator"] = 0.05
    before = {name: p.detach().clone() for name, p in guided.named_parameters()}
    train = TrainConfig(epochs=1, steps=1, lr=1e-3, weight_decay=0.0, schedule="constant", precision="fp32")
    Steps(guided, train, seed=0)(batch, 0)
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in guided.named_parameters()}
    assert max(v for n, v in moved.items() if n.startswith("discriminator")) == pytest.approx(5e-5, rel=0.02)
    assert max(v for n, v in moved.items() if n.startswith("local")) == pytest.approx(1e-3, rel=0.02)


def test_a_game_that_was_killed_goes_on_to_equal_weights(tmp_path: Path) -> None:
    train = TrainConfig(epochs=1, steps=5, lr=1e-3, schedule="halving", average=0.0, checkpoint_every=2)
    players = [game()[0] for _ in range(2)]
    batches = [game()[1] | {"shape": torch.rand(2, 1, 80, 80, generator=torch.Generator().manual_seed(i))} for i in range(5)]

    def killed(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    fit(players[0], batches.__getitem__, train, seed=3)
    with pytest.raises(KeyboardInterrupt):
        fit(players[1], batches.__getitem__, train, seed=3, folder=tmp_path, after_step=killed)
    fresh = game()[0]
    fit(fresh, batches.__getitem__, train, seed=3, folder=tmp_path)
    assert same(fresh, players[0])


def test_the_discriminator_learns_to_tell_bars_from_noise() -> None:
    torch.manual_seed(0)
    bars, noise = torch.zeros(4, 1, 80, 80), torch.rand(4, 1, 80, 80)
    bars[..., ::8] = 1.0
    d = Discriminator(DiscriminatorConfig(channels=(4, 8, 8, 8, 8)))
    optimizer = torch.optim.Adam(d.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        d.told_apart(bars, noise).backward()
        optimizer.step()
    assert d.told_apart(bars, noise).item() < 0.2 and d.fooled(bars).item() < 0.2 < 1 < d.fooled(noise).item()


def test_answers_are_the_cluster_and_its_nearest_region() -> None:
    method = learnt()
    frame = method.working(photographs(1)[0])
    v, m, inside = (t.numpy() for t in method._seen(frame))
    by_cluster, by_embedding = method.answers(frame)
    r = [(m[k] * inside * v).sum((1, 2)) for k in range(4)]
    r = [x / np.linalg.norm(x) for x in r]
    wins = [float((m.argmax(0) == k)[inside].mean()) for k in range(4)]
    used = [k for k in range(4) if k == 0 or wins[k] >= 0.002]
    assert 1 < len(used) < 4  # of a network of ten steps some clusters are empty
    for row, col in ((80, 80), (60, 100), (120, 50)):
        e = [math.exp(float(v[:, row, col] @ x) / 0.2) for x in r]
        assert by_embedding[row, col] == pytest.approx(e[0] / sum(e[k] for k in used), rel=1e-3) and by_cluster[row, col] == pytest.approx(
            m[0, row, col], rel=1e-5
        )
    assert inside[80, 80] and not inside[0, 0] and by_cluster[0, 0] == by_embedding[0, 0] == 0


def test_sure_pixels_lie_on_one_side_of_a_half() -> None:
    m, p = np.meshgrid(np.linspace(0, 1, 101), np.linspace(0, 1, 101))
    sure = unsure_where(m, p) < 0.5
    assert ((m > 0.5) == (p > 0.5))[sure].all() and sure[0, 0] and sure[-1, -1] and not sure[0, -1]


def test_same_seed_same_weights_and_a_stopped_run_goes_on_to_them(tmp_path: Path) -> None:
    whole = learnt()
    learnt(folder=tmp_path)
    shutil.rmtree(tmp_path / "refined")
    (tmp_path / "shapes" / "done.safetensors").unlink()  # the game's last checkpoint is there, its end is not
    assert same(learnt(folder=tmp_path), whole) and same(learnt(folder=tmp_path), whole)
    assert not same(whole.local, ShapeGuided(whole.config).local)


def test_an_earlier_run_stands_for_the_first_stage() -> None:
    method, earlier = made(), LocalDiscrimination(made().config.local.model_copy(update={"clusters": 16}))
    method.begin_with(earlier)
    assert same(method.local.network, earlier.network) and same(method.local.embedding, earlier.embedding)
    said: list[str] = []
    method.fit([method.working(p) for p in photographs()], Workshop(say=said.append))
    assert not any(line.startswith("patches") for line in said) and any(line.startswith("shapes: ") for line in said)


def test_simulated_shapes_are_a_function_of_the_seed() -> None:
    for source, low, high in (("simulated:vessels", 0.02, 0.2), ("simulated:lungs", 0.1, 0.6)):
        a, b, c = (simulated_shapes(source, 2, seed) for seed in (0, 0, 1))
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True)) and not np.array_equal(a[0], c[0])
        assert all(set(np.unique(mask)) == {0, 255} and low < (mask > 0).mean() < high for mask in a)


def test_a_piece_of_a_prior_has_the_scale_that_was_asked_for() -> None:
    bar = np.zeros((400, 400), np.uint8)
    bar[:, 180:220] = 255  # a tenth of the side, in every piece
    c = ShapePriorConfig(scale=(1.25, 1.25), soften=0.01)
    prepared = prepared_shapes([bar], 100, c)
    assert prepared[0].shape == (125, 125)
    for seed in range(5):
        piece = cut_shape(np.random.default_rng(seed), prepared, 100, 0.0, c)
        assert piece.shape == (100, 100) and piece.min() >= 0 and piece.max() <= 1 and (piece[50] > 0.5).sum() in (12, 13)


def _save(folder: Path, name: str, mask: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(png(mask.astype(np.uint8)))


@pytest.fixture
def priors(tmp_path: Path) -> Path:
    """good/: two masks of trees, one of them 0 and 1; folders with what is no prior."""
    trees = simulated_shapes("simulated:vessels", 2, 5)
    _save(tmp_path / "good", "a.png", trees[0])
    _save(tmp_path / "good", "b.png", trees[1] // 255)
    (tmp_path / "empty").mkdir()
    _save(tmp_path / "zero", "z.png", np.zeros((90, 90)))
    _save(tmp_path / "grey", "g.png", np.arange(90 * 90).reshape(90, 90) % 200)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"no picture")
    return tmp_path


def test_masks_of_a_folder_are_read_as_they_are(priors: Path) -> None:
    for mask, tree in zip(read_shapes(priors / "good"), simulated_shapes("simulated:vessels", 2, 5), strict=True):
        assert np.array_equal(mask, tree)
    assert len(shapes(ShapePriorConfig(source=str(priors / "good")), 0)) == 2


@pytest.mark.parametrize(
    ("prior", "error", "said"),
    [
        ("none", MissingError, "there is no such folder; give a folder of binary masks"),
        ("empty", InputError, "holds no mask"),
        ("zero", InputError, "none of its 1 masks shows a shape"),
        ("grey", ReadError, "has 200 values, expected two"),
        ("broken", ReadError, "cannot be read"),
        ("simulated:livers", UsageError, "known are simulated:vessels, simulated:lungs"),
    ],
)
def test_a_bad_prior_is_named_before_anything_is_done(prior: str, error: type[TacitError], said: str, priors: Path, drawn_fundus: Path) -> None:
    source = prior if ":" in prior else str(priors / prior)
    with pytest.raises(error, match=said) as caught:
        tacit.segment(drawn_fundus, priors / "out", shape_prior=source, set=TINY)
    assert "\n" not in str(caught.value) and not (priors / "out").exists()


@pytest.fixture(scope="module")
def drawn_fundus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fundus")
    for i, picture in enumerate(photographs()):
        (place / f"f{i}.png").write_bytes(png(picture))
    return place


def test_options_that_do_not_go_together_are_refused(drawn_fundus: Path, tmp_path: Path) -> None:
    asked: list[tuple[dict[str, Any], str]] = [
        ({"shape_prior": "simulated:vessels", "phantom": "fundus"}, "leave --phantom fundus out"),
        ({"shape_prior": "simulated:vessels", "method": "mssg"}, "leave --method mssg out"),
        ({"method": "clusters"}, "give --model RUN"),
        ({"shape_prior": "simulated:lungs", "classes": "vessel"}, "expected some of lungs"),
    ]
    for options, said in asked:
        with pytest.raises(UsageError, match=said):
            tacit.segment(drawn_fundus, tmp_path / "o", **options)
    with pytest.raises(ConfigError, match="an even batch"):
        made("local.train.batch=3")


def test_from_pretrain_to_masks_report_and_new_pictures(drawn_fundus: Path, priors: Path, tmp_path: Path) -> None:
    small = [w.removeprefix("local.") for w in [*LOCAL, "local.clusters=5"]]
    tacit.pretrain(drawn_fundus, tmp_path / "run", method="local-discrimination", set=[*small, "train.epochs=2", "train.steps=2", "train.batch=2"])
    options = [w for w in TINY if not w.startswith(("local.network", "local.dimensions", "local.clusters"))]  # the first two are the run's own
    options += ["local.clusters=40"]  # too many for one to be sure anywhere
    done = tacit.segment(drawn_fundus, tmp_path / "o", model=tmp_path / "run", shape_prior=str(priors / "good"), set=options)
    assert done.images == 2 and done.mpp is None
    out, record = tmp_path / "o", json.loads((tmp_path / "o" / "run.json").read_text())
    assert record["classes"] == ["vessel"] and record["learnt_from"] == 2
    for i in range(2):
        mask, unsure = (cv2.imread(str(out / kind / f"f{i}.png"), cv2.IMREAD_UNCHANGED) for kind in ("masks", "uncertainty"))
        assert mask.shape == unsure.shape == (150, 160) and set(np.unique(mask)) <= {0, 1} and unsure.max() > 0
    assert "unsure_share" in (out / "tables" / "images.csv").read_text().splitlines()[0]
    collapsed = [line for line in record["warnings"] if "target cluster collapsed" in line]
    assert len(collapsed) == 1 and collapsed[0] in (out / "log.txt").read_text() and "target cluster collapsed" in (out / "report.html").read_text()
    again = tacit.segment(drawn_fundus / "f1.png", tmp_path / "new", model=out)
    assert again.images == 1 and (tmp_path / "new" / "masks" / "f1.png").read_bytes() == (out / "masks" / "f1.png").read_bytes()
    _save(priors / "good", "c.png", np.eye(90) * 255)
    with pytest.raises(TacitError, match="settings"):
        tacit.segment(drawn_fundus, out, model=tmp_path / "run", shape_prior=str(priors / "good"), set=options, resume=True)
    shown = tacit.segment(drawn_fundus, tmp_path / "clusters", model=tmp_path / "run", method="clusters")
    labels = cv2.imread(str(tmp_path / "clusters" / "masks" / "f0.png"), cv2.IMREAD_UNCHANGED)
    assert shown.images == 2 and labels.shape == (150, 160) and labels.min() >= 1 and labels.max() <= 5
    assert json.loads((tmp_path / "clusters" / "run.json").read_text())["classes"] == [f"cluster-{k}" for k in range(1, 6)]


def test_masks_beside_the_pictures_change_nothing(tmp_path: Path) -> None:
    states = []
    for how in ("absent", "true", "scrambled"):
        place = tmp_path / how
        (place / "in").mkdir(parents=True)
        for i in range(2):
            drawing = fundus.draw(np.random.default_rng([7, i]), (150, 160))
            _save(place / "in", f"f{i}.png", drawing.picture)
            if how != "absent":
                truth = (drawing.labels > 0).astype(np.uint8)
                _save(place / "in" / "masks", f"f{i}.png", truth if how == "true" else np.random.default_rng(i).permutation(truth))
        tacit.segment(place / "in", place / "o", shape_prior="simulated:vessels", set=TINY)
        states.append((place / "o" / "model" / "weights.safetensors").read_bytes())
    assert states[0] == states[1] == states[2]


def test_a_prior_with_the_pictures_names_is_warned_about(drawn_fundus: Path, priors: Path) -> None:
    for name in ("f0.png", "f1.png"):
        shutil.copy(priors / "good" / "a.png", priors / "good" / name)
    tacit.segment(drawn_fundus, priors / "o", shape_prior=str(priors / "good"), set=TINY)
    assert "2 of the 2 pictures share a name with a mask of the prior" in (priors / "o" / "report.html").read_text()


def test_what_went_wrong_is_said() -> None:
    method = made()
    assert method.warnings() == []
    for share, said in ((0.001, "holds 0.1%"), (0.8, "holds 80.0%")):
        method.last_target.fill_(share)
        assert said in method.warnings()[0]
    method.last_discriminator.fill_(0.01)
    assert "won outright" in method.warnings()[0] and len(method.warnings()) == 2


@pytest.mark.parametrize("answer", ["clusters", "embedding", "agreement", "either", "refined"])
def test_every_answer_is_a_probability_inside_the_field(answer: str) -> None:
    method, picture = made(f'answer="{answer}"'), photographs(1)[0]
    p = method.eval().probability(picture)
    assert p.shape == (1, 150, 160) and p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1
    assert not p[0][~method.field(picture)].any()


def test_lungs_and_any_structure_have_frames_of_their_own() -> None:
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.integers(0, 255, (140, 170)).astype(np.uint8), (0, 0), 9)
    for structure, picture in (("lungs", grey), ("structure", np.dstack([grey, grey[::-1], grey]))):
        method = made(f'structure="{structure}"', 'prior.source="simulated:lungs"', "prior.scale=[0.9,1.1]")
        assert list(method.CLASSES) == [structure]
        method.fit([method.working(picture)] * 2, Workshop())
        assert method.probability(picture).shape == (1, 140, 170) and method.field(picture).all()


def test_tints_tell_clusters_apart() -> None:
    labels = np.arange(6, dtype=np.int32).repeat(20).reshape(6, 20)
    drawn = in_tints(np.zeros((6, 20, 3), np.uint8), labels)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 6

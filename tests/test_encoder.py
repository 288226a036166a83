from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import tacit
from tacit.cli import app
from tacit.errors import MissingError, UsageError
from tacit.image import Image
from tacit.learn.phantom_encoder import PhantomEncoder, PhantomEncoderConfig
from tacit.learn.texture import Texture, TextureConfig
from tacit.parts.backbone import Backbone, BackboneConfig
from tacit.parts.train import TrainConfig
from tacit.parts.weights import save_tensors
from tacit.phantom import tissue
from tacit.report.picture import png
from tacit.use.encoder import BESIDE, DEFAULT_ENCODER, find_encoder
from tacit.use.taught import SHIPPED, taught, weights_file


def drawn(count: int, shape: tuple[int, int] = (96, 128), um: float = 1.24) -> list[Image]:
    return [Image(tissue.draw(np.random.default_rng(k), shape, um).picture).with_mpp(um, "given") for k in range(count)]


def test_the_default_encoder_comes_with_tacit() -> None:
    for name, network in (("phantom", PhantomEncoder()), ("texture", Texture())):
        assert (SHIPPED / weights_file(name, network.config, 0)).is_file(), f"teach {name} anew: python benchmarks/teach_encoders.py"
    assert sum(p.stat().st_size for p in SHIPPED.iterdir()) < 4e6


def test_side_by_side_is_both_with_their_weights() -> None:
    images = drawn(3)
    both = find_encoder(DEFAULT_ENCODER).features(images)
    alone = [BESIDE[n] * find_encoder(n).features(images) for n in ("phantom", "texture")]
    np.testing.assert_allclose(both, np.concatenate(alone, 1), rtol=1e-5, atol=1e-6)


def test_an_image_has_the_same_vector_alone_and_among_others_of_other_sizes() -> None:
    images = drawn(2) + drawn(2, (80, 80))
    encoder = find_encoder()
    together = encoder.features(images)
    for k, image in enumerate(images):
        np.testing.assert_allclose(encoder.features([image])[0], together[k], rtol=1e-3, atol=1e-4)
    assert encoder.features([]).shape == (0, encoder.width)


def test_a_known_spacing_is_brought_to_the_encoders() -> None:
    encoder = find_encoder("texture")
    fine = tissue.draw(np.random.default_rng(0), (248, 248), 0.62).picture
    known = encoder.features([Image(fine).with_mpp(0.62, "given")])
    from tacit.prepare.space import to_spacing

    by_hand = encoder.features([Image(to_spacing(fine, 0.62, 1.24))])
    np.testing.assert_allclose(known, by_hand)
    assert not np.allclose(known, encoder.features([Image(fine)]))


def test_hashes_tell_encoders_apart_and_do_not_change() -> None:
    found = [find_encoder(name) for name in ("texture", "phantom", "phantom+texture", "timm:resnet10t")]
    assert len({e.weights_hash for e in found}) == 4
    assert find_encoder("texture").weights_hash == found[0].weights_hash
    assert find_encoder("timm:resnet10t").weights_hash == found[3].weights_hash


def test_other_settings_are_taught_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path))
    c = PhantomEncoderConfig(drawings=8, field=64, size=32, width=4, train=TrainConfig(epochs=1, steps=4, batch=4, average=0.0))
    first = taught("phantom", c)
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    again = taught("phantom", c)
    assert file.stat().st_mtime_ns == before
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    (tmp_path / "closed").touch()
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path / "closed"))  # a file, so nothing can be kept below it
    unkept = taught("phantom", c)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), unkept.state_dict().values(), strict=True))


def test_texture_is_standardised_over_what_it_was_fitted_on_and_words_are_an_option() -> None:
    pictures = [i.pixels for i in drawn(12)]
    for words in (0, 5):
        texture = Texture(TextureConfig(words=words, samples=400)).fit(pictures, 0)
        values = np.stack([texture.features(p) for p in pictures])
        assert values.shape == (12, texture.width) and texture.width == 30 + 9 + words
        np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose((values**2).sum(1).mean(), 3 if words else 2, rtol=0.05)  # each group has mean square 1


def test_a_run_is_an_encoder_by_its_own_hash(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for k, image in enumerate(drawn(4)):
        (tmp_path / "in" / f"{k}.png").write_bytes(png(image.pixels))
    tiny = ["backbone.name=resnet10t", "size=32", "hidden=32", "projection=16", "train.batch=4", "train.epochs=1"]
    tacit.pretrain(tmp_path / "in", tmp_path / "a", set=tiny)
    tacit.pretrain(tmp_path / "in", tmp_path / "b", set=tiny, seed=1)
    a, b = (find_encoder(model=tmp_path / n) for n in "ab")
    assert a.weights_hash != b.weights_hash and a.preprocessing_hash == b.preprocessing_hash
    assert a.features(drawn(2)).shape == (2, a.width)


def test_an_unknown_encoder_or_weights_that_fit_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="phantom, texture"):
        find_encoder("fantom")
    with pytest.raises(UsageError, match="timm:NAME"):
        find_encoder("texture", weights="x.safetensors")
    with pytest.raises(MissingError, match=r"model\.json"):
        find_encoder(model=tmp_path)


def test_random_weights_are_said_wherever_the_encoder_is_named(tmp_path: Path) -> None:
    random = find_encoder("timm:resnet10t")
    torch.manual_seed(5)
    save_tensors(tmp_path / "w.safetensors", Backbone(BackboneConfig(name="resnet10t")).net.state_dict())
    given = find_encoder("timm:resnet10t", weights=str(tmp_path / "w.safetensors"))
    assert (given.name, given.warnings) == ("timm:resnet10t", ()) and random.name == "timm:resnet10t (random weights)"
    (said,) = random.warnings
    assert said.startswith("--encoder timm:resnet10t has random weights") and "--weights FILE.safetensors" in said
    (tmp_path / "in").mkdir()
    for k, image in enumerate(drawn(6)):
        (tmp_path / "in" / f"{k}.png").write_bytes(png(image.pixels))
    (tmp_path / "pairs.csv").write_text("a,b\n0.png,1.png\n2.png,3.png\n4.png,5.png\n")
    call = lambda *words: CliRunner().invoke(app, [str(w) for w in words])
    own = ("--encoder", "timm:resnet10t")
    for out, weights, told in (("i", (), True), ("j", ("--weights", tmp_path / "w.safetensors"), False)):
        done = call("index", tmp_path / "in", "-o", tmp_path / out, *own, *weights)
        assert done.exit_code == 0 and (said in done.stderr) == told == (said in (tmp_path / out / "log.txt").read_text())
        assert ("timm:resnet10t (random weights)" in call("index", tmp_path / out, "--list").stdout) == told
        done = call("pairs", tmp_path / "pairs.csv", "-o", tmp_path / f"{out}-pairs", "--root", tmp_path / "in", *own, *weights)
        assert done.exit_code == 0 and (said in done.stderr) == told, done.output
        for name in ("log.txt", "report.html"):
            assert (said in (tmp_path / f"{out}-pairs" / name).read_text()) == told

"""The only loop: same seed same weights, killed or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tacit.errors import ReadError, TrainingError
from tacit.parts.train import CHECKPOINT, TrainConfig, fit, learning_rate
from tacit.parts.weights import load_into, load_tensors, save_tensors


class Line(nn.Module):
    """y = w·x by a small network with dropout and batch norm, so that every kind of state takes part."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(4, 1, 1))
        self.progress: list[float] = []

    def loss(self, batch):
        return {"loss": ((self.net(batch["x"]) - 2 * batch["x"]) ** 2).mean()}

    def after_step(self, progress: float) -> None:
        self.progress.append(progress)


def batch(step: int):
    return {"x": torch.from_numpy(np.random.default_rng([9, step]).standard_normal((2, 1, 8, 8)).astype(np.float32))}


CONFIG = TrainConfig(epochs=3, steps=10, checkpoint_every=7, precision="fp32")


def weights(module: nn.Module) -> list[torch.Tensor]:
    return list(module.state_dict().values())


def test_the_loss_falls_and_the_same_seed_gives_the_same_weights() -> None:
    losses: list[float] = []

    class Keep:
        def log(self, step, values):
            losses.append(values["loss"])

        def advance(self, done, total):
            pass

    a = fit(Line(), batch, TrainConfig(epochs=8, steps=25), seed=1, tracker=Keep())
    b = fit(Line(), batch, TrainConfig(epochs=8, steps=25), seed=1)
    assert np.mean(losses[-3:]) < 0.5 * losses[0]
    assert all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))
    assert any(not torch.equal(x, y) for x, y in zip(weights(a), weights(fit(Line(), batch, TrainConfig(epochs=8, steps=25), seed=2)), strict=True))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_stopping_anywhere_and_resuming_gives_bit_equal_weights(tmp_path: Path, optimizer: str) -> None:
    config = CONFIG.model_copy(update={"optimizer": optimizer, "lr": 0.01})
    whole = fit(Line(), batch, config, seed=3)

    def dies_at(last: int):
        def source(step: int):
            if step == last:
                raise RuntimeError("killed")
            return batch(step)

        return source

    for last in (8, 15, 24, 29):
        with pytest.raises(RuntimeError):
            fit(Line(), dies_at(last), config, seed=3, folder=tmp_path / optimizer)
    resumed = fit(Line(), batch, config, seed=3, folder=tmp_path / optimizer)
    assert all(torch.equal(x, y) for x, y in zip(weights(whole), weights(resumed), strict=True))


def test_ctrl_c_saves_the_step_it_is_in(tmp_path: Path) -> None:
    def source(step: int):
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return batch(step)

    with pytest.raises(KeyboardInterrupt):
        fit(Line(), source, CONFIG, seed=3, folder=tmp_path)
    assert load_tensors(tmp_path / CHECKPOINT)[1]["done"] == 6
    resumed = fit(Line(), batch, CONFIG, seed=3, folder=tmp_path)
    assert all(torch.equal(x, y) for x, y in zip(weights(fit(Line(), batch, CONFIG, seed=3)), weights(resumed), strict=True))


KILLED = """
import sys, time; sys.path.insert(0, {tests!r})
from pathlib import Path
import torch; torch.set_num_threads(1)
from test_train import Line, batch, CONFIG
from tacit.parts.train import fit
def slow(step):
    time.sleep(0.05); return batch(step)
fit(Line(), slow, CONFIG, seed=3, folder=Path({folder!r}))
"""


def test_kill_9_in_the_middle_resumes_to_bit_equal_weights(tmp_path: Path) -> None:
    script = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 120
    while not (tmp_path / CHECKPOINT).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < load_tensors(tmp_path / CHECKPOINT)[1]["done"] < CONFIG.total
    resumed = fit(Line(), batch, CONFIG, seed=3, folder=tmp_path)
    assert all(torch.equal(x, y) for x, y in zip(weights(fit(Line(), batch, CONFIG, seed=3)), weights(resumed), strict=True))


def test_a_loss_that_is_not_finite_stops_with_the_step() -> None:
    def source(step: int):
        return {"x": batch(step)["x"] * (float("nan") if step == 4 else 1)}

    with pytest.raises(TrainingError, match="nan at step 4"):
        fit(Line(), source, CONFIG, seed=0)


def test_a_schedulers_sigterm_is_a_ctrl_c_and_a_second_signal_at_once_is_the_same(tmp_path: Path) -> None:
    def source(step: int):
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        return batch(step)

    with pytest.raises(KeyboardInterrupt):
        fit(Line(), source, CONFIG, seed=3, folder=tmp_path)
    assert load_tensors(tmp_path / CHECKPOINT)[1]["done"] == 6
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_hooks_are_called() -> None:
    epochs: list[int] = []
    steps: list[int] = []
    module = Line()
    fit(module, batch, CONFIG, seed=0, before_epoch=epochs.append, after_step=steps.append)
    assert epochs == [0, 1, 2] and steps == list(range(1, 31)) and module.progress[0] == pytest.approx(1 / 30) and module.progress[-1] == 1


def test_the_learning_rate_follows_its_formula() -> None:
    one = TrainConfig(epochs=1, steps=100, lr=1.0)
    assert max(learning_rate(one, s) for s in range(100)) == pytest.approx(1, abs=0.02)
    assert learning_rate(one, 99) < 0.01
    assert learning_rate(one.model_copy(update={"schedule": "poly"}), 50) == pytest.approx(0.5**0.9)


def test_equal_weights_are_equal_files_and_say_nothing_of_the_machine(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(3.0), "a": torch.eye(2)}
    save_tensors(tmp_path / "x", tensors)
    save_tensors(tmp_path / "y", dict(reversed(tensors.items())))
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    text = (tmp_path / "x").read_bytes().decode("latin-1")
    assert str(tmp_path) not in text and os.uname().nodename not in text
    assert list(load_tensors(tmp_path / "x")[0]) == ["a", "b"]


def test_weights_that_do_not_fit_or_are_torn_are_named(tmp_path: Path) -> None:
    save_tensors(tmp_path / "w", {"weight": torch.zeros(2, 2)})
    with pytest.raises(ReadError, match="another network: 1 tensors missing"):
        load_into(nn.Linear(2, 2), tmp_path / "w")
    save_tensors(tmp_path / "w", {"weight": torch.tensor([[1.0, float("inf")]] * 2), "bias": torch.zeros(2)})
    with pytest.raises(ReadError, match="weight holds 2 values that are not finite"):
        load_into(nn.Linear(2, 2), tmp_path / "w")
    (tmp_path / "w").write_bytes((tmp_path / "w").read_bytes()[:-5])
    with pytest.raises(ReadError, match="cannot be read"):
        load_tensors(tmp_path / "w")

"""Two real processes learn what one learns, stop together, and go on where they were killed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import together
from tacit.errors import InputError
from tacit.parts.backbone import BackboneConfig, timm_network
from tacit.parts.batch_norm import SharedBatchNorm, share_batch_norm
from tacit.parts.processes import agreed, gathered, is_first, meet, own_rows, size
from tacit.parts.weights import load_tensors
from tacit.report.track import Curves

LEARNT = ("byol", "simclr", "simsiam", "moco", "vae-byol", "densecl", "pixpro", "phantom-byol")
LOSS, WEIGHT = 1e-4, 1e-4  # how far two processes may be from one in eight steps of fp32: sums in another order round otherwise (measured: 2e-5)


def start(out: Path, *jobs: str) -> list[subprocess.Popen]:
    """Two processes that meet on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, together.__file__, str(out), *jobs]
    return [subprocess.Popen(command, env=os.environ | common | {"RANK": str(r), "LOCAL_RANK": str(r)}, stderr=subprocess.PIPE, text=True) for r in range(2)]


def run(out: Path, *jobs: str) -> None:
    both = start(out, *jobs)
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("both")
    run(out, "norm", "rows", "stops", *LEARNT)
    return out


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_batch_norm_over_two_processes_is_that_of_the_whole_batch(both: Path, kind: type[nn.Module]) -> None:
    norm, rows = together.normed(kind)
    x = rows.clone().requires_grad_()
    y = norm.train()(x)
    sum(together.loss_of(part, own) for part, own in zip(y.chunk(2), rows.chunk(2), strict=True)).backward()
    wanted = {"y": y, "x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad} | norm.state_dict(prefix="state.")
    found, _ = load_tensors(both / f"{kind.__name__}.safetensors")
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, rtol=1e-12, atol=1e-12), name  # in double


@pytest.mark.parametrize("name", LEARNT)
def test_two_processes_learn_what_one_learns(both: Path, name: str) -> None:
    module, losses = together.learn(name)
    found = json.loads((both / "found.json").read_text())[name]
    assert len(found) == len(losses) == 8
    for step, (two, one) in enumerate(zip(found, losses, strict=True)):
        assert set(two) == set(one) and {"loss", "spread", "rank"} <= set(one)
        assert two["loss"] == pytest.approx(one["loss"], abs=LOSS), f"step {step}"
        assert two["spread"] == pytest.approx(one["spread"], rel=0.01) and two["rank"] == pytest.approx(one["rank"], rel=0.01)
    assert abs(losses[-1]["loss"] - losses[0]["loss"]) > 100 * LOSS  # so that agreement says something
    weights, _ = load_tensors(both / f"{name}.safetensors")
    for key, value in module.state_dict().items():
        assert torch.allclose(weights[key].float(), value.float(), atol=WEIGHT, rtol=1e-3), key


def test_a_process_that_is_killed_ends_the_other_with_a_message_and_both_resume(tmp_path: Path) -> None:
    first, second = start(tmp_path, "byol:5")  # the second dies at step 5, the checkpoint is of step 3
    said = first.communicate(timeout=300)[1]
    second.communicate(timeout=300)
    assert second.returncode == -9 and first.returncode == 1
    assert "TrainingError: process 0 of 2 lost another one" in said
    assert load_tensors(tmp_path / "checkpoint" / "last.safetensors")[1]["done"] == 3
    run(tmp_path, "byol:resumed")
    assert len(json.loads((tmp_path / "found.json").read_text())["byol"]) == 5
    module, _ = together.learn("byol")
    weights, _ = load_tensors(tmp_path / "byol.safetensors")
    for key, value in module.state_dict().items():
        assert torch.allclose(weights[key].float(), value.float(), atol=WEIGHT, rtol=1e-3), key


def test_rows_of_all_processes_carry_their_gradient_home(both: Path) -> None:
    found = json.loads((both / "found.json").read_text())
    assert found["rows"] == [0, 1, 10, 11] and found["sum"] == [10, 12]
    assert found["gradient"] == [3, 6, 9, 12]  # (1 + 2) · place, from both


def test_one_process_stops_all_and_the_first_one_says_why(both: Path) -> None:
    found = json.loads((both / "found.json").read_text())
    assert found["heard"] == "process 1 of 2: no pictures here" and found["code"] == InputError.exit_code
    assert found["told"] is False and found["asked"] is True


def test_one_process_alone_needs_nobody() -> None:
    x = torch.arange(3.0, requires_grad=True)
    assert size() == 1 and is_first() and gathered(x) is x and torch.equal(own_rows(x), x)
    assert meet(asked=True) and not meet()
    with pytest.raises(InputError, match="as it was"), agreed():
        raise InputError("as it was")


def test_a_network_with_shared_batch_norm_is_the_same_when_applied() -> None:
    torch.manual_seed(0)
    net = timm_network(BackboneConfig(name="efficientnet_b0")).eval()  # its batch norm carries the activation
    x, before = torch.randn(2, 3, 32, 32), net.state_dict()
    wanted = net(x)
    share_batch_norm(net)
    assert any(isinstance(m, SharedBatchNorm) for m in net.modules()) and not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert list(net.state_dict()) == list(before) and torch.allclose(net(x), wanted, atol=1e-5)
    assert [n for n, _ in net.named_parameters()] == [n for n in before if "running" not in n and "tracked" not in n]


def test_a_run_that_one_process_began_is_finished_by_two(tmp_path: Path) -> None:
    import numpy as np

    import tacit
    from tacit.phantom import tissue
    from tacit.report.picture import png

    (tmp_path / "in").mkdir()
    for k in range(16):
        (tmp_path / "in" / f"{k}.png").write_bytes(png(tissue.draw(np.random.default_rng(k), (72, 96), 2.0).picture))
    (tmp_path / "in" / "torn.png").write_bytes(b"no picture")
    settings = ["backbone.name=test_efficientnet", "size=32", "hidden=32", "projection=16", "train.batch=8", "train.epochs=6", "train.precision=fp32"]
    settings += ["train.optimizer=sgd", "train.lr=0.002", "train.checkpoint_every=2", "train.log_every=1"]
    tacit.pretrain(tmp_path / "in", tmp_path / "whole", set=settings)

    def interrupt() -> None:
        while not list((tmp_path / "out").glob("checkpoints/byol/last.safetensors")):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        tacit.pretrain(tmp_path / "in", tmp_path / "out", set=settings)
    words = ["pretrain", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--resume", *(w for s in settings for w in ("--set", s))]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tacit", *words]
    settings_kept = (tmp_path / "out" / "config.toml").read_text()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert "16 images, loss" in done.stdout and done.stdout.count("next:") == 1, done.stderr  # the first one speaks
    assert re.search(r"exitcode +: 3", done.stderr) and (tmp_path / "out" / "config.toml").read_text() == settings_kept
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "finished" and record["processes"] == 2 and record["failed"] == 1
    one, two = (Curves(tmp_path / name / "metrics.csv").stages()["byol"]["loss"] for name in ("whole", "out"))
    assert [step for step, _ in two] == [step for step, _ in one] == list(range(12))
    assert [loss for _, loss in two] == pytest.approx([loss for _, loss in one], abs=1e-3)
    whole, shared = (load_tensors(tmp_path / name / "model" / "weights.safetensors")[0] for name in ("whole", "out"))
    for key, value in whole.items():
        assert torch.allclose(shared[key].float(), value.float(), atol=1e-3, rtol=1e-2), key

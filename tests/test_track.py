"""What `--track` keeps is what metrics.csv says, read back with each tracker's own reader; killed runs, failures and the network."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.errors import MissingError, UsageError
from tacit.phantom import tissue
from tacit.report.picture import png
from tacit.report.track import Curves
from tacit.report.tracked import Tracked, check_trackers
from tacit.report.trackers.contract import About, Outcome, Point, curve_name
from tacit.report.trackers.to_mlflow import MLflow
from tacit.run_folder import OWN
from test_pretrain import TINY

pytestmark = pytest.mark.filterwarnings("ignore")  # of other people's packages
LEARN = [*TINY, "train.log_every=1"]
Rows = dict[tuple[str, int], float]  # curve, step → value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tissue")
    for k in range(10):
        (place / f"{k}.png").write_bytes(png(tissue.draw(np.random.default_rng(k), (72, 96), 2.0).picture))
    return place


@pytest.fixture(scope="module")
def learnt(folder: Path) -> Path:
    """A run that told all three, while whoever opened a connection would have been counted."""
    out = folder.parent / "learnt"
    tacit.pretrain(folder, out, set=LEARN, track=["tensorboard", "mlflow", "wandb"])
    return out


def in_csv(out: Path) -> Rows:
    with (out / "metrics.csv").open(newline="") as file:
        return {(curve_name(r["stage"], r["name"]), int(r["step"])): float(r["value"]) for r in csv.DictReader(file)}


def in_tensorboard(out: Path, most: int = 1) -> tuple[Rows, Any]:
    """The curves, each step at most once, and the reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(out / "track" / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    reader.Reload()
    rows: Rows = {}
    for tag in reader.Tags()["scalars"]:
        for event in reader.Scalars(tag):
            assert (tag, event.step) not in rows, "a step was sent twice"
            rows[tag, event.step] = event.value
    return {key: v for key, v in rows.items() if not key[0].startswith("final/")}, reader


def in_mlflow(uri: str) -> tuple[Rows, Any, Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("tacit").experiment_id])
    rows: Rows = {}
    for curve in run.data.metrics:
        for metric in client.get_metric_history(run.info.run_id, curve):
            assert (curve, metric.step) not in rows, "a step was sent twice"
            rows[curve, metric.step] = metric.value
    return {key: v for key, v in rows.items() if not key[0].startswith("final/")}, run, client


def store(out: Path) -> str:
    return f"sqlite:///{out / 'track' / 'mlflow' / 'mlflow.db'}"


def records(file: Path) -> Iterator[Any]:
    """The records of W&B's transaction log: LevelDB's log format, blocks of 32 KiB, each piece with crc, length and kind."""
    from wandb.proto import wandb_internal_pb2

    content, at, whole = file.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def in_wandb(out: Path) -> tuple[Rows, list[Any]]:
    (file,) = (out / "track" / "wandb").rglob("*.wandb")
    found = list(records(file))
    rows: Rows = {}
    numbers = []
    for record in found:
        if record.WhichOneof("record_type") == "history":
            values = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            numbers.append(int(values["_step"]))
            for curve, value in values.items():
                axis = f"{curve.split('/')[0]}/step"
                if axis in values and curve != axis and not curve.startswith("_"):
                    assert (curve, values[axis]) not in rows, "a step was sent twice"
                    rows[curve, int(values[axis])] = value
    assert numbers == sorted(set(numbers))
    return rows, found


def test_tensorboard_has_what_metrics_csv_says(learnt: Path) -> None:
    rows, reader = in_tensorboard(learnt)
    expected = in_csv(learnt)
    assert len(expected) >= 16 and rows == pytest.approx(expected, rel=1e-6)  # its numbers have single precision
    texts = {tag.removesuffix("/text_summary"): reader.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in reader.Tags()["tensors"]}
    record = json.loads((learnt / "run.json").read_text())
    assert "--track tensorboard" in texts["command"] and "hidden = 32" in texts["settings"] and "torch" in texts["versions"]
    assert record["data"] in texts["data"] and texts["status"] == "finished" and "Features learnt by Tacit" in texts["model"]
    assert "figures/views" in reader.Tags()["images"]
    assert {p.name for p in learnt.iterdir()} <= set(OWN)  # what --overwrite may replace
    assert reader.Scalars("final/last/loss")[0].value == pytest.approx(record["last"]["loss"], rel=1e-6)


def test_mlflow_has_what_metrics_csv_says(learnt: Path, folder: Path) -> None:
    from tacit.files import sha256

    rows, run, client = in_mlflow(store(learnt))
    assert rows == in_csv(learnt)
    assert run.info.status == "FINISHED" and run.data.params["hidden"] == "32" and run.data.params["pretrain.seed"] == "0"
    assert "tacit pretrain" in run.data.tags["tacit.command"] and run.data.tags["tacit.torch"]
    place = learnt / "track" / "mlflow" / "artifacts" / run.info.run_id / "artifacts"
    assert (place / "data" / "hashes.txt").read_text().split() == sorted(sha256(p) for p in folder.glob("*.png"))
    assert (place / "model" / "weights.safetensors").read_bytes() == (learnt / "model" / "weights.safetensors").read_bytes()
    (version,) = client.search_model_versions("name='tacit pretrain'")
    assert version.run_id == run.info.run_id and str(version.version) == "1"
    assert run.inputs.dataset_inputs[0].dataset.digest == json.loads((learnt / "run.json").read_text())["data"][:32]


def test_wandb_has_what_metrics_csv_says(learnt: Path) -> None:
    rows, found = in_wandb(learnt)
    assert rows == in_csv(learnt)
    artifacts = {a.type: a for a in (r.artifact for r in found if r.WhichOneof("record_type") == "artifact")}
    names = {kind: {e.path for e in a.manifest.contents} for kind, a in artifacts.items()}
    report = {"figures/augmentations.png", "figures/views.png", "report.html"}
    assert names == {"dataset": {"hashes.txt"}, "report": report, "model": {p.name for p in (learnt / "model").iterdir()}}
    config = {i.key: i.value_json for r in found if r.WhichOneof("record_type") == "run" for i in r.run.config.update}
    assert "tacit pretrain" in config["command"] and json.loads(config["pretrain"])["seed"] == 0
    (run,) = (r.run for r in found if r.WhichOneof("record_type") == "run")
    assert run.host == "tacit" and not run.git.commit and not list((learnt / "track").rglob("wandb-metadata.json"))  # neither machine nor program


def test_curves_have_the_same_names_everywhere(learnt: Path) -> None:
    names = {curve for curve, _ in in_csv(learnt)}
    assert names == {"byol/loss", "byol/spread", "byol/rank", "byol/lr"}
    assert names == {c for c, _ in in_tensorboard(learnt)[0]} == {c for c, _ in in_mlflow(store(learnt))[0]} == {c for c, _ in in_wandb(learnt)[0]}


LONG = [*TINY, "train.log_every=1", "train.epochs=6", "train.steps=10", "train.checkpoint_every=4"]


def test_a_killed_and_resumed_run_sends_no_step_twice(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    words = [sys.executable, "-m", "tacit", "pretrain", str(folder), "-o", str(out), *(w for s in LONG for w in ("--set", s))]
    words += [w for name in ("tensorboard", "mlflow", "wandb") for w in ("--track", name)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}  # else they share this process's writer, which outlives them
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline and not (out.joinpath("metrics.csv").exists() and len(in_csv(out)) >= 30):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    before = len(in_csv(out))
    assert 30 <= before < 240
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0 and "failed" not in done.stderr, done.stderr
    expected = in_csv(out)
    assert len(expected) == 240
    assert in_tensorboard(out)[0] == pytest.approx(expected, rel=1e-6)
    assert in_mlflow(store(out))[0] == expected and in_wandb(out)[0] == expected
    assert len(list((out / "track" / "wandb").rglob("*.wandb"))) == 1


def test_no_connection_is_opened(folder: Path, tmp_path: Path) -> None:
    """Every way out leads to a server that counts: proxies, W&B's address, and sockets of the process that are not local."""
    counted = []
    server = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{server.getsockname()[1]}"

    def count() -> None:
        while True:
            try:
                counted.append(server.accept()[1])
            except OSError:
                return

    threading.Thread(target=count, daemon=True).start()
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\nown = socket.socket.connect\n"
        "def connect(self, address):\n"
        "    if self.family != socket.AF_UNIX and address[0] not in ('127.0.0.1', '::1', 'localhost'):\n"
        "        raise AssertionError(f'a connection to {address}')\n"
        "    return own(self, address)\n"
        "socket.socket.connect = connect\n"
    )
    away = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "ALL_PROXY", "WANDB_BASE_URL"), address)
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k not in ("MLFLOW_TRACKING_URI", "NO_PROXY", "no_proxy")} | away
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *filter(None, [env.get("PYTHONPATH")])])
    words = ["pretrain", str(folder), "-o", str(tmp_path / "o"), "--track", "wandb", "--track", "mlflow", "--track", "tensorboard"]
    words += [w for s in LEARN for w in ("--set", s)]
    done = subprocess.run([sys.executable, "-m", "tacit", *words], capture_output=True, text=True, env=env, check=False)
    server.close()
    assert done.returncode == 0 and "failed and is left out" not in done.stderr, done.stderr
    assert counted == [] and in_wandb(tmp_path / "o")[0] == in_csv(tmp_path / "o")


def test_a_server_for_mlflow_goes_on_where_it_was_and_gets_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path / 'server.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)  # where such a store keeps files
    for name, header in (("tables/out_of_fold.csv", "case,class"), ("tables/classes.csv", "class,auc"), ("figures/worth.png", "x"), ("figures/p07.jpg", "x")):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(header + "\n")
    rows = {("byol", step, "loss"): step / 8 for step in range(20)}
    for seen, status in ((12, "interrupted"), (20, "finished")):  # two sittings of one run
        told = Tracked(["mlflow"], tmp_path / "out" / "track", About("key", "pretrain", "tacit pretrain", {"seed": 0}, {}), pytest.fail)
        told(dict(list(rows.items())[:seen]))
        told.finish(dict(list(rows.items())[:seen]), Outcome(status, {"final/auc": 0.5} if status == "finished" else {}, tmp_path / "out"))
    found, run, client = in_mlflow(uri)
    assert found == {("byol/loss", step): step / 8 for step in range(20)}
    assert {f.path for part in ("tables", "figures") for f in client.list_artifacts(run.info.run_id, part)} == {"tables/classes.csv", "figures/worth.png"}


def test_rows_that_change_after_they_were_sent_are_written_anew(tmp_path: Path) -> None:
    told = Tracked(["tensorboard"], tmp_path / "track", About("key", "pretrain", "tacit pretrain", {}, {}), pytest.fail)
    told({("a", 0, "loss"): 1.0, ("a", 1, "loss"): 2.0})
    final = {("a", 0, "loss"): 1.0, ("a", 1, "loss"): 3.0, ("a", 2, "loss"): 4.0}
    told.finish(final, Outcome("finished", folder=tmp_path))
    assert in_tensorboard(tmp_path)[0] == {("a/loss", 0): 1.0, ("a/loss", 1): 3.0, ("a/loss", 2): 4.0}


def test_a_tracker_that_fails_is_left_out_once_and_the_run_goes_on(tmp_path: Path) -> None:
    """The database is taken away while the run learns: what MLflow then raises is its own."""
    lines: list[str] = []
    told = Tracked(["mlflow", "tensorboard"], tmp_path / "track", About("key", "pretrain", "tacit pretrain", {}, {}), lines.append)
    (tmp_path / "track" / "mlflow" / "mlflow.db").unlink()
    (tmp_path / "track" / "mlflow" / "mlflow.db").mkdir()
    rows = {("a", step, "loss"): float(step) for step in range(3)}
    for seen in (1, 2, 3):
        told(dict(list(rows.items())[:seen]))
    told.finish(rows, Outcome("finished", folder=tmp_path))
    assert len(lines) == 1 and lines[0].startswith("--track mlflow failed and is left out from here on") and "metrics.csv has all curves" in lines[0]
    assert in_tensorboard(tmp_path)[0] == {("a/loss", step): float(step) for step in range(3)}


def test_a_folder_that_cannot_be_written_costs_the_tracker_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lines: list[str] = []
    Tracked(["tensorboard"], tmp_path / "file", About("key", "pretrain", "tacit pretrain", {}, {}), lines.append)
    assert len(lines) == 1 and "--track tensorboard failed" in lines[0]


def test_what_is_missing_or_unknown_is_said_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="known are wandb, tensorboard, mlflow"):
        tacit.segment(tmp_path, tmp_path / "o", track=["comet"])
    monkeypatch.setattr(MLflow, "PACKAGES", ("mlflow", "no_such_package"))
    with pytest.raises(MissingError, match=r"no_such_package, which is not installed; pip install 'tacit\[track\]'") as caught:
        tacit.classify_fit(tmp_path, tmp_path / "o", labels="none.csv", track=["mlflow"])
    assert caught.value.exit_code == 5 and not (tmp_path / "o").exists()
    check_trackers(["wandb", "tensorboard"])


def test_points_lie_where_metrics_csv_has_them(tmp_path: Path) -> None:
    curves, seen = Curves(tmp_path / "metrics.csv"), []
    curves.told = lambda rows: seen.append(dict(rows))
    curves.log("a", 0, {"loss": 1.0, "lr": 0.1})
    curves.log("a", 5, {"loss": 1 / 3})
    curves.save()
    assert seen == [{("a", 0, "loss"): 1.0, ("a", 0, "lr"): 0.1, ("a", 5, "loss"): 1 / 3}]
    points = list(Tracked([], tmp_path, About("k", "v", "c", {}, {}), pytest.fail)._points(seen[0]).values())
    assert points == [Point(0, "a/loss", 0, 1.0), Point(0, "a/lr", 0, 0.1), Point(1, "a/loss", 5, 0.333333)]
    assert Curves(tmp_path / "metrics.csv").rows["a", 5, "loss"] == points[-1].value  # a resumed run reads, and sends, the same

"""An index in object storage answers as the folder that it was copied from; a real S3 server of this machine holds it."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from tacit.cli import app
from tacit.errors import InputError, MissingError, UsageError
from tacit.use.bucket import bucket_error, in_bucket
from tacit.use.compare import compare
from tacit.use.evaluate import evaluate
from tacit.use.index import index_images
from tacit.use.index_upkeep import delete_from_index, list_index
from tacit.use.map import map_index
from tacit.use.query import query
from tacit.use.store import Store
from test_index import draw

AWS = {
    "AWS_ALLOW_HTTP": "true",
    "AWS_ACCESS_KEY_ID": "someone",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
BUCKET = "s3://slides/of/glands"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("local")
    for k in range(12):
        draw(place / f"{k:02d}.png", k % 10)
    names = [f"{k:02d}.png" for k in range(12)]
    pd.DataFrame({"path": names, "patient": [f"P{k % 6}" for k in range(12)], "label": ["a", "b"] * 6}).to_csv(place / "list.csv", index=False)
    index_images(place / "list.csv", place / "index", encoder="texture", commit_rows=4)
    return place / "index"


@pytest.fixture(scope="module")
def server(index: Path) -> Iterator[str]:
    """The address of an S3 server that holds a copy of the index's table, and nothing else of it."""
    moto = pytest.importorskip("moto.server", reason="the package moto is not installed (tacit[dev])")
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    running.start()
    try:
        keys = {"aws_access_key_id": "someone", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", **keys)
        client.create_bucket(Bucket="slides")
        for path in (index / "images.lance").rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "slides", f"of/glands/{path.relative_to(index)}")
        yield f"http://127.0.0.1:{port}"
    finally:
        running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (AWS | {"AWS_ENDPOINT_URL": server}).items():
        monkeypatch.setenv(name, value)
    return BUCKET


def rows(index: str | Path) -> list[Any]:
    store = Store.open(index)
    return [store.about, store.read(sorted(store.columns)).to_pylist(), store.vectors().tobytes()]


def test_it_answers_as_the_folder_it_was_copied_from(index: Path, bucket: str, tmp_path: Path) -> None:
    assert rows(bucket) == rows(index) == rows(bucket + "/")
    asked: dict[str, Any] = {"k": 12, "exclude": ["image"], "where": "label = 'a'"}
    picture = index.parent / "01.png"
    assert query(bucket, picture, **asked).answers == query(index, picture, **asked).answers
    assert map_index(bucket).rows == map_index(index).rows
    assert evaluate(bucket, task="query", k=3) == evaluate(index, task="query", k=3)
    theirs, ours = list_index(bucket), list_index(index)
    assert theirs.pop("index") == bucket and ours.pop("index") == str(index) and theirs == ours
    assert [row["figures"]["nearest"]["gain"] for row in compare([str(index), bucket], k=3)] == [0, 0]
    query(bucket, picture, out=tmp_path / "o", k=3)
    assert bucket in (tmp_path / "o" / "report.html").read_text() and bucket in json.loads((tmp_path / "o" / "run.json").read_text())["command"]


def test_the_command_line_takes_it(index: Path, bucket: str) -> None:
    picture = str(index.parent / "01.png")
    done, local = (CliRunner().invoke(app, ["query", place, picture, "-k", "3", "--json"]) for place in (bucket, str(index)))
    assert done.exit_code == 0 and json.loads(done.stdout) == json.loads(local.stdout)
    for words in (
        ["map", bucket, "--json"],
        ["evaluate", bucket, "--task", "query", "-k", "3", "--json"],
        ["index", bucket, "--list", "--json"],
        ["compare", bucket, str(index), "-k", "3"],
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (words, done.output)


def test_it_is_not_written(index: Path, bucket: str) -> None:
    before = rows(bucket)
    for options in ({}, {"workers": 2}):
        with pytest.raises(UsageError, match=r"can be read but not written.*aws s3 sync INDEX/images\.lance s3://slides/of/glands/images\.lance"):
            index_images(index.parent, bucket, **options)
    with pytest.raises(UsageError, match="can be read but not written"):
        delete_from_index(bucket, ["label=a"])
    assert rows(bucket) == before and not Path("s3:").exists()


@pytest.mark.parametrize(
    ("place", "changes", "error", "said"),
    [
        ("s3://nobody/of/glands", {}, InputError, "there is no bucket nobody at http://127"),
        ("s3://slides/elsewhere", {}, InputError, r"holds no images\.lance"),
        (BUCKET, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, MissingError, "no object storage answers at http://127.0.0.1:1"),
        (BUCKET, {"AWS_ENDPOINT_URL": "http://nowhere.invalid:80"}, MissingError, "no object storage answers"),
        (BUCKET, {"AWS_ALLOW_HTTP": "false"}, MissingError, "AWS_ALLOW_HTTP=true"),
    ],
)
def test_what_does_not_answer_is_named(
    bucket: str, monkeypatch: pytest.MonkeyPatch, place: str, changes: dict[str, str], error: type[Exception], said: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=said) as found:
        Store.open(place)
    assert "\n" not in str(found.value) and found.value.exit_code == (5 if error is MissingError else 4)


class Refusing(BaseHTTPRequestHandler):
    """Answers as S3 does where a key is wrong."""

    def do_GET(self) -> None:
        said = b"<?xml version='1.0'?><Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *words: Any) -> None:
        pass


def test_wrong_keys_and_none_are_named(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as refusing:
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{refusing.server_port}")
        with pytest.raises(MissingError, match="refuses these credentials; set AWS_ACCESS_KEY_ID"):
            Store.open(bucket)
        refusing.shutdown()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # no key of the user's own
    with pytest.raises(MissingError, match="no credentials were found"):
        Store.open(bucket)


def test_a_path_loses_a_stroke_and_is_known_all_the_same() -> None:
    assert in_bucket(Path("s3://a/b")) == in_bucket("s3://a/b/") == "s3://a/b"
    assert in_bucket("here/s3") is None and in_bucket("/s3:/x") is None


def test_a_region_that_nobody_tells_is_no_damage() -> None:
    """What LanceDB says of Amazon's own endpoint without a network."""
    told = bucket_error("s3://glands/all", RuntimeError("lance error: LanceError(IO): Generic S3 error: Failed to resolve region for bucket 'glands'"))
    assert isinstance(told, MissingError) and "set AWS_REGION" in str(told) and "bucket glands" in str(told)

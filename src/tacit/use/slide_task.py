"""One slide, from its file to its files in OUT: the same function in this process, in another one, in a shard, under Ray.

labels/NAME.tif · geojson/NAME.geojson[.gz] · tables/glands/NAME.csv · figures/NAME.jpg · slides/NAME.json, which is written last and says that the
slide is done. Each is written whole or not at all; what a killed process left behind is taken away when the slide is begun anew.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tacit.config import build
from tacit.errors import InputError, ReadError, StorageError
from tacit.files import locked, storage_error, write_atomic
from tacit.learn.methods import METHODS
from tacit.prepare.regions import Rules, find_regions
from tacit.read.slide import Slide, open_slide, stated_mpp
from tacit.report.picture import jpeg, outlined
from tacit.use.device import prepare_device
from tacit.use.instances import InstancesConfig
from tacit.use.model import load_model
from tacit.use.slide_labels import COLUMNS, write_glands, write_labels
from tacit.use.slide_predict import Seen, SlidesConfig, predict_slide

REACH_UM = 40.0  # a core grows no farther through its gland
FIGURE_PX = 900  # longer side of the overview
COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class SlideTask:
    """What is to be done with one slide. Plain values, so that it can be sent to another process."""

    name: str
    path: str
    mpp: float | None  # where the file states none
    out: str
    model: str  # folder of a run or of a model
    slides: dict[str, Any]  # of `SlidesConfig`
    instances: dict[str, Any]  # of `InstancesConfig`
    named: str
    device: str
    threads: int
    key: str  # of everything that decides the answer: the slide's bytes, the model, the settings


@dataclass(frozen=True)
class Outcome:
    """What came of a task: an empty reason where the slide is done."""

    name: str
    path: str
    reason: str = ""
    remedy: str = ""


def segment_slide(task: SlideTask) -> Outcome:
    """Does what is missing of a slide. What is wrong with the slide, the memory or the disk is said in the outcome, so that the others go on."""
    try:
        with locked(Path(task.out) / "slides" / f".{task.name}.lock"):
            if done(task) is None:
                _segment(task)
        return Outcome(task.name, task.path)
    except ReadError as error:
        return Outcome(task.name, task.path, error.reason, error.remedy)
    except InputError as error:
        return Outcome(task.name, task.path, str(error), "check the file, or leave it out")
    except StorageError as error:
        return Outcome(task.name, task.path, str(error), "free space, then run again with --resume")
    except (MemoryError, cv2.error) as error:
        return Outcome(task.name, task.path, f"it is too large for this machine's memory ({type(error).__name__})", "set a smaller slides.tile or slides.batch")
    except RuntimeError as error:  # torch has no class of its own for memory of the processor
        said = (str(error).splitlines() or [""])[0][:200]
        return Outcome(task.name, task.path, f"{type(error).__name__}: {said}", "if it speaks of memory set a smaller slides.batch; else please report it")


def done(task: SlideTask) -> dict[str, Any] | None:
    """The row of a slide that is done by the same model and settings; None where it is not."""
    try:
        state: dict[str, Any] = json.loads((Path(task.out) / "slides" / f"{task.name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state["row"] if state.get("key") == task.key else None


@lru_cache(maxsize=1)
def _network(model: str, device: str, threads: int) -> Any:
    """The network of a run, kept for the next slide of this process."""
    device = prepare_device(device, threads)
    network, _ = load_model(model, METHODS)
    return network.to(device)


def find_glands(slide: Slide, network: Any, c: SlidesConfig, own: InstancesConfig, given_mpp: float | None, named: str, scratch: Path) -> dict[str, Any]:
    """Writes labels.tif, geojson and glands.csv of a slide into the folder `scratch`; gives the slide's numbers.

    given_mpp: µm per pixel where the file states none. Raises ReadError where nobody does, for a damaged part and for a slide without tissue.
    """
    p, seen = predict_slide(slide, network, c, given_mpp, scratch / "p")
    mpp, um = stated_mpp(slide, given_mpp), network.um_per_px
    zoom = 2 if um / 2 >= mpp * 0.99 else 1  # the line between glands is found at half the network's spacing, as on pictures
    px, factor = um / zoom, seen.plan.factor / zoom
    rules = Rules(own.threshold, own.core, own.core_um2 / px**2, own.gland_um2 / px**2, own.hole_um2 / px**2, max(round(REACH_UM / px), 1), zoom)
    with p:
        regions = find_regions(p, rules)
        with regions.blocks:
            with _Rows(scratch / "glands.csv") as rows:
                write_glands(regions, p, zoom, factor, mpp, scratch / "geojson", named, rows.add)
            write_labels(regions, scratch / "labels.tif", scratch / "labels", px, factor)
    return _numbers(slide, mpp, px, seen, rows)


def _segment(task: SlideTask) -> None:
    (Path(task.out) / "slides" / f"{task.name}.json").unlink(missing_ok=True)  # an older answer is no longer vouched for
    out, network = Path(task.out), _network(task.model, task.device, task.threads)
    c, own = build(SlidesConfig, task.slides), build(InstancesConfig, task.instances)
    with _scratch(out / "scratch" / task.name) as scratch, open_slide(task.path) as slide:
        row = {"slide": task.name, **find_glands(slide, network, c, own, task.mpp, task.named, scratch)}
        figure = _figure(slide, scratch / "labels.tif")
        _put(scratch / "labels.tif", out / "labels" / f"{task.name}.tif")
        _put(scratch / "glands.csv", out / "tables" / "glands" / f"{task.name}.csv")
        _put_packed(scratch / "geojson", out / "geojson" / f"{task.name}.geojson", c.gzip_mb * 1e6)
        write_atomic(out / "figures" / f"{task.name}.jpg", jpeg(figure))
        write_atomic(out / "slides" / f"{task.name}.json", json.dumps({"key": task.key, "row": row}, indent=1, allow_nan=False) + "\n")


class _Rows:
    """The table of a slide's glands, row by row, and what the summary needs of them."""

    def __init__(self, place: Path) -> None:
        self.place, self.count, self.area, self.solidity = place, 0, list[float](), 0.0

    def __enter__(self) -> _Rows:
        self._file = self.place.open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
        self._writer.writeheader()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise storage_error(self.place, error) from error

    def add(self, row: dict[str, Any]) -> None:
        try:
            self._writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        except OSError as error:
            raise storage_error(self.place, error) from error
        self.count += 1
        self.area.append(row["area_um2"])
        self.solidity += row["solidity"]


def _numbers(slide: Slide, mpp: float, px: float, seen: Seen, rows: _Rows) -> dict[str, Any]:
    """A slide's line in the summary."""
    area_mm2 = float(np.sum(rows.area)) * 1e-6
    return {
        "height_px": slide.shape[0],
        "width_px": slide.shape[1],
        "mpp": round(mpp, 6),
        "mpp_source": "metadata" if slide.mpp is not None else "given",
        "label_um_per_px": px,
        "tiles": len(seen.plan),
        "tissue_mm2": round(seen.tissue_mm2, 5),
        "glands": rows.count,
        "glands_per_mm2": rows.count / seen.tissue_mm2 if seen.tissue_mm2 else None,
        "gland_share": area_mm2 / seen.tissue_mm2 if seen.tissue_mm2 else None,
        "median_area_um2": float(np.median(rows.area)) if rows.count else None,
        "mean_solidity": rows.solidity / rows.count if rows.count else None,
        "confidence": seen.confidence,
        "far_from_drawing": seen.far_from_drawing,
    }


def _figure(slide: Slide, labels: Path) -> Any:
    """The overview with outlines, from the label map's coarsest level."""
    import tifffile

    factor = max(max(slide.shape) / FIGURE_PX, 1.0)
    picture = slide.overview(factor)
    with tifffile.TiffFile(labels) as file:
        coarse = file.pages[-1].asarray().astype(np.int32)
    size = (picture.shape[1], picture.shape[0])
    return outlined(picture, cv2.resize(coarse.astype(np.float64), size, interpolation=cv2.INTER_NEAREST).astype(np.int32), width=1)


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # others still work beside it
            folder.parent.rmdir()


def _put(made: Path, place: Path) -> None:
    """Moves a finished file of the same disk to where it belongs, whole or not at all."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with made.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(made, place)
    except OSError as error:
        raise storage_error(place, error) from error


def _put_packed(made: Path, place: Path, most_bytes: float) -> None:
    """As `_put`, packed by gzip where it is larger than `most_bytes`; equal text is equal bytes."""
    packed = place.with_name(place.name + ".gz")
    if made.stat().st_size <= most_bytes:
        _put(made, place)
        packed.unlink(missing_ok=True)
        return
    small = made.with_suffix(".gz")
    try:
        with made.open("rb") as text, small.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as archive:
            shutil.copyfileobj(text, archive, COPY_BYTES)
    except OSError as error:
        raise storage_error(place, error) from error
    _put(small, packed)
    place.unlink(missing_ok=True)

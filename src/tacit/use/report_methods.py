"""The tables, the overlays side by side and the page of a comparison of methods."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import read_toml, to_toml
from tacit.errors import InputError, ReadError
from tacit.files import write_atomic
from tacit.read.folder import find_cases, find_truth, read_mask
from tacit.read.picture import read_picture
from tacit.report.methods import SHOWN
from tacit.report.page import Panel, page
from tacit.report.picture import embedded, jpeg, outlined, sheet, shrunk
from tacit.report.score import figures
from tacit.run import Run
from tacit.use.evaluate import separated
from tacit.use.method_rows import record_of
from tacit.use.score_masks import OWN, structure_of

if TYPE_CHECKING:
    from tacit.use.compare_methods import Part

PICTURES, TILE = 4, 300  # pictures of a part that are shown; px of the longer side of each overlay
TRUE, FOUND = (240, 60, 60), (20, 220, 80)
SHOWN_AS = "Red: the truth. Green: what a method calls the structure; “by truth”: its clusters were named by the truth. Each with its mIoU on this picture."
BAND = 22  # px, above an overlay, that say whose it is


def write_methods_report(
    run: Run, settings: dict[str, Any], parts: Sequence[Part], found: dict[str, Any], differences: list[dict[str, Any]], truth: Path
) -> None:
    """tables/methods.csv, rows.csv, images.csv, paired.csv, figures/*.jpg and report.html."""
    tables = run.folder / "tables"
    _table(tables / "methods.csv", [_flat(label, part.name, own) for part in parts for label, own in found.items() if part.name in own["parts"]])
    _table(tables / "rows.csv", [row for part in parts for row in _rows(part, found)])
    _table(tables / "images.csv", [row for part in parts for row in _images(part, found)])
    _table(tables / "paired.csv", [{k: _ends(v) if k == "interval" else v for k, v in row.items()} for row in differences])
    galleries = [panel for part in parts for name in _chosen(part) if (panel := _gallery(run, part, found, name, truth)) is not None]
    oracle = any(own["naming"] != OWN for own in found.values())
    text = page(
        title=f"{len(found)} methods on {', '.join(f'{len(p.pictures)} pictures of {p.name}' for p in parts)}",
        subtitle="Tacit compare: learnt without labels; truth scores, and names the clusters of methods that have no names for them",
        facts=[
            ("command", run.record["command"]),
            ("learnt from", "the pictures of --data, or what each run says; no mask took part"),
            ("clusters", "named by the truth of the scored pictures: one cluster a class (Hungarian) where they are two, else the majority; no such row is label-free"
                if oracle else "none: every method names what it finds"),
            ("pixels", "mIoU: mean over background and structure, sums over the pictures. Objects of clusters: connected pieces of at least a thousandth of the picture"),
            ("intervals", "95%, patients drawn with replacement (pictures where no patient is known), the same draws for all; ± is the SD over seeds"),
            ("seconds", f"{run.seconds:.0f}"),
        ],
        figures=galleries,
        galleries=[],
        tables=[*(_part_table(part, found) for part in parts), _paired_table(parts[-1].name, differences)],
        failures=run.failures,
        settings=to_toml(settings),
        warnings=run.record["warnings"],
    )  # fmt: skip
    write_atomic(run.folder / "report.html", text)


def printed(found: dict[str, Any], part: str) -> list[dict[str, Any]]:
    """A part's rows, short enough for a terminal."""
    rows = []
    for label, own in found.items():
        if part in own["parts"]:
            values = own["parts"][part]
            groups = {name: f"{v['miou']:.3f}" for name, v in values["by_group"].items()}
            objects = {n: spread(values["figures"][n]) for n in ("object_f1",) if n in values["figures"]}
            rows.append(
                {"method": label, "names": "own" if own["naming"] == OWN else "by truth", "seeds": len(own["seeds"]), "mIoU": spread(values["figures"]["miou"]),
                 "95%": ends(values["figures"]["miou"]["interval"]), **groups, "Dice": spread(values["figures"]["dice_pooled"]), **objects,
                 "seconds": round(own["seconds"]), "MB": round(own["peak_mb"])}
            )  # fmt: skip
    return rows


def spread(value: dict[str, Any], digits: int = 3) -> str:
    """Mean ± SD over seeds; the mean alone with one.

    >>> spread({"mean": 0.5, "sd": 0.01}), spread({"mean": 0.5, "sd": None})
    ('0.500 ± 0.010', '0.500')
    """
    return f"{value['mean']:.{digits}f}" + ("" if value["sd"] is None else f" ± {value['sd']:.{digits}f}")


def ends(interval: Sequence[float] | None, sign: str = "") -> str:
    """An interval, or a dash where there is none."""
    return "–" if interval is None else f"[{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]"


def _part_table(part: Part, found: dict[str, Any]) -> tuple[str, str, list[str], list[list[Any]]]:
    rows = []
    groups = list(dict.fromkeys(g for own in found.values() if part.name in own["parts"] for g in own["parts"][part.name]["by_group"]))
    shown = [n for n in SHOWN if any(n in own["parts"].get(part.name, {"figures": {}})["figures"] for own in found.values())]
    for label, own in found.items():
        if part.name in own["parts"]:
            v = own["parts"][part.name]
            figures_ = [spread(v["figures"][n], 0 if n.endswith("_px") else 3) if n in v["figures"] else "–" for n in shown]
            of_groups = [f"{v['by_group'][g]['miou']:.3f}" if g in v["by_group"] else "–" for g in groups]
            rows.append(
                [
                    label,
                    own["naming"],
                    len(own["seeds"]),
                    *figures_,
                    ends(v["figures"]["miou"]["interval"]),
                    *of_groups,
                    f"{own['seconds']:.0f}",
                    f"{own['peak_mb']:.0f}",
                ]
            )
    count = f"{len(part.pictures)} pictures"
    header = ["method", "who names", "seeds", *shown, "mIoU, 95%", *(f"mIoU {g}" for g in groups), "seconds", "peak MB"]
    return (f"On {part.name}", f"{count}; seconds are of learning and of answering the pictures of data.", header, rows)


def _paired_table(part: str, differences: list[dict[str, Any]]) -> tuple[str, str, list[str], list[list[Any]]]:
    against = differences[0]["against"] if differences else "–"
    rows = [
        [r["method"], f"{r['difference']:+.3f}", ends(r["interval"], "+"), r["patients_better"], r["patients_worse"], _chance(r["p"]), _chance(r["p_holm"])]
        for r in differences
    ]
    note = f"mIoU on {part} less that of {against}, on the same draws of patients; an interval that holds 0 is no difference. p: sign test over patients."
    return (f"Against {against}", note, ["method", "difference", "95%", "patients better", "worse", "p", "p after Holm"], rows)


def _chance(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< .001"


def _flat(label: str, part: str, own: dict[str, Any]) -> dict[str, Any]:
    values = own["parts"][part]
    row: dict[str, Any] = {
        "method": label,
        "part": part,
        "naming": own["naming"],
        "seeds": len(own["seeds"]),
        "images": values["images"],
        "patients": values["patients"],
    }
    for name, value in values["figures"].items():
        row |= {name: value["mean"], f"{name}_sd": value["sd"]} | ({f"{name}_95": _ends(value["interval"])} if value["interval"] else {})
    return row | {f"miou_{g}": v["miou"] for g, v in values["by_group"].items()} | {"seconds": own["seconds"], "peak_mb": own["peak_mb"]}


def _rows(part: Part, found: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for label, seeds in part.scored.items():
        for seed, scored in zip(found[label]["seeds"], seeds, strict=True):
            values = figures([scored.tallies[p] for p in part.pictures])
            named = " ".join(map(str, scored.names)) if scored.names is not None else ""
            rows.append({"method": label, "seed": seed, "part": part.name, "naming": scored.how, "clusters_called_structure": named, **values})
    return rows


def _images(part: Part, found: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"image": p, "part": part.name, "method": label, "seed": seed, "miou": values["miou"], "iou": values["iou_gland"], "dice": values["dice_pooled"]}
        for label, seeds in part.scored.items()
        for seed, scored in zip(found[label]["seeds"], seeds, strict=True)
        for p in part.pictures
        for values in [figures([scored.tallies[p]])]
    ]


def _table(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(k for row in rows for k in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    write_atomic(path, text.getvalue())


def _ends(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} {interval[1]:.4f}"


def _chosen(part: Part) -> list[str]:
    """Some pictures, evenly among all, whatever the answers."""
    step = max(len(part.pictures) // PICTURES, 1)
    return part.pictures[step // 2 :: step][:PICTURES]


def _gallery(run: Run, part: Part, found: dict[str, Any], name: str, truth: Path) -> Panel | None:
    """The overlays of one picture; None, and a failure, where the picture is not there any more: its figures are from masks alone and stand."""
    try:
        return Panel(f"{part.name}: {name}", embedded(_overlays(run, part, found, name, truth), "jpeg"), None, SHOWN_AS)
    except InputError as error:
        run.fail(name, ReadError(name, f"it is scored but not shown: {error}", "give the picture back and repeat the command with --resume"))
        return None


def _overlays(run: Run, part: Part, found: dict[str, Any], name: str, truth: Path) -> bytes:
    """One picture with the truth, and as each method has it, in rows; kept in figures/ too."""
    place = next(iter(part.runs.values()))
    true = separated(read_mask(find_truth(truth, [name])[name]))
    picture = _picture(place, name, true.shape)
    tiles = [_tile(picture, true, TRUE, "truth")]
    for label, own in part.runs.items():
        labels = structure_of(own, name, part.scored[label][0].names)
        iou = figures([part.scored[label][0].tallies[name]])["miou"]
        tiles.append(_tile(picture, labels, FOUND, f"{label}{'' if found[label]['naming'] == OWN else ' (by truth)'}  {iou:.2f}"))
    drawn = jpeg(sheet(tiles, columns=4))
    write_atomic(run.folder / "figures" / f"{part.name}-{name}.jpg", drawn)
    return drawn


def _picture(place: Path, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The picture that a run saw, at the size of its mask, wherever the run was started. Raises InputError where it is not there or is another."""
    said = record_of(place).get("source") or read_toml(place / "config.toml")["segment"]["input"]  # runs before `source` know their input as it was typed
    source = place / "input" if Path(said).suffix.lower() == ".zip" else said
    path = next((p for n, p in find_cases(source) if n == name), None)
    if path is None:
        raise InputError(f"{source} does not hold it any more")
    pixels = read_picture(path).pixels
    if pixels.shape[:2] != shape:
        raise InputError(f"{path} is {pixels.shape[0]}×{pixels.shape[1]} px now, its mask {shape[0]}×{shape[1]}")
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2), np.uint8).reshape(*shape, 3)


def _tile(picture: NDArray[np.uint8], labels: NDArray[np.int32], colour: tuple[int, int, int], said: str) -> NDArray[np.uint8]:
    small = shrunk(picture, TILE)
    over = outlined(small, shrunk(labels, TILE), colour, width=1)
    band = np.full((BAND, over.shape[1], 3), 255, np.uint8)
    cv2.putText(band, said, (3, BAND - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 40, 50), 1, cv2.LINE_AA)
    return np.concatenate([band, over])

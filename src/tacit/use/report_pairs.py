"""The page of `tacit pairs`: where the threshold comes from, what it is worth, and the pairs of which the answer is surest and least sure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import to_toml
from tacit.files import write_atomic
from tacit.read.pairs import Pair
from tacit.report.page import Panel, page
from tacit.report.pair_figures import curve_plot, threshold_plot
from tacit.report.picture import embedded, jpeg
from tacit.run import Run
from tacit.use.encoder import Encoder
from tacit.use.pair_calibrate import Calibrated
from tacit.use.pair_images import read_image
from tacit.use.pair_threshold import GIVEN, LABELLED, VIEWS, Threshold

SHOWN = 6  # pairs of a gallery
SIDE = 220  # px of a picture in it
NAMES = {
    "auc": "area under the ROC curve",
    "equal_error": "equal error rate",
    "accuracy": "accuracy at the threshold",
    "false_same": "false same, of different pairs",
    "false_different": "false different, of same pairs",
    "always_one_answer": "accuracy of one answer for all",
    "share_sure": "sure answers",
    "accuracy_sure": "accuracy of sure answers",
}


@dataclass(frozen=True)
class Answer:
    """One pair with its answer; None where an image could not be used."""

    pair: Pair
    distance: float | None = None
    same: bool | None = None
    sure: bool | None = None
    p_same: float | None = None


def write_report(
    run: Run,
    answers: list[Answer],
    threshold: Threshold,
    calibrated: Calibrated | None,
    encoder: Encoder,
    worth: dict[str, Any] | None,
    settings: dict[str, Any],
    warnings: list[str],
) -> None:
    """report.html and figures/*.png. worth: the answers judged by labels in the list itself, where it has any."""
    about = threshold.about
    panels = []
    if calibrated is not None and len(calibrated.distance) and calibrated.same.any() and not calibrated.same.all():
        d = threshold.decision
        interval = tuple(about["interval"]) if about.get("interval") else None
        kinds = ("two views of one image", "views of two images") if threshold.how == VIEWS else ("same", "different")
        plot = threshold_plot(calibrated.distance, calibrated.same, threshold=d.threshold, interval=interval, sure=(d.sure_same, d.sure_different), kinds=kinds)  # type: ignore[arg-type]
        panels.append(_panel(run, "threshold", plot, "held-out pairs: each was judged by what pairs without its images had taught"))
    if len(about.get("curve") or ()) > 1:
        plot = curve_plot(about["curve"], about["figures"]["always_one_answer"]["value"])
        panels.append(_panel(run, "pairs needed", plot, "what metric and threshold from so many pairs are worth on pairs that took no part"))
    done = [a for a in answers if a.distance is not None]
    mpp = settings["pairs"].get("mpp")
    text = page(
        title="Pairs",
        subtitle=run.record["command"],
        facts=_facts(run, answers, threshold, encoder, worth),
        galleries=[
            ("Most alike", "the smallest distances", _gallery(sorted(done, key=_distance)[:SHOWN], mpp)),
            ("Least alike", "the largest distances", _gallery(sorted(done, key=_distance, reverse=True)[:SHOWN], mpp)),
            ("Least sure", "the distances nearest to the threshold: look at these first", _gallery(_nearest(done, threshold.decision.threshold), mpp)),
        ],
        figures=panels,
        tables=_tables(about, threshold.how),
        failures=run.failures,
        settings=to_toml(settings),
        warnings=warnings,
    )
    write_atomic(run.folder / "report.html", text)


def _facts(run: Run, answers: list[Answer], threshold: Threshold, encoder: Encoder, worth: dict[str, Any] | None) -> list[tuple[str, str]]:
    d, about = threshold.decision, threshold.about
    done = [a for a in answers if a.distance is not None]
    same, sure = sum(bool(a.same) for a in done), sum(bool(a.sure) for a in done)
    known = d.sure_same is not None or d.sure_different is not None
    facts = [
        ("pairs", f"{len(answers)}, of them {len(answers) - len(done)} without an answer" if len(done) < len(answers) else str(len(answers))),
        ("answers", f"{same} same, {len(done) - same} different; {sure if known else 'none'} sure"),
        ("threshold", _threshold_words(threshold)),
        ("from", {LABELLED: "labelled pairs", VIEWS: "two views of each image against random pairs: no label took part", GIVEN: "given"}[threshold.how]),
        ("metric", "linear, learnt from the labelled pairs" if threshold.metric is not None else "raw: the features as they come"),
        ("encoder", f"{encoder.name}, {encoder.width} features (weights {encoder.weights_hash}, preprocessing {encoder.preprocessing_hash})"),
        ("sure", _sure_words(threshold)),
    ]
    if about.get("figures"):
        f = about["figures"]
        facts.append(
            (
                "worth",
                f"accuracy {_share(f['accuracy'])}, where one answer for all scores {_number(f['always_one_answer']['value'])}; area {_share(f['auc'])}; {_held_out_words(about)}",
            )
        )
    if worth is not None:
        facts.append(
            (
                "this list's labels",
                f"accuracy {worth['accuracy']:.3f}, area {worth['auc']:.3f}, one answer for all {worth['always_one_answer']:.3f} ({worth['pairs']} pairs)",
            )
        )
    return [*facts, ("took", f"{run.seconds:.0f} s")]


def _threshold_words(threshold: Threshold) -> str:
    d, interval = threshold.decision.threshold, threshold.about.get("interval")
    around = f", 95% interval {interval[0]:.3f}–{interval[1]:.3f} over {threshold.about['intervals_over']}" if interval and None not in interval else ""
    return f"distance ≤ {d:.4f} is same (cosine ≥ {1 - d / 2:.4f}){around}"


def _held_out_words(about: dict[str, Any]) -> str:
    n = about["pairs"]
    return (
        f"{n['scored']} held-out pairs, each judged by what the {n['taught']} of {n['labelled']} pairs (median) without its {about['intervals_over']} had taught"
        if "taught" in n
        else f"{n['scored']} held-out pairs"
    )


def _sure_words(threshold: Threshold) -> str:
    d = threshold.decision
    if d.sure_same is None and d.sure_different is None:
        return "never: too few pairs to know" if threshold.how != GIVEN else "not known for a threshold that was given as a number"
    near = f"same up to {d.sure_same:.4f}" if d.sure_same is not None else "never same"
    return near + (f", different from {d.sure_different:.4f}" if d.sure_different is not None else ", never different")


def _tables(about: dict[str, Any], how: str) -> list[tuple[str, str, list[str], list[list[Any]]]]:
    tables: list[tuple[str, str, list[str], list[list[Any]]]] = []
    over = about.get("intervals_over", "images")
    if about.get("figures"):
        rows = [[words, _number(about["figures"][k]["value"]), _interval(about["figures"][k])] for k, words in NAMES.items()]
        note = (
            "two views of an image count as same: no label took part"
            if how == VIEWS
            else f"no image{' and no patient' if over == 'patients' else ''} is on both sides"
        )
        tables.append(("What the answers are worth", f"held-out pairs; {note}", ["", "value", f"95% over {over}"], rows))
    if about.get("curve"):
        rows = [
            [r["pairs"], _number(r["auc"]["value"]), _interval(r["auc"]), _number(r["accuracy"]["value"]), _interval(r["accuracy"])] for r in about["curve"]
        ]
        tables.append(
            ("Against the number of pairs", "pairs that taught; scored on pairs that took no part", ["pairs", "area", "95%", "accuracy", "95%"], rows)
        )
    if about.get("table"):
        header = ["distance at most", "cosine at least", "accuracy", "false same", "false different"]
        rows = [
            [f"{r['threshold']:.4g}", f"{r['cosine']:.3f}", *(f"{r[k]:.3f}" for k in ("accuracy", "false_same", "false_different"))] for r in about["table"]
        ]
        tables.append(("Threshold against accuracy", "the held-out pairs; to pick a row here is to fit these pairs, so expect less elsewhere", header, rows))
    return tables


def _panel(run: Run, name: str, plot: bytes, caption: str) -> Panel:
    write_atomic(run.folder / "figures" / f"{name.replace(' ', '_')}.png", plot)
    return Panel(name, embedded(plot, "png"), None, caption)


def _gallery(answers: list[Answer], mpp: float | None) -> list[Panel]:
    return [Panel(f"{a.pair.a.name} – {a.pair.b.name}", embedded(jpeg(_beside(a.pair, mpp)), "jpeg"), None, _caption(a)) for a in answers]


def _caption(a: Answer) -> str:
    words = [f"distance {a.distance:.3f}", "same" if a.same else "different"] + ([] if a.sure is None else ["sure" if a.sure else "not sure"])
    if a.p_same is not None:
        words.append(f"p(same) {a.p_same:.2f}")
    return ", ".join(words + ([] if a.pair.label is None else [f"label: {'same' if a.pair.label else 'different'}"]))


def _beside(pair: Pair, mpp: float | None) -> NDArray[np.uint8]:
    """Both pictures, each fitted into a square on white."""
    out = np.full((SIDE, 2 * SIDE + 8, 3), 255, np.uint8)
    for path, left in ((pair.a, 0), (pair.b, SIDE + 8)):
        picture = read_image(Path(path), mpp).pixels
        zoom = SIDE / max(picture.shape[:2])
        w, h = max(round(picture.shape[1] * zoom), 1), max(round(picture.shape[0] * zoom), 1)
        small = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
        top, across = (SIDE - h) // 2, left + (SIDE - w) // 2
        out[top : top + h, across : across + w] = small
    return out


def _nearest(done: list[Answer], threshold: float) -> list[Answer]:
    return sorted(done, key=lambda a: abs(_distance(a) - threshold))[:SHOWN]


def _distance(a: Answer) -> float:
    return float(a.distance if a.distance is not None else np.inf)


def _share(figure: dict[str, Any]) -> str:
    return f"{_number(figure['value'])} {_interval(figure)}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(figure: dict[str, Any]) -> str:
    low, high = figure["interval"]
    return "" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"

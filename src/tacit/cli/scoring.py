"""The verb that judges answers: evaluate."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tacit.cli.options import Json
from tacit.errors import SOME_FAILED


def evaluate(
    predicted: Annotated[str, typer.Argument(metavar="MASKS", help="Folder of label maps, e.g. OUT/masks; for --task query an INDEX, for locate an OUT.")],
    truth: Annotated[
        Path | None, typer.Argument(metavar="TRUTH", help="Folder of true masks of the same names; for --task locate a CSV image,point,row,col.")
    ] = None,
    task: Annotated[str, typer.Option(help="segment (glands), structures (vessels, organs), clusters, query or locate.")] = "segment",
    label: Annotated[str, typer.Option(help="For query: the column of the index that holds the classes.")] = "label",
    k: Annotated[int, typer.Option("-k", "--k", help="For query: how many of the most alike count.")] = 10,
    include_same_patient: Annotated[bool, typer.Option("--include-same-patient", help="For query: leave out only the same image.")] = False,
    metric: Annotated[str, typer.Option(help="For query: cosine or euclidean.")] = "cosine",
    field: Annotated[Path | None, typer.Option(help="For structures and clusters: folder of fields of view; only what lies inside counts.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="For structures in a folder that is no run, and for the true classes of clusters: names in order of the masks' values.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score masks against truth (mIoU, Dice, the GlaS contest's object figures), or an index by its labels; with intervals over patients."""
    from tacit.use.evaluate import evaluate as run

    result = run(predicted, truth, task=task, label=label, k=k, include_same_patient=include_same_patient, metric=metric, field=field, classes=classes)
    if as_json:
        print(json.dumps(result, indent=1))
    elif task == "structures":
        _print_structures(result)
    elif task == "clusters":
        _print_clusters(result)
    elif task == "query":
        _print_query(result)
    elif task == "locate":
        _print_locate(result)
    else:
        _print_segment(result)
    if result.get("failures") or result.get("missing"):
        raise typer.Exit(SOME_FAILED)


def _print_segment(result: dict[str, Any]) -> None:
    print(f"{result['images']} images, 95% intervals over {result['over']}")
    for name, value in result["figures"].items():
        low_high = result["interval"].get(name)
        print(f"  {name:<30} {value:.3f}" + (f"   [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else ""))
    for label, values in result["by_class"].items():
        print(f"  {label:<30} miou {values['miou']:.3f}   object_f1 {values['object_f1']:.3f}   ({values['images']} images)")
    if result["truth_without_mask"]:
        print(f"  {result['truth_without_mask']} true masks have no prediction and do not count", file=sys.stderr)
    _print_what_does_not_count(result)


def _print_what_does_not_count(result: dict[str, Any]) -> None:
    if result.get("left_out"):
        print(f"  left out: {len(result['left_out'])} images whose own labels taught the run")
    for name in result["missing"]:
        print(f"  no truth for {name}", file=sys.stderr)
    for row in result["failures"]:
        print(f"  {row['file']}: {row['reason']}", file=sys.stderr)


def _print_query(result: dict[str, Any]) -> None:
    classes = ", ".join(f"{name} {count}" for name, count in result["classes"].items())
    print(f"{result['queries']} queries by {result['label']} ({classes}), the same {result['excluded']} left out, 95% intervals over {result['over']}")
    for name, value in result["figures"].items():
        low, high = result["interval"][name]
        by_chance = result["chance"].get(name)
        print(f"  {name:<30} {value:.3f}   [{low:.3f}, {high:.3f}]" + (f"   by chance {by_chance:.3f}" if by_chance is not None else ""))
    print(f"  {'commonest class':<30} {result['commonest_class']:.3f}")
    for line in result["warnings"]:
        print(f"  {line}", file=sys.stderr)


def _print_structures(result: dict[str, Any]) -> None:
    print("each image a figure, 95% intervals over images")
    for name, found in result["classes"].items():
        for figure, value in found["figures"].items():
            low, high = found["interval"][figure]
            print(f"  {name + ' ' + figure:<30} {value:.3f}   [{low:.3f}, {high:.3f}]")
        print(f"  {name:<30} {found['images']} images, least Dice {found['least']['dice']:.3f} ({found['least']['image']}), {found['below_0.8']} below .8")
    _print_what_does_not_count(result)


def _print_clusters(result: dict[str, Any]) -> None:
    print(f"{result['images']} images, {result['pixels']} pixels, 95% intervals over images; by chance: one cluster")
    for name, value in result["figures"].items():
        low, high = result["interval"][name]
        print(f"  {name:<30} {value:.3f}   [{low:.3f}, {high:.3f}]   by chance {result['chance'][name]:.3f}")
    for row in result["clusters"]:
        held = ", ".join(f"{name} {share:.3f}" for name, share in row["classes"].items())
        print(f"  {row['cluster']:<30} {row['share']:.3f} of the pixels: {held}")
    for name, found in result["classes"].items():
        for what in ("single", "union"):
            if found[what] is not None:
                low, high = found[what]["interval"]
                chosen = " | ".join(", ".join(c) for c in found[what]["chosen"])
                print(
                    f"  {name + ' dice, best ' + what:<30} {found[what]['dice']:.3f}   [{low:.3f}, {high:.3f}]   everything {found['chance']:.3f}   ({chosen})"
                )
    print(f"  {result['oracle']}" if result["images"] > 1 else "  one image: no other to choose the best clusters on")
    _print_what_does_not_count(result)


def _print_locate(result: dict[str, Any]) -> None:
    print(f"{result['points']} points of {result['images']} images, {result['unit']}, 95% intervals over images")
    for name, value in result["figures"].items():
        low, high = result["interval"][name]
        print(f"  {name:<30} {value:.3f}   [{low:.3f}, {high:.3f}]")
    print(f"  failures are beyond {result['failure_limit']:g} {result['unit']}; surest: the share of the points with the highest confidence")
    for name, values in result["by_point"].items():
        if values["images"]:
            print(f"  {name:<30} mean {values['mean']:.2f}   median {values['median']:.2f}   ({values['images']} images)")
    if result["template"]:
        print(f"  the template {result['template']} does not count", file=sys.stderr)
    if result["without_truth"]:
        print(f"  {result['without_truth']} images have no true points and do not count", file=sys.stderr)

"""The page of `tacit distance`: matrix, maps, coupling by class, nearest and farthest pairs; and the tables behind them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import read_toml, to_toml
from tacit.errors import InputError
from tacit.files import write_atomic
from tacit.report.distance_figures import coupling_plot, map_plot, matrix_plot, ranking_plot
from tacit.report.gallery import fitted
from tacit.report.page import Panel, page
from tacit.report.picture import embedded, jpeg
from tacit.run import Run, as_csv
from tacit.use.distance_features import as_picture
from tacit.use.distance_pairs import DistanceResult, Pair
from tacit.use.distance_sides import Side

SHOWN = 6  # pairs of pictures of a gallery
PAIRS_SHOWN = 6  # pairs of sets that have galleries and a plot of their own
SIDE = 200  # px of a picture
DISTANCES = ("a", "b", "otdd", "low", "high", "p_value", "halves_of_a", "halves_of_b", "at_half", "solver")


def write_report(run: Run, result: DistanceResult, sides: Sequence[Side], pairs: Sequence[Pair]) -> None:
    """report.html, distance.json's content as tables/distances.csv, labels.csv, coupling.csv and pairs.csv, and figures/*.png."""
    _write_tables(run, result, sides, pairs)
    panels = []
    if result.ranking:
        common = {row["halves_of_target"] for row in result.ranking}
        plot = ranking_plot(result.ranking, next(iter(common)) if len(common) == 1 else None)
        panels.append(_panel(run, "ranking", plot, f"from near to far from {result.names[-1]}"))
    else:
        plot = matrix_plot(result.names, _numbers(result.matrix), _intervals(result), np.array(result.split_half))
        panels.append(_panel(run, "distances", plot, "with 95% intervals; on the diagonal two random halves of each set, which hold half as many samples"))
        if len(result.names) > 2:
            panels.append(_panel(run, "map of the sets", map_plot(result.names, result.names, _numbers(result.matrix)), "by their distances"))
    names, groups, far = _all_labels(result)
    if 2 < len(names) <= 40 and np.isfinite(far).all():
        panels.append(_panel(run, "map of the labels", map_plot(names, groups, far), "every label of every set by the distance of its features' Gaussian"))
    galleries: list[tuple[str, str, list[Panel]]] = []
    for pair in sorted(pairs, key=lambda p: p.distance.value)[:PAIRS_SHOWN]:
        a, b = sides[pair.a], sides[pair.b]
        assert a.set is not None and b.set is not None
        plot = coupling_plot((a.name, b.name), (a.set.classes, b.set.classes), pair.distance.by_class, pair.distance.labels)
        panels.append(
            _panel(run, f"coupling {pair.a + 1}-{pair.b + 1}", plot, f"{a.name} and {b.name}: what the cheapest coupling joins, and how far labels are apart")
        )
        joined = pair.distance.pairs
        if joined:
            between = f"{a.name} (left) and {b.name}, joined by the coupling"
            galleries.append((f"Nearest: {a.name}, {b.name}", between, _gallery(run, f"nearest_{pair.a + 1}-{pair.b + 1}", a, b, joined[:SHOWN])))
            galleries.append((f"Farthest: {a.name}, {b.name}", between, _gallery(run, f"farthest_{pair.a + 1}-{pair.b + 1}", a, b, joined[: -SHOWN - 1 : -1])))
    text = page(
        title="Distance",
        subtitle=run.record["command"],
        facts=_facts(run, result),
        galleries=galleries,
        figures=panels,
        tables=[_table(result)],
        failures=run.failures,
        settings=to_toml(read_toml(run.folder / "config.toml")),
        warnings=list(result.notes),
    )
    write_atomic(run.folder / "report.html", text)


def rows_of(result: DistanceResult) -> list[dict[str, Any]]:
    """A row a pair of sets that was asked, as `DISTANCES` names its numbers."""
    n = len(result.names)
    wanted = [(i, j) for i in range(n) for j in range(i + 1, n) if result.matrix[i][j] is not None]
    return [
        dict(
            zip(
                DISTANCES,
                (
                    result.names[i], result.names[j], result.matrix[i][j], *(result.interval[i][j] or (None, None)), result.p_value[i][j],
                    result.split_half[i], result.split_half[j], result.at_half[i][j], result.solver[i][j],
                ),
                strict=True,
            )
        )
        for i, j in wanted
    ]  # fmt: skip


def _write_tables(run: Run, result: DistanceResult, sides: Sequence[Side], pairs: Sequence[Pair]) -> None:
    tables = run.folder / "tables"
    write_atomic(tables / "distance.json", json.dumps(result.as_json(), indent=1) + "\n")
    write_atomic(tables / "distances.csv", as_csv(DISTANCES, [tuple(row[c] for c in DISTANCES) for row in rows_of(result)]))
    labels = [
        (found["a"], la, found["b"], lb, found["matrix"][i][j])
        for found in result.label_distance
        for i, la in enumerate(found["labels_a"])
        for j, lb in enumerate(found["labels_b"])
    ]
    write_atomic(tables / "labels.csv", as_csv(("a", "label_a", "b", "label_b", "distance"), labels))
    coupling, joined = [], []
    for pair in pairs:
        a, b = sides[pair.a], sides[pair.b]
        assert a.set is not None and b.set is not None
        if pair.distance.by_class is not None:
            shares = pair.distance.by_class
            coupling += [(a.name, la, b.name, lb, float(shares[i, j])) for i, la in enumerate(a.set.classes) for j, lb in enumerate(b.set.classes)]
        ends = list(pair.distance.pairs or ())
        for i, j, far in [*ends[:SHOWN], *ends[: -SHOWN - 1 : -1]]:
            joined.append((a.name, a.look_of(i).name, b.name, b.look_of(j).name, far))
    write_atomic(tables / "coupling.csv", as_csv(("a", "label_a", "b", "label_b", "share"), coupling))
    write_atomic(tables / "pairs.csv", as_csv(("a", "look_a", "b", "look_b", "distance"), joined))


def _facts(run: Run, result: DistanceResult) -> list[tuple[str, str]]:
    f = result.features
    options = read_toml(run.folder / "config.toml")["distance"]
    return [
        *((s["name"], s["said"]) for s in result.sets),
        ("features", f"{f['name']}: {f['why']}; {f['components']} components hold {f['variance_kept']:.0%} of the variance"),
        ("solver", "; ".join(sorted({row["solver"] for row in rows_of(result)}))),
        ("interval", f"95%, {options['bootstraps']} bootstrap draws of both sides; p: {options['permutations']} random divisions of both sides' samples"),
        ("took", f"{run.seconds:.0f} s"),
    ]


def _table(result: DistanceResult) -> tuple[str, str, list[str], list[list[Any]]]:
    header = ["", "", "OTDD", "95%", "p: one source?", "halves of the first", "halves of the second", "both at half", "solver"]
    rows = [
        [r["a"], r["b"], f"{r['otdd']:.4g}", f"[{r['low']:.4g}, {r['high']:.4g}]", f"{r['p_value']:.3g}", f"{r['halves_of_a']:.4g}", f"{r['halves_of_b']:.4g}", f"{r['at_half']:.4g}", r["solver"]]
        for r in rows_of(result)
    ]  # fmt: skip
    note = "fewer samples lie farther apart: two halves of a set are to be compared with both sets at half their samples, not with the distance of all"
    return ("Distances", note, header, rows)


def _panel(run: Run, name: str, plot: bytes, caption: str) -> Panel:
    write_atomic(run.folder / "figures" / f"{name.replace(' ', '_')}.png", plot)
    return Panel(name, embedded(plot, "png"), None, caption)


def _gallery(run: Run, name: str, a: Side, b: Side, joined: Sequence[tuple[int, int, float]]) -> list[Panel]:
    panels = []
    for k, (i, j, far) in enumerate(joined):
        looks = a.look_of(i), b.look_of(j)
        assert a.set is not None and b.set is not None
        kinds = a.set.classes[int(a.set.y[i])], b.set.classes[int(b.set.y[j])]
        both = np.full((SIDE, 2 * SIDE + 8, 3), 255, np.uint8)
        for side, look, left in ((a, looks[0], 0), (b, looks[1], SIDE + 8)):
            small = _picture(side, look)
            if small is not None:
                top, across = (SIDE - small.shape[0]) // 2, left + (SIDE - small.shape[1]) // 2
                both[top : top + small.shape[0], across : across + small.shape[1]] = small
        content = jpeg(both)
        write_atomic(run.folder / "figures" / f"{name}_{k}.jpg", content)
        panels.append(Panel(f"{looks[0].name} – {looks[1].name}", embedded(content, "jpeg"), None, f"{far:.3g} apart; {kinds[0]} – {kinds[1]}"))
    return panels


def _picture(side: Side, look: Any) -> NDArray[np.uint8] | None:
    try:
        images = look.read()
        image = images[len(images) // 2]
        return fitted(as_picture(image if side.change is None else side.change(image)).pixels, SIDE, SIDE)
    except (InputError, OSError, cv2.error):
        return None  # it was read before: the file has gone since


def _all_labels(result: DistanceResult) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Every label of every set with its set, and their distances; NaN where two sets were not compared."""
    first = {n: found for found in result.label_distance if (n := found["a"]) == found["b"]}
    names = [f"{label}" for n in result.names for label in first[n]["labels_a"]]
    groups = [n for n in result.names for _ in first[n]["labels_a"]]
    far = np.full((len(names), len(names)), np.nan)
    at = {n: groups.index(n) for n in result.names}
    for found in result.label_distance:
        i, j, block = at[found["a"]], at[found["b"]], np.array(found["matrix"])
        far[i : i + block.shape[0], j : j + block.shape[1]] = block
        far[j : j + block.shape[1], i : i + block.shape[0]] = block.T
    return names, groups, far


def _numbers(matrix: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
    return np.array([[np.nan if v is None else v for v in row] for row in matrix], float)


def _intervals(result: DistanceResult) -> NDArray[np.float64]:
    return np.array([[(np.nan, np.nan) if v is None else tuple(v) for v in row] for row in result.interval], float)

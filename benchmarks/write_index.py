"""The parts of docs/results.md about indexes: what a query finds on GlaS, exact search beside FAISS, a million rows, memory, kills."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FIGURES = {"majority@10": "majority@10", "average_precision@10": "mAP@10", "ndcg@10": "nDCG@10"}


def index(results: Path) -> str:
    """All parts whose result files are there, in a fixed order."""
    parts: dict[str, Callable[[dict[str, Any]], str]] = {
        "query_glas": glas,
        "search": search,
        "index_memory": memory,
        "index_workers": workers,
        "torture_index": kills,
        "torture_index_workers": kills_of_many,
    }
    return "".join(write(json.loads((results / f"{name}.json").read_text())) for name, write in parts.items() if (results / f"{name}.json").exists())


def glas(found: dict[str, Any]) -> str:
    lines = []
    for name, ways in found["rows"].items():
        for way, row in ways.items():
            cells = [f"{row['figures'][f]:.3f} [{row['interval'][f][0]:.2f}, {row['interval'][f][1]:.2f}] ({row['chance'][f]:.2f})" for f in FIGURES]
            lines.append(f"| `{name}` | {way} | {' | '.join(cells)} |")
    any_row = next(iter(next(iter(found["rows"].values())).values()))
    head = (
        f"\n## Queries on GlaS\n\nBenign or malignant among the ten nearest of whole images: {any_row['queries']} queries, 95% over {any_row['over']}, in brackets what blind hits "
        f"give (commonest class {any_row['commonest_class']:.2f}). Same images, same labels: letting the query's own patient in flatters every encoder. `{found['command']}`\n\n"
    )
    return head + f"| encoder | | {' | '.join(FIGURES.values())} |\n|---|---|---|---|---|\n" + "\n".join(lines) + "\n"


def search(found: dict[str, Any]) -> str:
    rows = found["rows"]
    timed = {name: row for name, row in rows.items() if "ratio_cpu" in row}
    lines = []
    for name, r in timed.items():
        per = (r["ours_cpu_ms_a_query"], r["peer_cpu_ms_a_query"]) if "ours_cpu_ms_a_query" in r else (r["ours_cpu_ms"], r["peer_cpu_ms"])
        differ = f"{r['hits_that_differ']} of {r['hits']}" if "hits" in r else ""
        lines.append(f"| {name} | {per[0]:.2f} | {per[1]:.2f} | {r['ratio_cpu']:.1f}× ({r['ratio_cpu_lowest_round']:.1f}×) | {differ} |")
    text = (
        "\n## Exact search\n\n100,000 × 512 in fp16 beside FAISS's `IndexFlatIP` on the same values in fp32; CPU milliseconds a query on one thread, taking turns, median of the rounds "
        f"(in brackets the worst). `{found['command']}`\n\n| job | ours | FAISS | ratio | hits that differ |\n|---|---|---|---|---|\n" + "\n".join(lines) + "\n"
    )
    if "a million rows: opening" in rows:
        opening, exact, near = (rows[f"a million rows: {what}"] for what in ("opening", "exact", "approximate"))
        text += (
            f"\nA million rows of 512 numbers: opened in {1e3 * opening['open_s']:.0f} ms with a peak of {opening['peak_mb']:.0f} MB for the whole process, of which importing LanceDB and the rest is "
            f"{opening['import_cpu_s']:.1f} CPU seconds; read to memory in {exact['read_s']:.1f} s ({exact['held_mb']} MB), then {exact['exact_ms_a_query']:.0f} ms a single exact query. The approximate index "
            f"was built in {near['build_s'] / 60:.0f} minutes and answers in {near['ms_a_query']:.0f} ms with a recall@10 of {near['recall_at_10']:.3f} over {near['rows_asked']} rows. `{found['command']} --large`\n"
        )
    return text


def memory(found: dict[str, Any]) -> str:
    peaks = ", ".join(f"{r['peak_mb']:.0f} MB at {name} ({r['rows']} rows)" for name, r in found["rows"].items())
    growth = found["growth"]
    return f"\n## Memory of indexing\n\nPeak {peaks}: {growth['pictures']:+.1%} for 16 times the pictures, {growth['slides']:+.1%} for 16 times the slide. `{found['command']}`\n"


def workers(found: dict[str, Any]) -> str:
    one, two = found["rows"]["1 process"], found["rows"]["2 processes"]
    anew = [(name.removeprefix("rows numbered anew, "), row) for name, row in found["rows"].items() if name.startswith("rows numbered anew")]
    said = "; ".join(f"{row['rows_a_second']:,} rows a second and {row['more_mb']:.0f} MB more memory ({name})" for name, row in anew)
    same = "Both wrote the same bytes and `row_id`s in every round" if found["equal"] else "They did not write the same rows"
    return (
        f"\n## Indexing by two processes\n\n{one['rows']:.0f} rows (pictures and a slide) by `{found['encoder']}`, one thread a process, taking turns, median of {found['rounds']}, on two cores that others used too (load {found['load_average']:.1f}): "
        f"one process {one['wall_s']:.0f} s ({one['cpu_s']:.0f} CPU seconds), `--workers 2` {two['wall_s']:.0f} s ({two['cpu_s']:.0f} CPU seconds, the start of two processes counted), {found['times_as_fast']:.2f} times as fast "
        f"(rounds {min(found['of_rounds']):.2f} to {max(found['of_rounds']):.2f}). {same}. Peak of a worker {two['peak_mb_of_a_worker']:.0f} MB, of one process alone {one['peak_mb']:.0f} MB. "
        f"Giving rows of parts their `row_id`s at the end: {said}. `{found['command']}`\n"
    )


def kills_of_many(found: dict[str, Any]) -> str:
    wrong = (
        f"{len(found['wrong'])} ended with other rows"
        if found["wrong"]
        else "none lost a row that was reported, held one twice, or ended with other vectors or `row_id`s than those of one process"
    )
    return f"\nOf `--workers {found['workers']}`: {found['kills']} kills over {found['indexes']} index{'es' * (found['indexes'] > 1)}; {wrong}. `{found['command']} {found['kills']} {found['workers']}`\n"


def kills(found: dict[str, Any]) -> str:
    wrong = (
        f"{len(found['wrong'])} ended with other rows" if found["wrong"] else "none lost a row that was reported, held one twice, or ended with other vectors"
    )
    return f"\n## Appends killed\n\n{found['kills']} kills over {found['indexes']} indexes of {found['rows']} rows; {wrong}. `make torture`\n"

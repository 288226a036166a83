"""The table of docs/results.md about pair decisions, from benchmarks/results/pairs.json."""

from __future__ import annotations

from typing import Any

COLUMNS = {
    "auc raw": "AUC raw",
    "auc": "AUC **metric**",
    "auc gain": "gain",
    "accuracy views": "accuracy, no label",
    "accuracy raw": "accuracy raw",
    "accuracy": "accuracy **metric**",
    "one answer for all": "one answer",
    "share sure": "sure",
    "accuracy sure": "right when sure",
}


def pairs(found: dict[str, Any]) -> str:
    """One row a spacing, encoder, question and number of labelled pairs."""
    text = (
        "\n## Pairs of other patients\n\nThreshold and metric from so many labelled pairs of one half of the patients, scored on pairs of the other half; every pair is of two patients. "
        f"Mean over {found['splits']} splits, in brackets 95% over patients. No label: the threshold from two views of an image. `{found['command']}`\n\n"
        f"| µm per px | encoder | question | pairs | {' | '.join(COLUMNS.values())} |\n|{'---|' * (len(COLUMNS) + 4)}\n"
    )
    for row in found["rows"]:
        cells = [f"{row[key]['value']:.3f} [{row[key]['interval'][0]:.2f}, {row[key]['interval'][1]:.2f}]" if key in row else "" for key in COLUMNS]
        text += f"| {row['mpp']:.2f} | `{row['encoder']}` | {row['question']} | {row['pairs']} | {' | '.join(cells)} |\n"
    promised = [r for r in found["rows"] if "auc promised" in r]
    text += "\nWhat the run itself promised (held-out pairs of the first half, mean over splits), and what it gave: "
    said = [
        f"{r['mpp']:.2f} µm per px, `{r['encoder']}`, {r['question']}: AUC {r['auc promised']['value']:.3f} → {r['auc']['value']:.3f}, accuracy {r['accuracy promised']['value']:.3f} → {r['accuracy']['value']:.3f}"
        for r in promised
    ]
    return text + "; ".join(said) + ".\n"

"""MSSG's first stage step by step on GlaS train: random net, border, border with the filled prior; one pass for all three.

    python benchmarks/mssg_stages.py        writes benchmarks/results/mssg_stages.json

By the published procedure (a net an image, grey cue, k = 5; 32 channels at 1.86 µm per px) and with the cures that `--method mssg`
uses (one net for the folder, haematoxylin cue, k = 3). The last step, stage 2, is the row `mssg` of benchmarks/glas.py.
"""

from __future__ import annotations

import json
import sys
import time

import cv2
import numpy as np
import torch

from glas import DATA, ROOT
from provenance import stamp
from tacit.learn.mssg import BorderConfig, MssgConfig, Proposal, propose
from tacit.prepare.space import to_spacing
from tacit.read.folder import find_cases, read_mask
from tacit.read.picture import read_picture
from tacit.report.score import figures, tally

SEED = 0


def score(masks: list[np.ndarray], truths: list[np.ndarray]) -> dict[str, float]:
    sized = [cv2.resize(m.astype(np.uint8), t.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(np.int32) for m, t in zip(masks, truths, strict=True)]
    found = figures([tally(m, t, objects=False) for m, t in zip(sized, truths, strict=True)])
    return {"miou": found["miou"], "area_share": found["area_share"]}


def steps(pictures: list[np.ndarray], truths: list[np.ndarray], config: BorderConfig, together: bool) -> dict[str, dict[str, float]]:
    random: list[Proposal] = propose(pictures, config.model_copy(update={"steps": 0}), SEED, together=together)
    learnt = propose(pictures, config, SEED, together=together)
    return {
        "random net, border": score([p.border for p in random], truths),
        "stage 1, border": score([p.border for p in learnt], truths),
        "+ filled prior": score([p.gland for p in learnt], truths),
    }


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"no GlaS images at {DATA}; set TACIT_DATA")
    torch.set_num_threads(1)
    cases = list(find_cases(str(DATA / "images" / "train_*.jpg")))
    pictures = [to_spacing(read_picture(path).pixels, 0.62, 1.86) for _, path in cases]
    truths = [read_mask(DATA / "masks" / f"{name}.png") for name, _ in cases]
    clock = time.monotonic()
    found = {"with the cures": steps(pictures, truths, MssgConfig().border, True), "as published": steps(pictures, truths, BorderConfig(), False)}
    for way, rows in found.items():
        print(way, {k: round(v["miou"], 3) for k, v in rows.items()})
    result = {"found": found, "images": len(cases), "seconds": time.monotonic() - clock, **stamp(SEED)}
    (ROOT / "benchmarks" / "results" / "mssg_stages.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

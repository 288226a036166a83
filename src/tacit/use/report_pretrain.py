"""What a run of `tacit pretrain` leaves: model/ with its card, the sheet of views, the page."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import to_toml
from tacit.files import write_atomic
from tacit.learn.pretraining import views_of
from tacit.learn.sources import Source, TilesConfig
from tacit.parts.weights import save_tensors
from tacit.prepare.lab_views import LabViewConfig, as_rgb
from tacit.prepare.views import IMAGENET_MEAN, IMAGENET_SD
from tacit.report.page import Panel, page
from tacit.report.picture import curves as drawn_curves
from tacit.report.picture import embedded, png, sheet
from tacit.report.track import Curves
from tacit.run import Run
from tacit.use.model import save_model
from tacit.use.pretrain_select import said

CARD = """# Features learnt by Tacit

Method `{method}`, backbone `{backbone}`, learnt on {learnt_on}, unlabelled{prior}. {labels} `encoder.safetensors` holds the backbone alone{names}.
Research use only, not a medical device.
"""
COLLAPSED = 0.1  # spread of the embeddings (1 = all over the sphere) below which they are nearly one point
SHEET, PAIRS = 6, 4  # pictures on the sheet of views, and pairs of views of each


def keep_model(run: Run, method: str, network: Any, seed: int, tiles: TilesConfig) -> None:
    """model/: all weights, the backbone alone, settings and card."""
    record, c = run.record, network.config
    labels = said(record) or "No label took part."
    card = CARD.format(
        method=method,
        backbone=c.backbone.name,
        learnt_on=learnt_on(record, tiles),
        names=", by timm's names" if isinstance(c.views, str) else "",
        prior=", from what drawings of glandular tissue taught" if method == "phantom-byol" else "",
        labels=labels[0].upper() + labels[1:].rstrip(".") + ".",
    )
    facts = {"images": record["images"], "seed": seed, "data": record["data"], "uses_labels": record["uses_labels"]}
    if record["slides"]:
        facts["um_per_px"] = tiles.um_per_px
    save_model(run.folder / "model", method, network, facts, card)
    encoder = network.byol.encoder if hasattr(network, "byol") else network.encoder
    save_tensors(run.folder / "model" / "encoder.safetensors", getattr(encoder, "net", encoder).state_dict())


def learnt_on(record: dict[str, Any], tiles: TilesConfig) -> str:
    """Pictures and slides in words."""
    parts = [f"{record['images']} pictures"] if record["images"] else []
    if record["slides"]:
        parts.append(f"{record['slides']} slides ({record['tiles']:,} tiles of tissue of {tiles.size} px at {tiles.um_per_px:g} µm per px)")
    return " and ".join(parts)


def write_report(run: Run, source: Source, c: Any, tiles: TilesConfig, settings: dict[str, Any], seed: int) -> None:
    """figures/views.png and report.html."""
    views = png(views_sheet(source, c, seed))
    write_atomic(run.folder / "figures" / "views.png", views)
    plot = drawn_curves(Curves(run.folder / "metrics.csv").stages())
    last = run.record["last"]
    warnings = [*run.record.get("warnings", []), *([said(run.record)] if said(run.record) else [])]
    if last["spread"] < COLLAPSED:
        warnings.append(
            f"the embeddings lie nearly in one point (spread {last['spread']:.2f}, effective rank {last['rank']:.1f}): they have collapsed; "
            "try another --seed, a lower train.lr or a larger train.batch"
        )
    text = page(
        title="Pretraining",
        subtitle=run.record["command"],
        facts=[
            ("learnt on", learnt_on(run.record, tiles)),
            ("labels", "took part: the checkpoint was chosen by labelled pairs" if run.record["uses_labels"] else "none took part"),
            ("processes", str(run.record["processes"])),
            ("loss at the end", f"{last['loss']:.4f}"),
            ("spread of the embeddings", f"{last['spread']:.2f} (1 = all over the sphere, 0 = one point)"),
            ("effective rank", f"{last['rank']:.1f}"),
            ("took", f"{run.seconds:.0f} s"),
        ],
        galleries=[],
        figures=[Panel("views", embedded(views, "png"), None, "a picture in each row, then views of it as the network sees them")],
        tables=[],
        failures=run.failures,
        settings=to_toml(settings),
        warnings=warnings,
        curves=embedded(plot, "png") if plot else None,
    )
    write_atomic(run.folder / "report.html", text)


def views_sheet(source: Source, c: Any, seed: int) -> NDArray[np.uint8]:
    """Some items of the first epoch, each with pairs of views beside it, as one picture."""
    tiles, views = [], views_of(c)
    for index in source.order(seed, 0)[:SHEET].tolist():
        picture, rng = source.item(index, seed, 0), np.random.default_rng([seed, 66, index])
        tiles.append(np.asarray(cv2.resize(picture, (c.size, c.size), interpolation=cv2.INTER_AREA)))
        for _ in range(PAIRS):
            made = views(rng, picture)
            tiles += [_as_rgb(made[k], picture, c) for k in "ab"]
    return sheet(tiles, columns=1 + 2 * PAIRS)


def _as_rgb(view: NDArray[np.float32], picture: NDArray[np.uint8], c: Any) -> NDArray[np.uint8]:
    """A view of a picture as one sees it, (side, side, 3)."""
    if isinstance(c.views, LabViewConfig):
        return as_rgb(view, picture)
    return np.clip((view.transpose(1, 2, 0) * IMAGENET_SD + IMAGENET_MEAN) * 255, 0, 255).astype(np.uint8)

"""TensorBoard: one event file in OUT/track/tensorboard; `tensorboard --logdir OUT` shows it, while the run learns too."""

from __future__ import annotations

import csv
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import cv2

from tacit.config import to_toml
from tacit.report.trackers.contract import About, Outcome, Point

ROWS, PICTURES = 200, 24  # of a table, of a run, at most: TensorBoard is no file store


class TensorBoard:
    """Writes with torch's own writer; nothing is read back."""

    PACKAGES = ("tensorboard",)
    local = True

    def __init__(self, folder: Path, about: About) -> None:
        self.folder, self.about = folder, about
        self.writer: Any = None

    def begin(self) -> None:
        """A new event file; an earlier one is removed."""
        from torch.utils.tensorboard import SummaryWriter

        if self.writer is not None:
            self.writer.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.writer = SummaryWriter(str(self.folder), max_queue=1000, flush_secs=30)
        self.writer.add_text("command", f"`{self.about.command}`")
        self.writer.add_text("settings", f"```\n{to_toml(self.about.settings)}```")
        self.writer.add_text("versions", f"```\n{to_toml(self.about.facts)}```")
        self.writer.flush()

    def has(self, point: Point) -> bool:
        """Nothing: the file is new."""
        return False

    def send(self, points: list[Point]) -> None:
        """Each a scalar."""
        for point in points:
            self.writer.add_scalar(point.curve, point.value, point.step)
        self.writer.flush()

    def finish(self, outcome: Outcome) -> None:
        """Final numbers as scalars, tables and hashes as text, figures as images."""
        for name, value in outcome.figures.items():
            self.writer.add_scalar(name, value, 0)
        for table in outcome.tables(local=True):
            self.writer.add_text(f"tables/{table.stem}", _markdown(table))
        for picture in outcome.pictures(local=True)[:PICTURES]:
            pixels = cv2.imread(str(picture), cv2.IMREAD_COLOR_RGB)
            if pixels is not None:
                self.writer.add_image(f"figures/{picture.stem}", pixels, 0, dataformats="HWC")
        self.writer.add_text("data", f"fingerprint `{outcome.data}`, SHA-256 of its files:\n\n" + "\n".join(f"    {h}" for h in outcome.hashes))
        card = outcome.model / "card.md" if outcome.model else None
        if card is not None and card.is_file():
            self.writer.add_text("model", card.read_text(encoding="utf-8"))
        self.writer.add_text("status", outcome.status)
        self.writer.close()


def _markdown(table: Path) -> str:
    """A CSV as a table of markdown, its first rows."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(islice(csv.reader(file), ROWS + 1))
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*lines[:1], "|---" * len(rows[0]) + "|", *lines[1:]]) if rows else ""

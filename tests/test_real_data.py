"""Figures on real images; skipped where there are none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))


def test_the_evaluator_gives_the_known_baselines(data: Path) -> None:
    import baselines

    found = baselines.baselines()
    for name, known in baselines.KNOWN.items():
        for part, value in known.items():
            assert found[name][part] == pytest.approx(value, abs=0.01), (name, part)
    assert found["haematoxylin"]["testA_object_f1"] == pytest.approx(0.24, abs=0.01)

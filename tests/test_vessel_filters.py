"""The classical filters beside slow plain versions made from their equations, and as a way to segment."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from tacit.config import build
from tacit.learn.classical.cosfire import BarConfig, CosfireConfig, bar_answer, cosfire, shifted, tolerant
from tacit.learn.classical.line_detector import LineDetectorConfig, line, line_detector
from tacit.learn.classical.matched_filter import MatchedFilterConfig, bar, matched_filter
from tacit.learn.classical.vessel_filters import VesselFilters, VesselFiltersConfig, vessel_filters
from tacit.learn.workshop import Workshop
from tacit.phantom.fundus import FundusConfig, draw

CLEAR = FundusConfig(contrast=(0.35, 0.45), distractors=0.1, noise=(0.5, 2.0))


def noise(h: int = 33, w: int = 29, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal((h, w))).astype(np.float32)


def mirror(i: int, n: int) -> int:
    i = -i if i < 0 else i
    return 2 * (n - 1) - i if i >= n else i


def test_the_matched_filter_is_its_equation_pixel_by_pixel() -> None:
    x, c = noise(), MatchedFilterConfig(directions=4)
    found = matched_filter(x, c)
    for row, col in ((16, 14), (3, 25), (30, 2)):
        best = -math.inf
        for k in range(4):
            angle, points = math.pi * k / 4, []
            for dr in range(-9, 10):
                for dc in range(-9, 10):
                    u = dr * math.cos(angle) - dc * math.sin(angle)
                    v = dc * math.cos(angle) + dr * math.sin(angle)
                    if abs(u) <= 6.0 + 1e-9 and abs(v) <= 4.5 + 1e-9:
                        points.append((-math.exp(-u * u / 8.0), x[mirror(row + dr, 33), mirror(col + dc, 29)]))
            mean = sum(w for w, _ in points) / len(points)
            weights = sum(abs(w - mean) for w, _ in points)
            best = max(best, sum((w - mean) * v for w, v in points) / weights)
        assert found[row, col] == pytest.approx(best, abs=1e-5)


def test_the_bars_kernel_ignores_light_and_is_turned() -> None:
    for k in range(12):
        kernel = bar(2.0, 9.0, math.pi * k / 12)
        assert abs(kernel.sum()) < 1e-5
    assert np.allclose(bar(2.0, 9.0, 0.0).T, bar(2.0, 9.0, math.pi / 2), atol=1e-6)


def test_the_line_detector_is_its_equation_pixel_by_pixel() -> None:
    x, c = noise(40, 40, 1), LineDetectorConfig(window=5, directions=2)
    inside = np.ones(x.shape, bool)
    planes = [-x]
    for length in (1, 3, 5):
        plane = np.zeros_like(x)
        for r in range(40):
            for col in range(40):
                reach = range(-(length // 2), length // 2 + 1)
                flat = np.mean([-x[r, mirror(col + k, 40)] for k in reach])
                upright = np.mean([-x[mirror(r + k, 40), col] for k in reach])
                window = np.mean([-x[mirror(r + a, 40), mirror(col + b, 40)] for a in range(-2, 3) for b in range(-2, 3)])
                plane[r, col] = max(flat, upright) - window
        planes.append(plane)
    expected = np.mean([(p - p.mean()) / p.std() for p in planes], 0)
    assert np.allclose(line_detector(x, inside, c), expected, atol=1e-4)


def test_lines_have_their_length_and_sum_one() -> None:
    for length in (1, 3, 7, 15):
        for k in range(12):
            kernel = line(length, math.pi * k / 12)
            assert kernel.sum() == pytest.approx(1, abs=1e-6) and (kernel > 0).sum() in range((length + 1) // 2, length + 1)


def test_the_tolerant_maximum_is_a_weighted_maximum() -> None:
    x = np.abs(noise(20, 22, 2))
    found = tolerant(x, 1.0)
    for row, col in ((10, 11), (0, 0), (19, 5)):
        best = max(math.exp(-(a * a + b * b) / 2) * x[row + a, col + b] for a in range(-3, 4) for b in range(-3, 4) if 0 <= row + a < 20 and 0 <= col + b < 22)
        assert found[row, col] == pytest.approx(best, rel=1e-5)


def test_the_cosfire_answer_is_the_geometric_mean_of_what_its_points_collect() -> None:
    x, c = noise(41, 43, 3), BarConfig(sigma=2.0, reach=4, tolerance=1.5, growth=0.3, both_sides=True)
    found = bar_answer(x, c, 4)
    spots = np.maximum(cv2.GaussianBlur(x, (0, 0), 2.0) - cv2.GaussianBlur(x, (0, 0), 1.0), 0)
    planes = {r: tolerant(spots, (1.5 + 0.3 * r) / 3) + 1e-8 for r in (0, 2, 4)}
    for row, col in ((20, 20), (12, 30)):
        best = 0.0
        for k in range(4):
            angle, total, norm = math.pi * k / 4, 0.0, 0.0
            for r in (0, 2, 4):
                for end in (1, -1) if r else (1,):
                    weight = math.exp(-r * r / (2 * (4 / 3) ** 2))
                    value = planes[r][row + round(end * r * math.sin(angle)), col + round(end * r * math.cos(angle))]
                    total, norm = total + weight * math.log(value), norm + weight
            best = max(best, math.exp(total / norm))
        assert found[row, col] == pytest.approx(best, rel=1e-3, abs=1e-6)
    assert shifted(x, 2.0, -3.0)[10, 10] == x[12, 7]


@pytest.mark.parametrize("angle", [0.0, 0.6, 1.3, 2.4])
def test_every_filter_answers_to_a_dark_bar_of_any_direction_and_not_to_a_bright_one(angle: float) -> None:
    rows, cols = np.mgrid[-40:41, -40:41].astype(float)
    across = rows * math.cos(angle) - cols * math.sin(angle)
    dark = (-0.3 * np.exp(-(across**2) / 8) + 0.01 * np.random.default_rng(0).standard_normal(across.shape)).astype(np.float32)
    inside = np.ones(dark.shape, bool)
    on, off = np.abs(across) < 1, np.abs(across) > 14
    for answer in (matched_filter, lambda x: line_detector(x, inside), lambda x: cosfire(x, CosfireConfig())):
        assert answer(dark)[on].mean() > 3 * max(answer(dark)[off].mean(), 0.0) and answer(dark)[on].mean() > 2 * answer(-dark)[on].mean()


@pytest.mark.parametrize("filters", [["matched"], ["cosfire"], ["line"], ["matched", "cosfire", "line"]])
def test_drawn_vessels_are_found_at_the_pictures_own_size(filters: list[str]) -> None:
    method = VesselFilters(build(VesselFiltersConfig, {"filters": filters, "diameter": 270}))
    assert method.fit([], Workshop()) is method
    scores = []
    for seed in range(4):
        d = draw(np.random.default_rng(seed), (300, 320), None, CLEAR)
        p = method.probability(d.picture)
        field, truth = cv2.dilate(d.picture.max(-1), np.ones((7, 7), np.uint8)) > 0, d.labels > 0
        assert p.shape == (1, 300, 320) and p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1 and not p[0][~field].any()
        scores.append(2 * ((p[0] > 0.5) & truth).sum() / ((p[0] > 0.5).sum() + truth.sum()))
    assert np.mean(scores) > 0.5


def test_the_share_that_is_called_vessel_is_the_one_asked_for() -> None:
    square = VesselFilters().working(draw(np.random.default_rng(1), (300, 300), None, CLEAR).picture)
    for share in (0.05, 0.2):
        p = vessel_filters(square, VesselFiltersConfig(share=share))
        assert (p > 0.5).sum() / square.any(-1).sum() == pytest.approx(share, abs=0.005)

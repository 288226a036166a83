"""What X-rays meet on their way through a drawn chest, layer by layer, and what lies on the film that is no chest."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.phantom import thorax
from tacit.phantom.texture import smooth_noise, stamp
from tacit.phantom.thorax import Cage, Field, Frame


@dataclass(frozen=True)
class Layers:
    """The outlines to be filled: fields of X and Y, and shares 0–1 of every pixel, all (h, w)."""

    frame: Frame
    x: Field
    y: Field
    cage: Cage
    lungs: Field
    heart: Field
    clavicles: Field


def lay(rng: np.random.Generator, s: Layers, p: dict[str, float]) -> Field:
    """The thickness of tissue at every pixel, in chest walls; 0 is air."""
    body, between = _body(rng, s, p)
    across = np.abs(s.x - s.cage.middle)
    chest = 1 + 0.35 * rng.uniform() * np.clip(np.abs(s.x), 0, 1.2) ** 2 + 0.15 * smooth_noise(rng, s.frame.shape, s.frame.px * 0.5) * rng.uniform()
    inside = _inside(rng, s, p, across)
    total = body * (chest + inside) + _bones(rng, s, p) * body
    total = total + _breasts(rng, s, p) * body
    return np.asarray(total * (1 - between) + rng.uniform(0, 0.06) * between, np.float32)


def _body(rng: np.random.Generator, s: Layers, p: dict[str, float]) -> tuple[Field, Field]:
    """The body's share of every pixel: neck, sloping shoulders, sides; and the air between arm and side."""
    wall, slope, px = p["wall"], rng.uniform(0.08, 0.4), s.frame.px
    ax = np.abs(s.x)
    top = p["shoulder"] - 0.10 + slope * np.clip(ax - p["neck"], 0, 2) ** rng.uniform(1.0, 1.8) - 2.0 * np.clip(p["neck"] - ax, 0, 1)
    inside = np.minimum((s.y - top) * 1.5, wall + 0.6 - ax)
    soft = np.clip(inside * px / 3 + 0.5, 0, 1)
    between = np.zeros_like(ax)
    if p["arms"]:
        armpit, lean = rng.uniform(0.2, 0.75), rng.uniform(-0.15, 0.3)
        side = wall + lean * (s.y - armpit) ** 2 + 0.03 * np.sin(4 * s.y + rng.uniform(0, 6))
        gap = np.minimum(ax - side, (s.y - armpit) * rng.uniform(0.3, 1.2) - 0.3 * np.clip(ax - side, 0, 1))
        between = cv2.GaussianBlur(np.clip(gap * px / 2 + 0.5, 0, 1).astype(np.float32), (0, 0), max(px * rng.uniform(0.005, 0.04), 0.5))
    return np.asarray(soft, np.float32), np.asarray(between, np.float32)


def _inside(rng: np.random.Generator, s: Layers, p: dict[str, float], across: Field) -> Field:
    """Lungs let X-rays through; mediastinum, heart and abdomen do not."""
    u, px = rng.uniform, s.frame.px
    soft = cv2.GaussianBlur(s.lungs, (0, 0), max(px * u(0.004, 0.015), 0.5))
    deep = cv2.GaussianBlur(s.lungs, (0, 0), px * u(0.06, 0.16))  # lungs are thinner at their edges
    inner = np.clip(1.5 - 4 * np.abs(across - 0.15), 0, 1) + np.clip(2 * s.heart, 0, 1)
    soft = np.maximum(soft, np.clip(inner, 0, 1) * _wrapped(rng, s.lungs, px))
    air = np.clip(soft * (u(0.55, 1.0) + u(0, 0.4) * deep), 0, 1)
    ground = p["lung"] * (1 + 0.25 * smooth_noise(rng, s.frame.shape, px * u(0.2, 0.8)))
    full = u(0.7, 1.2)  # what fills the cage where there is no lung
    chest = full * (1 - air) + ground * air
    spine = p["spine"] * np.exp(-((across / u(0.12, 0.22)) ** 4)) * u(0.5, 1)
    central = 0.5 * p["heart"] * np.exp(-((across / u(0.16, 0.3)) ** 4)) * np.clip((s.y + 0.05) * 6, 0, 1)
    thick = np.clip(cv2.distanceTransform((s.heart > 0.5).astype(np.uint8), cv2.DIST_L2, 5) / (px * u(0.05, 0.35)), 0, 1)  # round: thin at its rim
    heart = p["heart"] * cv2.GaussianBlur(thick ** u(0.4, 1.1), (0, 0), max(px * u(0.004, 0.02), 0.5)) * u(0.6, 1.0)
    left = np.clip(0.5 + s.x / 0.3, 0, 1)  # the two domes join behind the heart
    dome = (1 - left) * thorax.diaphragm(s.cage, 0, np.minimum(s.x, 0)) + left * thorax.diaphragm(s.cage, 1, np.maximum(s.x, 0))
    low = np.clip((s.y - dome) * px / 2 + 0.5, 0, 1) * (1 - s.lungs)
    below = p["abdomen"] * low * np.clip(1 - (np.abs(s.x) - p["wall"]) * u(0.5, 4), 0.1, 1)
    side = u(0.0, 0.9) * np.exp(-(((np.abs(s.x) - u(1.02, 1.15)) / u(0.06, 0.2)) ** 2)) * (1 - soft) * np.clip(s.y * 4, 0, 1)  # rays that graze the wall
    wall = np.where(s.x < 0, thorax.outer(s.cage, 0, s.y), thorax.outer(s.cage, 1, s.y)) - np.abs(s.x)
    side = side + u(0.0, 0.5) * np.exp(-(np.abs(wall / u(0.015, 0.06)) ** u(1, 2))) * (s.y > 0)  # and the ribs there, seen end on: the lung's rim is pale
    seen_through = u(0.0, 0.6) * np.exp(-np.clip(dome - s.y, 0, 1) / u(0.02, 0.10)) * s.lungs * u()  # the abdomen's thick part behind the lung's foot
    windpipe = -u(0, 0.8) * np.exp(-((across / u(0.04, 0.08)) ** 2)) * (s.y < u(0.30, 0.42))
    total = chest + side + np.maximum(spine, central) + heart + below + seen_through + windpipe
    total = total + _vessels(rng, s, p) + _shadows(rng, s, p)
    if p["gas"]:
        total = total - _gas(rng, s, p["gas"]) * (1 - s.lungs)
    return np.asarray(np.clip(total, 0.02, None), np.float32)


def _wrapped(rng: np.random.Generator, lungs: Field, px: float) -> Field:
    """Lung in front of and behind what bounds it on the inside: 1 at the lungs' edge, falling with the distance from it. What is round starts thin."""
    away = cv2.distanceTransform((lungs < 0.5).astype(np.uint8), cv2.DIST_L2, 5) / (px * rng.uniform(0.02, 0.18))
    return np.asarray((lungs < 0.5) * np.clip(1 - away ** rng.uniform(0.4, 1.2), 0, 1), np.float32)


def _vessels(rng: np.random.Generator, s: Layers, p: dict[str, float]) -> Field:
    """Hila and the vessels that fan out of them, thinner at each fork."""
    canvas = np.zeros(s.frame.shape, np.uint8)
    blob = np.zeros(s.frame.shape, np.float32)
    for side in thorax.SIDES:
        at = np.array([side * rng.uniform(0.22, 0.34) + s.cage.middle, rng.uniform(0.40, 0.54)])
        size = rng.uniform(0.06, 0.16)
        blob += np.exp(-(((s.x - at[0]) / size) ** 2) - ((s.y - at[1]) / (1.5 * size)) ** 2)
        for _ in range(int(rng.integers(6, 14))):
            angle = rng.uniform(-1.3, 1.3) + 0.3
            _branch(rng, canvas, s.frame, at, side, angle, rng.uniform(0.015, 0.04), 3)
    thin = cv2.GaussianBlur(canvas.astype(np.float32) / 255, (0, 0), max(s.frame.px * 0.006, 0.4))
    return np.asarray(p["vessels"] * (thin * s.lungs * 0.8 + rng.uniform(0.3, 2.2) * blob), np.float32)


def _branch(rng: np.random.Generator, canvas: NDArray[np.uint8], frame: Frame, at: NDArray, side: float, angle: float, width: float, forks: int) -> None:
    steps = np.cumsum(np.full(6, rng.uniform(0.02, 0.05)))
    turn = angle + np.cumsum(0.12 * rng.standard_normal(6))
    line = at + np.stack([side * np.cos(turn) * steps, np.sin(turn) * steps], 1)
    frame.band(canvas, np.vstack([at, line]), width, int(rng.integers(120, 256)))
    if forks:
        for spread in (-0.35, 0.35):
            _branch(rng, canvas, frame, line[-1], side, float(turn[-1]) + spread * rng.uniform(0.4, 1.6), 0.7 * width, forks - 1)


def _shadows(rng: np.random.Generator, s: Layers, p: dict[str, float]) -> Field:
    """Nodules and clouds inside the lungs: they stay lung."""
    if not p["opacity"]:
        return np.zeros(s.frame.shape, np.float32)
    total = np.zeros(s.frame.shape, np.float32)
    for _ in range(int(rng.integers(1, 5))):
        centre = rng.uniform((-0.8, 0.1), (0.8, 0.9))
        radius = rng.uniform(0.03, 0.3)
        near = np.exp(-((((s.x - centre[0]) ** 2 + (s.y - centre[1]) ** 2) / radius**2) ** rng.uniform(0.8, 2)))
        total += p["opacity"] * rng.uniform(0.3, 1) * near * np.clip(1 + 0.5 * smooth_noise(rng, s.frame.shape, s.frame.px * 0.1), 0, 2)
    return np.asarray(total * s.lungs, np.float32)


def _gas(rng: np.random.Generator, s: Layers, amount: float) -> Field:
    """Stomach and bowel gas under the left diaphragm, seldom under the right."""
    canvas = np.zeros(s.frame.shape, np.uint8)
    count = int(rng.integers(1, 9))
    points = np.stack([rng.uniform(0.15, 0.85, count) * np.where(rng.random(count) < 0.85, 1, -1), rng.uniform(0.86, 1.25, count)], 1)
    centres = s.frame.pixels(points)[:, ::-1] / 16
    axes = rng.uniform(0.03, 0.2, (count, 2)) * s.frame.px
    stamp(canvas, centres, axes, rng.uniform(0, np.pi, count), rng.integers(100, 256, count))
    return np.asarray(amount * cv2.GaussianBlur(canvas.astype(np.float32) / 255, (0, 0), max(s.frame.px * 0.01, 0.5)), np.float32)


def _bones(rng: np.random.Generator, s: Layers, p: dict[str, float]) -> Field:
    """Ribs with brighter rims, clavicles, shoulder blades."""
    total = np.zeros(s.frame.shape, np.float32)
    wide, front = rng.uniform(0.05, 0.10), rng.uniform(0.3, 1.0)
    for k in (0, 1):
        behind, before = thorax.ribs(rng, s.cage, k, rng.uniform(-0.06, 0.06), p["ribs_apart"], p["ribs_drop"], p["ribs_front"])
        for lines, strength in ((behind, p["rib"]), (before, p["rib"] * front)):
            hull, core = np.zeros(s.frame.shape, np.uint8), np.zeros(s.frame.shape, np.uint8)
            for line in lines:
                s.frame.band(hull, line, wide, 255)
                s.frame.band(core, line, 0.6 * wide, 255)
            total += strength * (hull.astype(np.float32) - rng.uniform(0, 0.5) * core) / 255
        if rng.random() < 0.7:
            blade = (
                np.array([[0.72, 0.05], [1.05, 0.0], [1.12, 0.25], [0.98, 0.55], [0.86, 0.5]])
                + 0.05 * rng.standard_normal((5, 2))
                + [rng.uniform(-0.12, 0.2), 0]
            )
            total += rng.uniform(0.05, 0.35) * s.frame.filled(thorax.smooth_ring(blade * [thorax.SIDES[k], 1]))
    rim = cv2.GaussianBlur(s.clavicles, (0, 0), max(0.012 * s.frame.px, 0.5))
    bone = s.clavicles * (1 - rng.uniform(0, 0.4) * np.clip(2 * rim - 1, 0, 1))
    grain = 1 + 0.15 * smooth_noise(rng, s.frame.shape, max(0.03 * s.frame.px, 1))
    blurred = cv2.GaussianBlur(total * grain, (0, 0), max(0.005 * s.frame.px, 0.4))
    return np.asarray(blurred + p["collarbone"] * bone, np.float32)


def _breasts(rng: np.random.Generator, s: Layers, p: dict[str, float]) -> Field:
    total = np.zeros(s.frame.shape, np.float32)
    if p["breasts"]:
        centre, wide, tall = rng.uniform(0.45, 0.65), rng.uniform(0.3, 0.55), rng.uniform(0.22, 0.45)
        foot = rng.uniform(0.7, 1.05)
        for side in thorax.SIDES:
            middle = foot - tall + 0.04 * rng.standard_normal()
            away = np.sqrt(((s.x - side * centre) / wide) ** 2 + (np.where(s.y > middle, s.y - middle, 0.5 * (s.y - middle)) / tall) ** 2)
            total += p["breasts"] * np.clip((1 - away) * 6, 0, 1) * np.clip(0.4 + 0.6 * (s.y - middle + tall) / tall, 0, 1)
    return total


def foreign(rng: np.random.Generator, level: Field, p: dict[str, float]) -> Field:
    """Collimator edges, labels, letters, tubes and boxes, laid over grey levels 0–1."""
    h, w = level.shape
    level = level.copy()
    if p["tubes"]:
        for _ in range(int(rng.integers(1, 3))):
            heading = rng.uniform(0, 2 * np.pi) + np.cumsum(0.25 * rng.standard_normal(40))
            path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * 0.02, 0)
            points = (rng.uniform((0.2, 0), (0.8, 0.4)) + path) * [w, h]
            ink = np.zeros((h, w), np.uint8)
            cv2.polylines(ink, [points.astype(np.int32)], False, 255, int(rng.integers(1, 3)), cv2.LINE_AA)
            level = np.maximum(level, ink.astype(np.float32) / 255 * level.max())
        if rng.random() < 0.5:
            at = (rng.uniform((0.15, 0.1), (0.8, 0.4)) * [w, h]).astype(int)
            cv2.rectangle(level, at.tolist(), (at + (rng.uniform(0.04, 0.12, 2) * [w, h]).astype(int)).tolist(), 1.0, -1)
    if p["labels"]:
        value = float(rng.random() < 0.2)
        for _ in range(int(rng.integers(1, 4))):
            size = (rng.uniform((0.05, 0.02), (0.2, 0.08)) * [w, h]).astype(int)
            left = int(rng.uniform(0, 1) * (w - size[0]))
            top = 0 if rng.random() < 0.8 else h - int(size[1])
            level[top : top + int(size[1]), left : left + int(size[0])] = value
        if rng.random() < 0.5:
            at = (rng.uniform((0.02, 0.06), (0.9, 0.3)) * [w, h]).astype(int).tolist()
            ink = np.zeros((h, w), np.uint8)
            cv2.putText(ink, "RL"[int(rng.integers(2))], at, cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.2, 0.5) * w / 128, 255, 1, cv2.LINE_AA)
            level = np.maximum(level, ink.astype(np.float32) / 255)
    if p["frame"]:
        value = float(rng.random() < 0.5)
        for edge in range(4):
            depth = rng.uniform(0, 0.05) * (rng.random() < 0.6)
            rows = rng.uniform(0.5, 1.5) * depth * h * np.linspace(rng.uniform(0.5, 1), 1, w)
            rotated = np.rot90(level, edge)
            rotated[np.arange(rotated.shape[0])[:, None] < np.interp(np.linspace(0, 1, rotated.shape[1]), np.linspace(0, 1, w), rows)] = value
    return np.asarray(level, np.float32)

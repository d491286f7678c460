"""Give flat coloured polygons, and what they are made of: ellipses, boxes, bands, arcs, palettes.

Coordinates: x to the right, y down; a finished picture is the unit square, a subject's own frame [-1, 1] both ways.
"""

import colorsys
from dataclasses import dataclass

import numpy as np

Points = np.ndarray  # [corner, 2], unit square
Rgb = tuple[float, float, float]  # each in [0, 1]


@dataclass(frozen=True)
class Shape:
    """One closed polygon with a colour; `subject` tells the subject's parts from the background."""

    points: Points
    colour: Rgb
    subject: bool


@dataclass(frozen=True)
class Palette:
    """The colours of one picture: four for the subject, and a hue shift for the background."""

    main: Rgb
    accent: Rgb
    dark: Rgb
    pale: Rgb
    shift: float


def hsv(hue: float, saturation: float, value: float) -> Rgb:
    """Give the RGB colour of a hue in turns, a saturation and a value in [0, 1]."""
    return colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0), 1), min(max(value, 0), 1))


def draw_palette(rng: np.random.Generator, dark_background: bool) -> Palette:
    """Draw a subject palette of any hue, lighter than a dark background."""
    hue = rng.uniform()
    value = rng.uniform(0.9, 1.0) if dark_background else rng.uniform(0.75, 0.95)
    accent = hue + rng.choice([0.12, 0.33, 0.5, 0.67, 0.88]) + rng.uniform(-0.03, 0.03)
    return Palette(
        main=hsv(hue, rng.uniform(0.6, 0.9), value),
        accent=hsv(accent, rng.uniform(0.5, 0.8), rng.uniform(0.85, 1.0)),
        dark=hsv(hue, 0.7, 0.22),
        pale=hsv(hue, 0.08, 0.97),
        shift=rng.uniform(-0.03, 0.03),
    )


def ellipse(
    x: float, y: float, rx: float, ry: float, turn: float = 0.0, corners: int = 32
) -> Points:
    """Give an ellipse around (x, y), turned by `turn` radians."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    px, py = rx * np.cos(angle), ry * np.sin(angle)
    return np.stack(
        [x + px * np.cos(turn) - py * np.sin(turn), y + px * np.sin(turn) + py * np.cos(turn)], 1
    )


def polygon(*corners: tuple[float, float]) -> Points:
    """Give a polygon from its corners."""
    return np.array(corners, dtype=float)


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    """Give an axis-parallel rectangle."""
    return polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def band(path: Points, width: float) -> Points:
    """Give a stroke of constant width along a path."""
    along = np.gradient(path, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    across *= width / 2 / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    return np.concatenate([path + across, (path - across)[::-1]])


def arc(x: float, y: float, rx: float, ry: float, start: float, stop: float) -> Points:
    """Give an open elliptic arc between two angles in turns (0 points right, .25 down)."""
    angle = 2 * np.pi * np.linspace(start, stop, 24)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)

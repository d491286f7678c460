"""Build the six backgrounds of the shipped world from polygons, in the picture's own frame.

In: a random generator and a hue shift in turns. Out: polygons with their colours, back to front.
"""

from collections.abc import Callable

import numpy as np

from precompute.shipped.shapes import Points, Rgb, band, box, ellipse, hsv, polygon


def ridge(rng: np.random.Generator, y: float, swing: float, waves: float) -> Points:
    """Give everything below a rolling line at height `y`."""
    x = np.linspace(-0.05, 1.05, 40)
    line = y + swing * np.sin(2 * np.pi * (waves * x + rng.uniform()))
    return np.vstack([np.stack([x, line], 1), [(1.05, 1.05), (-0.05, 1.05)]])


def sky(colour: Rgb) -> tuple[Points, Rgb]:
    """Fill the picture with sky."""
    return box(-0.05, -0.05, 1.05, 1.05), colour


def sea(rng: np.random.Generator, shift: float) -> list[tuple[Points, Rgb]]:
    """Lay a sea with bands of waves under a pale sky."""
    horizon = rng.uniform(0.3, 0.4)
    shapes = [
        sky(hsv(0.55 + shift, 0.18, 0.97)),
        (ridge(rng, horizon, 0, 1), hsv(0.58 + shift, 0.7, 0.7)),
    ]
    for k in range(3):
        y = horizon + 0.12 + 0.19 * k
        x = np.linspace(-0.05, 1.05, 48)
        wave = y + 0.022 * np.sin(2 * np.pi * (4 * x + rng.uniform()))
        shapes += [(band(np.stack([x, wave], 1), 0.055), hsv(0.54 + shift, 0.4, 0.9))]
    return shapes


def mountains(rng: np.random.Generator, shift: float) -> list[tuple[Points, Rgb]]:
    """Raise three snow-capped peaks behind a meadow."""
    shapes = [sky(hsv(0.57 + shift, 0.3, 0.95))]
    for x, height in zip((0.5, 0.14, 0.86), rng.uniform(0.48, 0.66, 3), strict=True):
        x = x + rng.uniform(-0.06, 0.06)
        top, half = 0.75 - height, rng.uniform(0.3, 0.38)
        shapes += [
            (polygon((x - half, 0.8), (x, top), (x + half, 0.8)), hsv(0.7 + shift, 0.28, 0.55))
        ]
        cap = 0.32
        snow = polygon(
            (x - half * cap, top + (0.8 - top) * cap),
            (x, top),
            (x + half * cap, top + (0.8 - top) * cap),
            (x, top + (0.8 - top) * cap * 0.7),
        )
        shapes += [(snow, hsv(0.6, 0.04, 1.0))]
    return [*shapes, (ridge(rng, 0.78, 0.02, 1), hsv(0.28 + shift, 0.5, 0.62))]


def forest(rng: np.random.Generator, shift: float) -> list[tuple[Points, Rgb]]:
    """Line up tall firs, with trunks, left and right of a clearing."""
    shapes = [
        sky(hsv(0.2 + shift, 0.16, 0.96)),
        (ridge(rng, 0.72, 0.02, 1), hsv(0.27 + shift, 0.5, 0.5)),
    ]
    for x in (0.32, 0.68, 0.5, 0.06, 0.94, 0.2, 0.8):
        x = x + rng.uniform(-0.03, 0.03)
        top, foot = rng.uniform(0.02, 0.14), rng.uniform(0.7, 0.8)
        shapes += [(box(x - 0.02, foot - 0.05, x + 0.02, foot + 0.08), hsv(0.07, 0.6, 0.35))]
        green = hsv(0.36 + shift, 0.65, rng.uniform(0.36, 0.5))
        for lift, half in ((0.0, 0.13), (0.2, 0.1)):
            shapes += [(polygon((x - half, foot - lift), (x, top), (x + half, foot - lift)), green)]
    return shapes


def city(rng: np.random.Generator, shift: float) -> list[tuple[Points, Rgb]]:
    """Stand tower blocks with lit windows on a street."""
    shapes = [sky(hsv(0.05 + shift, 0.28, 0.98))]
    edges = np.array([0.0, 0.17, 0.34, 0.5, 0.66, 0.83, 1.0])
    for k, x in enumerate(edges[:-1]):
        top = rng.uniform(0.06, 0.2) if k in (0, 1, 4, 5) else rng.uniform(0.15, 0.35)
        shapes += [
            (
                box(x, top, edges[k + 1] - 0.02, 0.85),
                hsv(0.72 + shift, 0.2, rng.uniform(0.35, 0.55)),
            )
        ]
        for y in np.arange(top + 0.06, 0.76, 0.13):
            for dx in (0.03, 0.09):
                shapes += [(box(x + dx, y, x + dx + 0.035, y + 0.06), hsv(0.14, 0.5, 1.0))]
    return [*shapes, (box(-0.05, 0.82, 1.05, 1.05), hsv(0.7, 0.08, 0.62))]


def desert(rng: np.random.Generator, shift: float) -> list[tuple[Points, Rgb]]:
    """Roll dunes under a low sun, with a cactus at one side."""
    side = rng.choice([-1, 1])
    shapes = [
        sky(hsv(0.1 + shift, 0.3, 1.0)),
        (ellipse(0.5 - side * 0.3, 0.18, 0.12, 0.12), hsv(0.03 + shift, 0.75, 1.0)),
        (ridge(rng, 0.5, 0.05, 0.9), hsv(0.09 + shift, 0.55, 0.85)),
        (ridge(rng, 0.7, 0.06, 0.7), hsv(0.08 + shift, 0.62, 0.72)),
    ]
    x, foot = 0.5 + side * 0.4, rng.uniform(0.66, 0.74)
    green = hsv(0.38, 0.6, 0.45)
    for dx, y0, y1 in (
        (0, foot - 0.46, foot),
        (-0.1, foot - 0.32, foot - 0.16),
        (0.1, foot - 0.38, foot - 0.2),
    ):
        shapes += [(box(x + dx - 0.03, y0, x + dx + 0.03, y1), green)]
    return [*shapes, (box(x - 0.1, foot - 0.21, x + 0.1, foot - 0.16), green)]


def night(rng: np.random.Generator, shift: float) -> list[tuple[Points, Rgb]]:
    """Hang a crescent moon and stars in a dark sky over a dark hill."""
    dark = hsv(0.66 + shift, 0.7, 0.24)
    x, y = 0.5 + rng.choice([-1, 1]) * 0.32, rng.uniform(0.14, 0.2)
    shapes = [sky(dark), (ellipse(x, y, 0.12, 0.12), hsv(0.14, 0.25, 1.0))]
    shapes += [(ellipse(x + 0.055, y - 0.03, 0.1, 0.1), dark)]
    for sx, sy in (
        (0.1, 0.1),
        (0.5, 0.08),
        (0.9, 0.12),
        (0.08, 0.45),
        (0.92, 0.48),
        (0.3, 0.2),
        (0.7, 0.22),
    ):
        if abs(sx - x) > 0.16 or sy > 0.36:
            sx, sy = sx + rng.uniform(-0.04, 0.04), sy + rng.uniform(-0.04, 0.04)
            star = ellipse(sx, sy, 0.04, 0.04, rng.uniform(0, 1), corners=8)
            star[1::2] = (star[1::2] - (sx, sy)) * 0.4 + (sx, sy)
            shapes += [(star, hsv(0.15, 0.15, 1.0))]
    return [*shapes, (ridge(rng, 0.8, 0.04, 0.6), hsv(0.6 + shift, 0.6, 0.14))]


BACKGROUNDS: dict[str, Callable[[np.random.Generator, float], list[tuple[Points, Rgb]]]] = {
    "sea": sea,
    "mountains": mountains,
    "forest": forest,
    "city": city,
    "desert": desert,
    "night": night,
}

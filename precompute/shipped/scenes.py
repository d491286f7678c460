"""Compose a scene: a subject in front of a background, as flat coloured shapes.

In: a subject, a background and a random generator. Out: a list of `Shape`, back to front, in the
unit square (x to the right, y down). It does not know how a style will draw them, nor any pixel.
"""

import colorsys
from collections.abc import Callable
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
    """The colours of one picture: three for the subject, and a hue shift for the background."""

    main: Rgb
    accent: Rgb
    dark: Rgb
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
        shift=rng.uniform(-0.03, 0.03),
    )


# --- shapes in a subject's own frame: [-1, 1] both ways, y down ------------------------------


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


Part = tuple[Points, str]  # a polygon and which of the palette's colours fills it


def cat(rng: np.random.Generator) -> list[Part]:
    """Sit a cat facing us: pear body, round head, pointed ears, a raised tail."""
    head, ear = rng.uniform(0.40, 0.48), rng.uniform(0.42, 0.55)
    y = -0.42
    parts = [(band(arc(0.55, 0.25, 0.42, 0.62, 0.25, 0.9), 0.2), "main")]
    parts += [(ellipse(0, 0.45, rng.uniform(0.5, 0.6), 0.55), "main")]
    for side in (-1, 1):
        ear_tip = (side * head * 1.05, y - head * 0.55 - ear)
        parts += [
            (
                polygon(
                    (side * head * 0.98, y - 0.1), ear_tip, (side * head * 0.1, y - head * 0.8)
                ),
                "main",
            )
        ]
    parts += [(ellipse(0, y, head * 1.1, head), "main"), (ellipse(0, 0.5, 0.26, 0.36), "accent")]
    parts += [(ellipse(side * 0.19, y - 0.04, 0.1, 0.13), "dark") for side in (-1, 1)]
    return [*parts, (polygon((-0.09, y + 0.13), (0.09, y + 0.13), (0, y + 0.24)), "dark")]


def fish(rng: np.random.Generator) -> list[Part]:
    """Swim a fish to the right: oval body, forked tail, fins, an eye."""
    tall = rng.uniform(0.45, 0.58)
    return [
        (polygon((-0.45, 0), (-1.0, -0.58), (-0.82, 0), (-1.0, 0.58)), "accent"),
        (polygon((-0.3, -tall * 0.7), (0.1, -tall - 0.34), (0.4, -tall * 0.7)), "accent"),
        (ellipse(0.15, 0, 0.8, tall), "main"),
        (polygon((0.0, 0.05), (-0.3, 0.4), (0.2, 0.3)), "accent"),
        (band(arc(0.25, 0, 0.25, tall * 0.9, -0.2, 0.2), 0.1), "accent"),
        (ellipse(0.66, -0.12, 0.11, 0.11), "dark"),
    ]


def butterfly(rng: np.random.Generator) -> list[Part]:
    """Spread a butterfly's four wings around a thin body."""
    top, low = rng.uniform(0.5, 0.6), rng.uniform(0.36, 0.44)
    parts = []
    for side in (-1, 1):
        parts += [
            (ellipse(side * 0.42, 0.45, low, 0.36, side * 0.7), "accent"),
            (ellipse(side * 0.52, -0.3, top, 0.42, -side * 0.65), "main"),
            (ellipse(side * 0.56, -0.34, 0.2, 0.16), "accent"),
            (band(polygon((0, -0.5), (side * 0.14, -0.75), (side * 0.3, -0.92)), 0.07), "dark"),
        ]
    return [*parts, (ellipse(0, 0.05, 0.1, 0.65), "dark")]


def house(rng: np.random.Generator) -> list[Part]:
    """Build a house: walls, a pitched roof, a chimney, a door and a window."""
    wide, roof = rng.uniform(0.7, 0.8), rng.uniform(0.75, 0.95)
    side = rng.choice([-1, 1])
    return [
        (box(0.3, -0.85, 0.52, -0.3), "dark"),
        (box(-wide, -0.15, wide, 0.9), "accent"),
        (polygon((-wide - 0.2, -0.1), (0, -roof - 0.05), (wide + 0.2, -0.1)), "main"),
        (box(-0.18 + side * 0.35, 0.25, 0.18 + side * 0.35, 0.9), "dark"),
        (box(-0.2 - side * 0.33, 0.15, 0.2 - side * 0.33, 0.5), "main"),
    ]


def sailboat(rng: np.random.Generator) -> list[Part]:
    """Rig a sailboat: hull, mast, a main sail and a smaller jib."""
    top = rng.uniform(0.9, 1.0)
    return [
        (box(-0.05, -top, 0.05, 0.5), "dark"),
        (polygon((0.1, -top + 0.05), (0.1, 0.35), (0.85, 0.35)), "main"),
        (polygon((-0.1, -top + 0.25), (-0.1, 0.35), (-0.7, 0.35)), "accent"),
        (polygon((-0.95, 0.48), (0.95, 0.48), (0.62, 0.92), (-0.62, 0.92)), "main"),
    ]


def car(rng: np.random.Generator) -> list[Part]:
    """Park a car seen from the side: body, cabin, two windows, two wheels."""
    roof = rng.uniform(0.48, 0.58)
    cabin = polygon((-0.62, -0.05), (-0.38, -roof), (0.3, -roof), (0.6, -0.05))
    return [
        (cabin, "main"),
        (
            polygon((-0.45, -0.05), (-0.3, -roof + 0.12), (-0.05, -roof + 0.12), (-0.05, -0.05)),
            "accent",
        ),
        (
            polygon((0.05, -0.05), (0.05, -roof + 0.12), (0.24, -roof + 0.12), (0.42, -0.05)),
            "accent",
        ),
        (polygon((-1, 0.05), (-0.9, -0.1), (0.8, -0.1), (1, 0.1), (1, 0.45), (-1, 0.45)), "main"),
        (ellipse(-0.52, 0.45, 0.26, 0.26), "dark"),
        (ellipse(0.52, 0.45, 0.26, 0.26), "dark"),
        (ellipse(-0.52, 0.45, 0.1, 0.1), "accent"),
        (ellipse(0.52, 0.45, 0.1, 0.1), "accent"),
    ]


def mushroom(rng: np.random.Generator) -> list[Part]:
    """Grow a mushroom: a stem under a domed, spotted cap."""
    wide = rng.uniform(0.85, 1.0)
    cap = np.concatenate([arc(0, 0.1, wide, 0.95, 0.5, 1.0), arc(0, 0.1, wide, 0.14, 0, 0.5)])
    stem = polygon((-0.22, 0.05), (0.22, 0.05), (0.34, 0.95), (-0.34, 0.95))
    spots = [(-0.42, -0.2), (0.08, -0.5), (0.5, -0.15)]
    size = rng.uniform(0.13, 0.18)
    return [
        (stem, "accent"),
        (cap, "main"),
        *((ellipse(x, y, size, size), "accent") for x, y in spots),
    ]


def rocket(rng: np.random.Generator) -> list[Part]:
    """Launch a rocket: pointed hull, two fins, a porthole and a flame."""
    wide = rng.uniform(0.3, 0.38)
    hull = polygon(
        (0, -1),
        (wide * 0.7, -0.6),
        (wide, -0.1),
        (wide * 0.8, 0.5),
        (-wide * 0.8, 0.5),
        (-wide, -0.1),
    )
    hull = np.vstack([hull, [(-wide * 0.7, -0.6)]])
    return [
        (polygon((-0.18, 0.5), (0.18, 0.5), (0, 1.0)), "accent"),
        (polygon((-wide * 0.8, 0.0), (-0.72, 0.65), (-wide * 0.5, 0.48)), "accent"),
        (polygon((wide * 0.8, 0.0), (0.72, 0.65), (wide * 0.5, 0.48)), "accent"),
        (hull, "main"),
        (ellipse(0, -0.2, 0.17, 0.17), "dark"),
    ]


def flower(rng: np.random.Generator) -> list[Part]:
    """Open a flower: six or seven petals around a heart, a stem and two leaves."""
    count, y = int(rng.integers(6, 8)), -0.3
    turn = rng.uniform(0, 1)
    parts = [(box(-0.06, y, 0.06, 1.0), "dark")]
    parts += [(ellipse(side * 0.3, 0.72, 0.3, 0.13, -side * 0.5), "dark") for side in (-1, 1)]
    for k in range(count):
        angle = 2 * np.pi * (k + turn) / count
        parts += [
            (ellipse(0.42 * np.cos(angle), y + 0.42 * np.sin(angle), 0.3, 0.19, angle), "main")
        ]
    return [*parts, (ellipse(0, y, 0.22, 0.22), "accent")]


def teapot(rng: np.random.Generator) -> list[Part]:
    """Set a teapot: round belly, spout to one side, handle to the other, a lid with a knob."""
    belly = rng.uniform(0.5, 0.56)
    spout = polygon(
        (0.4, 0.4), (0.35, 0.0), (0.72, -0.05), (0.82, -0.42), (1.02, -0.36), (0.85, 0.2)
    )
    return [
        (band(arc(-0.55, 0.12, 0.4, 0.36, 0.22, 0.8), 0.15), "dark"),
        (spout, "main"),
        (ellipse(0, 0.2, 0.66, belly), "main"),
        (ellipse(0, -0.3, 0.4, 0.13), "accent"),
        (ellipse(0, -0.5, 0.12, 0.12), "dark"),
        (band(arc(0, 0.05, 0.6, 0.3, 0.05, 0.45), 0.12), "accent"),
    ]


Subjects = dict[str, Callable[[np.random.Generator], list[Part]]]

SUBJECTS: Subjects = {
    "cat": cat,
    "fish": fish,
    "butterfly": butterfly,
    "house": house,
    "sailboat": sailboat,
    "car": car,
    "mushroom": mushroom,
    "rocket": rocket,
    "flower": flower,
    "teapot": teapot,
}

# --- backgrounds, in the picture's own frame ---------------------------------------------------


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


def compose(
    subject: str, background: str, rng: np.random.Generator, subjects: Subjects = SUBJECTS
) -> list[Shape]:
    """Place a subject of random size, place, tilt and side before a background."""
    palette = draw_palette(rng, background in ("night", "forest", "city"))
    shapes = [Shape(p, c, subject=False) for p, c in BACKGROUNDS[background](rng, palette.shift)]
    size = rng.uniform(0.31, 0.38)
    tilt = rng.uniform(-0.12, 0.12)
    stretch = np.array([rng.choice([-1, 1]) * rng.uniform(0.92, 1.08), 1.0]) * size
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    place = np.array([rng.uniform(0.42, 0.58), rng.uniform(0.52, 0.6)])
    for points, role in subjects[subject](rng):
        shapes.append(
            Shape((points * stretch) @ turn + place, getattr(palette, role), subject=True)
        )
    return shapes

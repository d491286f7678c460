"""Build the twelve subjects of the shipped world from polygons, each a little different every time.

In: a random generator. Out: a subject's parts, back to front, in its own frame.
"""

from collections.abc import Callable

import numpy as np

from precompute.shipped.shapes import Points, arc, band, box, ellipse, polygon

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


def snowman(rng: np.random.Generator) -> list[Part]:
    """Stack a snowman of three balls, with a hat, a carrot, a scarf and stick arms."""
    belly = rng.uniform(0.46, 0.52)
    return [
        (band(polygon((-0.35, 0.0), (-0.7, -0.2), (-1.0, -0.35)), 0.09), "dark"),
        (band(polygon((0.35, 0.0), (0.7, -0.2), (1.0, -0.35)), 0.09), "dark"),
        (ellipse(0, 0.55, belly, 0.45), "pale"),
        (ellipse(0, 0.0, 0.38, 0.36), "pale"),
        (ellipse(0, -0.45, 0.3, 0.29), "pale"),
        (box(-0.34, -0.26, 0.34, -0.13), "main"),
        (box(-0.4, -0.72, 0.4, -0.62), "dark"),
        (box(-0.26, -1.02, 0.26, -0.66), "main"),
        (polygon((0.0, -0.48), (0.0, -0.36), (0.36, -0.4)), "accent"),
        *((ellipse(x, -0.53, 0.05, 0.06), "dark") for x in (-0.12, 0.12)),
        *((ellipse(0, y, 0.06, 0.06), "dark") for y in (0.02, 0.42, 0.64)),
    ]


def balloon(rng: np.random.Generator) -> list[Part]:
    """Float a hot-air balloon: a striped envelope over a basket on two ropes."""
    wide = rng.uniform(0.66, 0.74)
    y = np.linspace(-1.0, 0.5, 24)
    half = wide * np.sqrt(np.clip(1 - ((y + 0.35) / 0.66) ** 2, 0, 1))
    half = np.where(y > -0.2, np.interp(y, (-0.2, 0.5), (half[y <= -0.2][-1], 0.2)), half)

    def stripe(left: float, right: float) -> Points:
        return np.concatenate([np.stack([left * half, y], 1), np.stack([right * half, y], 1)[::-1]])

    return [
        (band(polygon((-0.18, 0.48), (-0.18, 0.6), (-0.16, 0.74)), 0.05), "dark"),
        (band(polygon((0.18, 0.48), (0.18, 0.6), (0.16, 0.74)), 0.05), "dark"),
        (stripe(-1, 1), "main"),
        (stripe(-0.72, -0.28), "accent"),
        (stripe(0.28, 0.72), "accent"),
        (box(-0.24, 0.7, 0.24, 1.02), "dark"),
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
    "snowman": snowman,
    "balloon": balloon,
}

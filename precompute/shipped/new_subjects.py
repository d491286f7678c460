"""Draw fifteen subjects that the collection does not have, unlike its own in outline.

In: a random generator. Out: a subject's parts. Some are for choosing settings only (`plantings.py`).
"""

import numpy as np

from precompute.shipped.shapes import Points, arc, band, box, ellipse, polygon
from precompute.shipped.subjects import Part


def snail(rng: np.random.Generator) -> list[Part]:
    """Crawl a snail: a long foot, a coiled shell, two feelers."""
    turns = np.linspace(0, 4.5 * np.pi, 60)
    radius = 0.06 + 0.036 * turns
    coil = np.stack([-0.2 + radius * np.cos(turns), -0.1 + radius * np.sin(turns)], 1)
    return [
        (polygon((-1, 0.8), (-0.7, 0.5), (0.5, 0.5), (0.6, -0.2), (0.95, -0.2), (0.9, 0.8)), "main"),
        (band(polygon((0.7, -0.2), (0.6, -0.5), (0.5, -0.75)), 0.1), "main"),
        (band(polygon((0.85, -0.2), (0.9, -0.5), (0.98, -0.75)), 0.1), "main"),
        (ellipse(-0.2, -0.1, rng.uniform(0.64, 0.7), 0.66), "accent"),
        (band(coil, 0.11), "dark"),
    ]  # fmt: skip


def key(rng: np.random.Generator) -> list[Part]:
    """Hang a key: a ring, a long shaft, two teeth."""
    ring = rng.uniform(0.38, 0.44)
    return [
        (box(-0.1, -0.4, 0.1, 1.0), "main"),
        (box(0.05, 0.72, 0.55, 0.95), "main"),
        (box(0.05, 0.35, 0.45, 0.56), "main"),
        (ellipse(0, -0.55, ring, ring), "main"),
        (ellipse(0, -0.55, 0.2, 0.2), "dark"),
    ]


def crown(rng: np.random.Generator) -> list[Part]:
    """Set a crown: a band with gems under five points, each with a ball."""
    x = np.linspace(-0.9, 0.9, 9)
    y = np.where(np.arange(9) % 2 == 0, -rng.uniform(0.5, 0.62), 0.05)
    points = np.vstack([np.stack([x, y], 1), [(0.75, 0.4), (-0.75, 0.4)]])
    return [
        (points, "main"),
        *((ellipse(a, b - 0.06, 0.13, 0.13), "accent") for a, b in zip(x[::2], y[::2], strict=True)),
        (box(-0.78, 0.35, 0.78, 0.75), "accent"),
        *((ellipse(a, 0.55, 0.1, 0.1), "dark") for a in (-0.5, 0, 0.5)),
    ]  # fmt: skip


def guitar(rng: np.random.Generator) -> list[Part]:
    """Stand a guitar: a waisted body with a sound hole, a long neck, a head."""
    wide = rng.uniform(0.5, 0.58)
    return [
        (ellipse(0, 0.55, wide, 0.44), "main"),
        (ellipse(0, 0.05, wide * 0.76, 0.34), "main"),
        (box(-0.08, -0.85, 0.08, 0.35), "dark"),
        (box(-0.17, -1.05, 0.17, -0.75), "accent"),
        (ellipse(0, 0.3, 0.2, 0.2), "dark"),
        (box(-0.26, 0.66, 0.26, 0.76), "accent"),
    ]


def ladder(rng: np.random.Generator) -> list[Part]:
    """Lean a ladder: two rails and five rungs."""
    wide = rng.uniform(0.4, 0.48)
    rungs = [(box(-wide, y, wide, y + 0.13), "accent") for y in np.linspace(-0.8, 0.7, 5)]
    return [*rungs, *((box(s * wide - 0.1, -1, s * wide + 0.1, 1), "main") for s in (-1, 1))]


def windmill(rng: np.random.Generator) -> list[Part]:
    """Build a windmill: a tapering tower under four crossed sails."""
    turn = np.pi / 4 + rng.uniform(-0.25, 0.25)
    parts = [(polygon((-0.22, -0.3), (0.22, -0.3), (0.45, 1.0), (-0.45, 1.0)), "accent")]
    parts += [(box(-0.13, 0.6, 0.13, 1.0), "dark")]
    sail = box(0.1, -0.04, 0.95, 0.26)
    for k in range(4):
        a = turn + k * np.pi / 2
        spin = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
        parts += [(sail @ spin + (0, -0.3), "main")]
    return [*parts, (ellipse(0, -0.3, 0.12, 0.12), "dark")]


def duck(rng: np.random.Generator) -> list[Part]:
    """Float a duck: a boat of a body with a raised tail, a wing, a head on a neck, a bill."""
    head = rng.uniform(0.3, 0.35)
    return [
        (polygon((1.05, -0.5), (0.6, -0.62), (0.6, -0.36)), "accent"),
        (polygon((-1, -0.1), (-0.4, 0.1), (0.2, 0.1), (0.6, 0.5), (0.2, 0.85), (-0.6, 0.8)), "main"),
        (polygon((0.05, 0.3), (0.2, -0.5), (0.6, -0.4), (0.62, 0.5)), "main"),
        (ellipse(0.42, -0.52, head, head), "main"),
        (ellipse(-0.2, 0.42, 0.38, 0.2, 0.2), "accent"),
        (ellipse(0.5, -0.6, 0.08, 0.08), "dark"),
    ]  # fmt: skip


def hammer(rng: np.random.Generator) -> list[Part]:
    """Lift a hammer: a wooden shaft, a heavy head with a claw."""
    deep = rng.uniform(0.4, 0.48)
    return [
        (box(-0.13, -0.6, 0.13, 1.0), "accent"),
        (polygon((-0.25, -0.8), (-1.0, -0.95), (-0.65, -0.45), (-0.25, -0.4)), "main"),
        (box(-0.3, -0.85, 0.6, -0.85 + deep), "main"),
        (box(0.6, -0.95, 0.85, -0.75 + deep), "dark"),
    ]


def bell(rng: np.random.Generator) -> list[Part]:
    """Hang a bell: a flaring body over a clapper, a loop on top."""
    wide = rng.uniform(0.75, 0.85)
    side = [(-0.3, -0.6), (-0.42, 0.0), (-wide, 0.6), (wide, 0.6), (0.42, 0.0), (0.3, -0.6)]
    return [
        (band(arc(0, -0.78, 0.16, 0.18, 0, 1), 0.1), "dark"),
        (ellipse(0, 0.72, 0.2, 0.2), "dark"),
        (np.vstack([polygon(*side), arc(0, -0.6, 0.3, 0.2, 1.0, 0.5)]), "main"),
        (box(-wide, 0.45, wide, 0.63), "accent"),
    ]


def umbrella(rng: np.random.Generator) -> list[Part]:
    """Open an umbrella: a scalloped canopy of two colours over a hooked handle."""
    wide = rng.uniform(0.9, 1.0)
    canopy = np.vstack(
        [arc(0, 0.05, wide, 0.95, 0.5, 1.0)]
        + [arc(wide * (1 - k) * 2 / 3, 0.05, wide / 3, 0.14, 1.0, 0.5) for k in range(3)]
    )
    middle = np.vstack(
        [arc(0, 0.05, wide / 3, 0.95, 0.5, 1.0), arc(0, 0.05, wide / 3, 0.14, 1.0, 0.5)]
    )
    return [
        (box(-0.05, -0.95, 0.05, 0.8), "dark"),
        (band(arc(0.2, 0.78, 0.2, 0.2, 0.5, 0.0), 0.1), "dark"),
        (canopy, "main"),
        (middle, "accent"),
    ]


def bicycle(rng: np.random.Generator) -> list[Part]:
    """Ride a bicycle: two ringed wheels, a frame of tubes, saddle and handlebar."""
    wheel = rng.uniform(0.38, 0.43)
    wheels = [(band(arc(x, 0.45, wheel, wheel, 0, 1), 0.1), "dark") for x in (-0.58, 0.58)]
    tubes = [
        ((-0.58, 0.45), (-0.2, -0.2)),
        ((-0.58, 0.45), (0.05, 0.45)),
        ((0.05, 0.45), (-0.25, -0.35)),
        ((0.05, 0.45), (0.4, -0.2)),
        ((-0.2, -0.2), (0.4, -0.2)),
        ((0.58, 0.45), (0.35, -0.5)),
    ]
    frame = [(band(np.linspace(a, b, 3), 0.1), "main") for a, b in tubes]
    return [*wheels, *frame, (box(-0.42, -0.44, -0.08, -0.33), "accent"),
            (band(polygon((0.2, -0.55), (0.35, -0.52), (0.55, -0.6)), 0.1), "accent")]  # fmt: skip


def lighthouse(rng: np.random.Generator) -> list[Part]:
    """Light a lighthouse: a striped tower, a lantern room, two beams."""
    top = rng.uniform(0.2, 0.25)

    def ring(a: float, b: float) -> Points:
        left, right = (top + (0.42 - top) * (y + 0.45) / 1.45 for y in (a, b))
        return polygon((-left, a), (left, a), (right, b), (-right, b))

    return [
        (polygon((0.1, -0.68), (1.05, -0.95), (1.05, -0.45)), "pale"),
        (polygon((-0.1, -0.68), (-1.05, -0.95), (-1.05, -0.45)), "pale"),
        (ring(-0.45, 1.0), "pale"),
        *((ring(y, y + 0.28), "main") for y in (-0.3, 0.2, 0.7)),
        (box(-0.3, -0.52, 0.3, -0.42), "dark"),
        (box(-0.16, -0.82, 0.16, -0.52), "accent"),
        (polygon((-0.25, -0.8), (0, -1.05), (0.25, -0.8)), "main"),
    ]


def cup(rng: np.random.Generator) -> list[Part]:
    """Fill a cup: a tapering bowl with a handle on a saucer, and steam."""
    wide = rng.uniform(0.55, 0.62)
    steam = [
        (band(np.stack([x + 0.07 * np.sin(np.linspace(0, 6, 16)), np.linspace(-0.95, -0.45, 16)], 1), 0.08), "pale")
        for x in (-0.22, 0.12)
    ]  # fmt: skip
    return [
        *steam,
        (ellipse(0, 0.82, 0.95, 0.15), "accent"),
        (band(arc(wide, 0.1, 0.3, 0.28, 0.75, 1.25), 0.13), "main"),
        (polygon((-wide, -0.3), (wide, -0.3), (0.36, 0.8), (-0.36, 0.8)), "main"),
        (ellipse(0, -0.3, wide, 0.13), "dark"),
    ]


def anchor(rng: np.random.Generator) -> list[Part]:
    """Drop an anchor: a ring, a shank with a stock, a curved arm with two flukes."""
    wide = rng.uniform(0.65, 0.75)
    flukes = [
        (polygon((s * wide * 1.25, 0.25), (s * wide * 0.62, 0.42), (s * wide * 1.1, 0.72)), "main")
        for s in (-1, 1)
    ]
    return [
        (band(arc(0, -0.78, 0.2, 0.2, 0, 1), 0.12), "accent"),
        (box(-0.1, -0.6, 0.1, 0.85), "main"),
        (box(-0.45, -0.45, 0.45, -0.27), "accent"),
        (band(arc(0, 0.25, wide, 0.62, 0.02, 0.48), 0.17), "main"),
        *flukes,
    ]


def turtle(rng: np.random.Generator) -> list[Part]:
    """Walk a turtle to the right: a domed shell of plates, head, tail and two legs."""
    high = rng.uniform(0.7, 0.8)
    shell = np.vstack([arc(-0.1, 0.35, 0.72, high, 0.5, 1.0), polygon((0.62, 0.45), (-0.82, 0.45))])
    return [
        (ellipse(0.8, 0.12, 0.24, 0.2), "accent"),
        (polygon((0.5, 0.4), (0.62, 0.05), (0.8, 0.3)), "accent"),
        (polygon((-0.75, 0.4), (-1.05, 0.55), (-0.7, 0.55)), "accent"),
        *((box(x, 0.4, x + 0.26, 0.8), "accent") for x in (-0.6, 0.2)),
        (shell, "main"),
        *((ellipse(x, y, 0.16, 0.14), "dark") for x, y in ((-0.45, 0.15), (-0.1, -0.1), (0.25, 0.15))),
        (ellipse(0.88, 0.06, 0.05, 0.06), "dark"),
    ]  # fmt: skip


NEW_SUBJECTS = {
    f.__name__: f
    for f in (
        snail,
        key,
        crown,
        guitar,
        ladder,
        windmill,
        duck,
        hammer,
        bell,
        umbrella,
        bicycle,
        lighthouse,
        cup,
        anchor,
        turtle,
    )
}

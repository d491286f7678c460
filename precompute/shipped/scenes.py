"""Compose a scene: a subject in front of a background, as flat coloured shapes.

In: a subject, a background and a random generator. Out: a list of `Shape`, back to front, in the
unit square. It does not know how a style will draw them, nor any pixel.
"""

import numpy as np

from precompute.shipped.backgrounds import BACKGROUNDS
from precompute.shipped.shapes import Shape, draw_palette
from precompute.shipped.subjects import SUBJECTS, Subjects


def compose(
    subject: str, background: str, rng: np.random.Generator, subjects: Subjects = SUBJECTS
) -> list[Shape]:
    """Place a subject of random size, place, tilt and side before a background."""
    palette = draw_palette(rng, background in ("night", "forest", "city"))
    shapes = [Shape(p, c, subject=False) for p, c in BACKGROUNDS[background](rng, palette.shift)]
    size = rng.uniform(0.37, 0.43)
    tilt = rng.uniform(-0.12, 0.12)
    stretch = np.array([rng.choice([-1, 1]) * rng.uniform(0.92, 1.08), 1.0]) * size
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    place = np.array([rng.uniform(0.44, 0.56), rng.uniform(0.5, 0.56)])
    for points, role in subjects[subject](rng):
        shapes.append(
            Shape((points * stretch) @ turn + place, getattr(palette, role), subject=True)
        )
    return shapes

"""Draw what the collection does not have: nine new subjects and nine new styles.

In: a random generator, and for a style the shapes of `scenes.compose`. Out: parts of a subject, or a canvas. New
subjects differ from the collection's in outline, new styles in texture. Some are for choosing settings only
(`plantings.py`).
"""

import numpy as np

from precompute.shipped.canvas import (
    CANVAS,
    PITCH,
    SCALE,
    Canvas,
    blend,
    blur,
    clouds,
    mask,
    outlines,
    paint,
    pixel_grid,
    silhouette,
    tone,
)
from precompute.shipped.shapes import Shape, arc, band, box, ellipse, polygon
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


# --- styles ------------------------------------------------------------------------------------


def contours(shapes: list[Shape], near: float, far: float) -> np.ndarray:
    """Give line art: the subject's contours, and the background's at half strength."""
    behind = outlines(shapes, far) * 0.5 * (1 - silhouette(shapes))
    return np.maximum(outlines([s for s in shapes if s.subject], near), behind)


def mosaic(shapes: list[Shape], rng: np.random.Generator) -> Canvas:
    """Set square tiles of one colour each, turned by 45 degrees, in pale grout."""
    x, y = pixel_grid()
    pitch = PITCH * 0.9
    u, v = (x + y) / np.sqrt(2) / pitch, (x - y) / np.sqrt(2) / pitch
    cu, cv = np.floor(u) + 0.5, np.floor(v) + 0.5
    rows = np.clip((cu - cv) * pitch / np.sqrt(2) * SCALE, 0, CANVAS - 1).astype(int)
    columns = np.clip((cu + cv) * pitch / np.sqrt(2) * SCALE, 0, CANVAS - 1).astype(int)
    light = rng.uniform(0.75, 1.2, (64, 64))[cu.astype(int) % 64, cv.astype(int) % 64]
    tiles = np.clip(paint(shapes)[rows, columns] * light[..., None], 0, 1)
    grout = (np.abs(u - cu) > 0.38) | (np.abs(v - cv) > 0.38)
    return blend(tiles, np.array([0.92, 0.9, 0.85]), grout.astype(float))


def blueprint(shapes: list[Shape], rng: np.random.Generator) -> Canvas:
    """Draw white contours on blue paper with a fine grid."""
    x, y = pixel_grid()
    grid = (x % (2 * PITCH) < 0.7) | (y % (2 * PITCH) < 0.7)
    canvas = blend(np.full((CANVAS, CANVAS, 3), (0.1, 0.27, 0.62)), np.ones(3), grid * 0.25)
    return blend(canvas, np.ones(3), contours(shapes, 1.6, 1.0))


def chalk(shapes: list[Shape], rng: np.random.Generator) -> Canvas:
    """Rub pastel chalk, broken by grain, on a dark green board."""
    canvas = (
        np.full((CANVAS, CANVAS, 3), (0.1, 0.2, 0.16)) * (0.7 + 0.6 * clouds(rng, 8))[..., None]
    )
    grain = clouds(rng, 40) > 0.42
    pale = 0.55 + 0.45 * paint(shapes)
    rubbed = silhouette(shapes) * 0.45 + contours(shapes, 2.4, 1.8) * 0.9
    return blend(canvas, pale, np.clip(rubbed, 0, 1) * grain)


def stitch(shapes: list[Shape], rng: np.random.Generator) -> Canvas:
    """Sew one cross of thread for every cell of cream cloth."""
    x, y = pixel_grid()
    pitch = 16 / 4.5
    u, v = x % pitch / pitch - 0.5, y % pitch / pitch - 0.5
    rows = np.clip((np.floor(y / pitch) + 0.5) * pitch * SCALE, 0, CANVAS - 1).astype(int)
    columns = np.clip((np.floor(x / pitch) + 0.5) * pitch * SCALE, 0, CANVAS - 1).astype(int)
    thread = np.minimum(np.abs(u - v), np.abs(u + v)) < 0.26
    return blend(
        np.full((CANVAS, CANVAS, 3), (0.95, 0.92, 0.84)), paint(shapes)[rows, columns], thread * 1.0
    )


def hatching(shapes: list[Shape], rng: np.random.Generator) -> Canvas:
    """Hatch fine grey lines one way, then across, then upright, the darker the more."""
    x, y = pixel_grid()
    dark = 1 - tone(paint(shapes))
    pitch = PITCH * 0.6
    lines = [(x + y) * 0.7, (x - y) * 0.7, x]
    hatched = [
        (a % pitch < 0.9) & (dark > level) for a, level in zip(lines, (0.1, 0.35, 0.6), strict=True)
    ]
    drawn = np.maximum(np.any(hatched, axis=0) * 0.75, contours(shapes, 1.2, 1.0))
    return blend(np.full((CANVAS, CANVAS, 3), (0.97, 0.95, 0.9)), np.array([0.3, 0.17, 0.1]), drawn)


def thermal(shapes: list[Shape], rng: np.random.Generator) -> Canvas:
    """Show heat in false colours: a hot subject that glows into cold ground."""
    warm = 0.35 * tone(blur(paint(shapes), 1)) + 0.5 * blur(silhouette(shapes), 3)
    warm = np.clip(warm + 0.18 * tone(paint(shapes)) * silhouette(shapes), 0, 1)
    stops = np.array([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    colours = np.array(
        [(0, 0, 0.2), (0.25, 0, 0.6), (0.75, 0.1, 0.5), (1, 0.4, 0.1), (1, 0.85, 0.2), (1, 1, 0.9)]
    )
    return np.stack([np.interp(warm, stops, channel) for channel in colours.T], -1)


def relief(shapes: list[Shape], rng: np.random.Generator) -> Canvas:
    """Press every edge into grey clay, lit from the upper left."""
    height = blur(tone(paint(shapes)) * 0.4 + silhouette(shapes) * 0.6, 0.7)
    shift = 2 * SCALE // 2
    slope = np.roll(height, (-shift, -shift), (0, 1)) - np.roll(height, (shift, shift), (0, 1))
    lit = 0.55 + 0.9 * slope + 0.12 * (clouds(rng, 48) - 0.5)
    return lit[..., None] * np.array([1.0, 0.95, 0.88])


def papercut(shapes: list[Shape], rng: np.random.Generator) -> Canvas:
    """Stack sheets of tinted paper, each with a white rim and a soft shadow."""
    canvas, tint = np.ones((CANVAS, CANVAS, 3)), np.array([1.0, 0.86, 0.8])
    for shape in shapes:
        sheet = mask(shape.points)
        shadow = np.roll(blur(sheet, 1.0), (5, 5), (0, 1)) * 0.5
        rim = np.clip(blur(sheet, 0.8) * 2, 0, 1)
        pale = tint * (0.45 + 0.5 * (np.array(shape.colour) @ [0.3, 0.59, 0.11]))
        canvas = canvas * (1 - shadow * (1 - sheet))[..., None]
        canvas = blend(
            blend(canvas, np.array([1, 0.97, 0.94]), rim), pale, blur(sheet, 0.3) * sheet
        )
    return canvas


def glitch(shapes: list[Shape], rng: np.random.Generator) -> Canvas:
    """Show a broken screen: bands slip sideways, red and blue part, lines stay dark."""
    y = np.arange(CANVAS)
    slip = (rng.uniform(-3, 3, 12) * SCALE).astype(int)[(y * 12) // CANVAS]
    source = paint(shapes)
    columns = (np.arange(CANVAS)[None] + slip[:, None]) % CANVAS
    shifted = [
        source[y[:, None], (columns + dx * SCALE) % CANVAS, c] for c, dx in enumerate((-3, 0, 3))
    ]
    dark = np.where(y / SCALE % (PITCH * 0.6) < 1.1, 0.3, 1.0)
    return np.stack(shifted, -1) * dark[:, None, None]


NEW_SUBJECTS = {
    f.__name__: f for f in (snail, key, crown, guitar, ladder, windmill, duck, hammer, bell)
}
NEW_STYLES = {
    f.__name__: f
    for f in (mosaic, blueprint, chalk, stitch, hatching, thermal, relief, papercut, glitch)
}

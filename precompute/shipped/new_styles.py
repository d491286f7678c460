"""Draw in fifteen styles that the collection does not have, unlike its own in texture.

In: the shapes of `scenes.compose` and a random generator. Out: a canvas. Some are for choosing settings only (`plantings.py`).
"""

import numpy as np

from precompute.shipped.canvas import (
    CANVAS,
    PITCH,
    SCALE,
    SIZE,
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
from precompute.shipped.shapes import Shape


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


def dithered(shapes: list[Shape], rng: np.random.Generator) -> Canvas:
    """Show four greens on an old screen, mixed by a regular pattern of pixels (Bayer 1973)."""
    bayer = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 16
    side = SIZE // 2  # cells of two finished pixels
    small = tone(paint(shapes)).reshape(side, CANVAS // side, side, -1).mean((1, 3))
    level = np.floor(small * 3 + np.tile(bayer, (side // 4, side // 4))).clip(0, 3).astype(int)
    greens = np.array(
        [(0.06, 0.22, 0.06), (0.19, 0.38, 0.19), (0.55, 0.67, 0.06), (0.61, 0.74, 0.06)]
    )
    return greens[level].repeat(CANVAS // side, 0).repeat(CANVAS // side, 1)


def crayon(shapes: list[Shape], rng: np.random.Generator) -> Canvas:
    """Fill shapes with waxy strokes of one slant, over which the paper's grain shows."""
    x, y = pixel_grid()
    grain = clouds(rng, 56)
    wave = np.abs(((x * 0.9 + y * 0.5 + 2 * clouds(rng, 9)) % 3.2) / 3.2 - 0.5) * 2
    wax = ((wave < 0.86) & (grain > 0.3)) * 0.9
    inside = paint(shapes)
    return blend(
        np.full((CANVAS, CANVAS, 3), 0.97),
        inside * 0.92,
        np.maximum(wax, contours(shapes, 1.6, 1.0)),
    )


def topographic(shapes: list[Shape], rng: np.random.Generator) -> Canvas:
    """Draw brown contour lines of the picture's height on a pale green map."""
    height = blur(0.55 * tone(paint(shapes)) + 0.45 * silhouette(shapes), 1.6) + 0.25 * clouds(
        rng, 5
    )
    lines = np.abs(height * 16 % 1 - 0.5) > 0.36
    land = np.array([0.86, 0.92, 0.76]) - height[..., None] * np.array([0.3, 0.12, 0.3])
    return blend(land, np.array([0.5, 0.3, 0.12]), lines * 0.9)


def bokeh(shapes: list[Shape], rng: np.random.Generator) -> Canvas:
    """Scatter large soft discs of light over a dark, blurred picture."""
    page = blur(paint(shapes), 1.2) * 0.45
    x, y = pixel_grid()
    source = paint(shapes)
    for _ in range(70):
        cx, cy, radius = rng.uniform(0, SIZE), rng.uniform(0, SIZE), rng.uniform(2.5, 5.0)
        colour = source[int(cy * SCALE) % CANVAS, int(cx * SCALE) % CANVAS]
        distance = np.hypot(x - cx, y - cy) / radius
        page = page + ((distance < 1) * (0.12 + 0.1 * distance**3))[..., None] * (0.4 + colour)
    return np.clip(page, 0, 1)


def scratchboard(shapes: list[Shape], rng: np.random.Generator) -> Canvas:
    """Scratch short white strokes, around the subject's middle, into a black board."""
    x, y = pixel_grid()
    turn = np.arctan2(y - SIZE / 2, x - SIZE / 2)
    rings = np.abs(np.hypot(x - SIZE / 2, y - SIZE / 2) / 2.4 % 1 - 0.5) * 2
    gaps = np.sin(turn * 40 + 3 * clouds(rng, 12)) > -0.3
    light = tone(paint(shapes)) * (0.55 + 0.45 * silhouette(shapes))
    white = ((rings < light * 0.9) & gaps) | (contours(shapes, 1.2, 0.8) > 0.6)
    return np.where(white[..., None], np.array([0.97, 0.97, 0.94]), np.array([0.05, 0.05, 0.06]))


def patchwork(shapes: list[Shape], rng: np.random.Generator) -> Canvas:
    """Sew the picture of eight by eight patches of printed cloth, with stitched seams."""
    x, y = pixel_grid()
    u, v = x % 8, y % 8
    cell = (y // 8).astype(int) * 8 + (x // 8).astype(int)
    prints = [(u + v) % 4 < 1.5, np.hypot(u % 4 - 2, v % 4 - 2) < 1.2, u % 3 < 1.2]
    kind = rng.integers(3, size=64)[cell]
    printed = np.choose(kind, prints)
    source = blur(paint(shapes), 0.6)
    cloth = blend(source, np.ones(3), printed * 0.4)
    seam = (np.minimum(u, v) < 0.5) | (
        (np.minimum(np.abs(u - 1.4), np.abs(v - 1.4)) < 0.3) & ((u + v) % 2 < 1)
    )
    return blend(cloth, np.array([0.3, 0.22, 0.2]), seam * 0.8)


NEW_STYLES = {
    f.__name__: f
    for f in (
        mosaic,
        blueprint,
        chalk,
        stitch,
        hatching,
        thermal,
        relief,
        papercut,
        glitch,
        dithered,
        crayon,
        topographic,
        bokeh,
        scratchboard,
        patchwork,
    )
}

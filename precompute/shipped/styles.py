"""Draw a scene in a visual language: ten styles, each practised by two workshops.

In: the shapes of `scenes.compose` and a random generator. Out: an RGB picture. The styles differ in texture (dots,
cells, carved lines, glow, blocks ...), not only in colour; woodcut and linocut, and watercolour and gouache, are hard to
tell apart. Everywhere the subject keeps a silhouette that a person can read. Regular screens repeat a whole number of
times in 16 pixels, and never every 8: that is the autoencoder's cell, and a decoder that sees the same code everywhere
cannot place a dot.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from precompute.shipped.canvas import (
    CANVAS,
    PITCH,
    SCALE,
    SIZE,
    Canvas,
    blend,
    blur,
    clouds,
    finish,
    outlines,
    outlines_of,
    paint,
    pixel_grid,
    silhouette,
    tone,
)
from precompute.shipped.shapes import Shape

INK, CREAM = np.array([0.08, 0.07, 0.07]), np.array([0.95, 0.91, 0.82])


@dataclass(frozen=True)
class Workshop:
    """One artist's hand: the two numbers in which workshops of a style differ."""

    name: str
    weight: float  # line width or dot size, relative to the style's own
    variant: int  # 0 or 1, what it changes is up to the style


def pixel_art(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Sample 20 square blocks a side, posterise, and give the subject a dark contour of blocks."""
    cells = 20
    middle = ((np.arange(cells) + 0.5) * CANVAS / cells).astype(int)
    small = np.round(paint(shapes)[np.ix_(middle, middle)] * 4) / 4
    if shop.variant:
        filled = silhouette(shapes)[np.ix_(middle, middle)] > 0
        grown = np.pad(filled, 1)
        edge = grown[:-2, 1:-1] | grown[2:, 1:-1] | grown[1:-1, :-2] | grown[1:-1, 2:]
        small[edge & ~filled] *= 0.2
    block = np.arange(CANVAS) * cells // CANVAS
    return small[np.ix_(block, block)]


def halftone(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Print comic dots: blue ones on cream for the ground, coloured ones on a tint for the subject."""
    x, y = pixel_grid()
    if shop.variant:
        x, y = (x + y) * 0.75, (x - y) * 0.75  # a screen turned by 45 degrees
    pitch = PITCH * 0.75  # four times in 16 pixels
    distance = np.hypot((x % pitch) - pitch / 2, (y % pitch) - pitch / 2) / pitch
    canvas = paint(shapes)
    dots = distance < shop.weight * np.sqrt(np.clip(0.95 - tone(canvas), 0.04, 0.75)) * 0.6
    inside = silhouette(shapes)
    ground = blend(np.broadcast_to(CREAM, canvas.shape), np.array([0.2, 0.3, 0.6]), dots * 0.85)
    tint = canvas * 0.45 + 0.5
    printed = blend(tint, canvas * 0.75, dots.astype(float))
    page = blend(ground, printed, inside)
    return blend(page, INK, outlines([s for s in shapes if s.subject], 1.3))


def stained_glass(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Glaze the scene in glowing glass: lead along the contours, and the ground cut into cells."""
    cells = 4 if shop.variant else 6
    y, x = np.mgrid[0:cells, 0:cells]
    seeds = np.stack([x, y], -1).reshape(-1, 2) + 0.5 + rng.uniform(-0.3, 0.3, (cells * cells, 2))
    seeds *= CANVAS / cells
    py, px = np.mgrid[0:CANVAS, 0:CANVAS]
    squared = (px[..., None] - seeds[:, 0]) ** 2 + (py[..., None] - seeds[:, 1]) ** 2
    nearest = squared.argmin(-1)
    first, second = np.sqrt(np.partition(squared, 1, axis=-1)[..., :2]).transpose(2, 0, 1)
    inside = silhouette(shapes)
    light = np.where(inside > 0, 1.05, rng.uniform(0.7, 1.1, cells * cells)[nearest])[..., None]
    canvas = paint(shapes)
    grey = tone(canvas)[..., None]
    glass = np.clip((grey + (canvas - grey) * 1.5) * light, 0, 1)
    cuts = (second - first < 1.2 * SCALE) & (inside == 0)
    lead = np.maximum(cuts, outlines(shapes, 1.0) * (1 - inside))
    lead = np.maximum(lead, outlines([s for s in shapes if s.subject], 1.9 * shop.weight))
    return blend(glass, np.array([0.04, 0.04, 0.06]), lead)


def pointillism(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Set round dabs of pure, jittered colour on a pale canvas."""
    source = paint(shapes)
    image = Image.new("RGB", (CANVAS, CANVAS), (244, 239, 226))
    draw = ImageDraw.Draw(image)
    pitch = PITCH * SCALE * 0.6  # five times in 16 pixels
    for y in np.arange(pitch / 2, CANVAS, pitch):
        for x in np.arange(pitch / 2, CANVAS, pitch):
            cx, cy = np.clip(np.array([x, y]) + rng.uniform(-0.1, 0.1, 2) * pitch, 0, CANVAS - 1)
            colour = source[int(cy), int(cx)]
            grey = colour.mean()
            jitter = rng.uniform(-0.11, 0.11, 3 if shop.variant else 1)
            colour = np.clip(grey + (colour - grey) * 1.3 + jitter, 0, 1)
            radius = pitch * 0.5 * shop.weight
            draw.ellipse(
                (cx - radius, cy - radius, cx + radius, cy + radius),
                fill=tuple(int(v) for v in colour * 255),
            )
    return np.asarray(image, dtype=float) / 255


def line_drawing(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Draw contours alone, in ink on white paper; the background in a lighter line."""
    far = outlines(shapes, 1.0 * shop.weight)
    near = outlines([s for s in shapes if s.subject], 1.7 * shop.weight)
    ink = INK if shop.variant else np.array([0.1, 0.16, 0.45])
    canvas = blend(np.full((CANVAS, CANVAS, 3), 0.99), ink, far * 0.4 * (1 - silhouette(shapes)))
    return blend(canvas, ink, near)


def neon(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Bend glowing tubes along the contours, on a black wall; the background's glow less."""
    canvas = np.full((CANVAS, CANVAS, 3), 0.03)
    hull = silhouette(shapes)
    for subject, width, strength in ((False, 0.9, 0.4), (True, 1.6, 1.0)):
        group = [s for s in shapes if s.subject == subject]
        for colour in dict.fromkeys(s.colour for s in group):
            lines = outlines_of(group, colour, width * shop.weight) * (1 if subject else 1 - hull)
            peak = np.array(colour) / max(*colour, 1e-6)
            glow = blur(lines, 2.6 if shop.variant else 1.4)
            canvas = 1 - (1 - canvas) * (1 - peak * (glow * 1.1 * strength)[..., None].clip(0, 1))
            canvas = blend(canvas, 0.35 + 0.65 * peak, lines * strength)
    return canvas


def woodcut(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Carve the tones of the ground as long lines of varying width in black; the subject nearly bare."""
    x, y = pixel_grid()
    across = (x + y) * 0.75 if shop.variant else y
    wave = (across + 0.4 * np.sin(2 * np.pi * x / 16)) % (PITCH * 0.75) / (PITCH * 0.75)
    stroke = np.abs(wave - 0.5) * 2  # 0 in the middle of a line, 1 between two
    return _printed(shapes, stroke, shop.weight)


def linocut(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Gouge the tones as a woodcut does, in lines that break off every few pixels."""
    x, y = pixel_grid()
    u, v = ((x - y) * 0.75, (x + y) * 0.75) if shop.variant else (x, y)
    pitch, length = PITCH * 0.75, 16.0
    row = np.floor(v / pitch)
    stroke = np.abs(v % pitch / pitch - 0.5) * 2
    along = np.abs(((u + row * 6.4) % length) / length - 0.5) * 2
    return _printed(shapes, np.where(along > 0.7, 1.0, stroke + 0.15 * along), shop.weight)


def _printed(shapes: list[Shape], stroke: np.ndarray, weight: float) -> Canvas:
    """Print one black ink where strokes are wider than the tone; `stroke` 0 in their middle, 1 between."""
    canvas = paint(shapes)
    inside = silhouette(shapes)
    subject = [s for s in shapes if s.subject]
    level = np.clip(0.95 - tone(canvas), 0, 0.9) * weight
    halo = blur(inside, 1.0) > 0.1
    ground = (stroke < level) & ~halo
    carved = (tone(canvas) < 0.3) | ((stroke < 0.45) & (tone(canvas) < 0.62))
    ink = np.where(inside > 0, carved, ground) | (outlines(subject, 1.5) > 0)
    ink = ink | ((outlines([s for s in shapes if not s.subject], 0.8) > 0) & ~halo)
    return np.where(ink[..., None], INK, CREAM)


def watercolour(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Lay transparent washes that bleed, darken at their rims and fade out towards white paper."""
    source, inside = _wobbled(shapes, rng, 1.6)
    soft = blur(source, 1.0 if shop.variant else 0.7)
    rim = np.clip(np.abs(source - blur(source, 1.0)).sum(-1) * 0.7, 0, 0.45)
    wash = 0.5 + 0.4 * clouds(rng, 6)
    strength = np.clip(wash * (0.5 + 0.65 * blur(inside, 0.7)) * shop.weight, 0, 1)
    x, y = pixel_grid()
    fade = np.clip(np.minimum(np.minimum(x, y), np.minimum(SIZE - x, SIZE - y)) / 5, 0, 1)
    page = blend(np.full((CANVAS, CANVAS, 3), 0.98), soft, strength * fade)
    return page * (1 - rim * fade)[..., None]


def gouache(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Lay washes as a watercolour does, but opaque, chalky and up to the paper's edge."""
    source, inside = _wobbled(shapes, rng, 1.6)
    soft = blur(source, 0.7)
    rim = np.clip(np.abs(source - blur(source, 1.0)).sum(-1) * 0.7, 0, 0.45)
    chalky = 0.8 * soft + 0.2 * np.array([0.93, 0.9, 0.84])
    grain = 1 + (0.1 if shop.variant else 0.05) * (clouds(rng, 24) - 0.5)
    page = blend(chalky, source, 0.5 * blur(inside, 0.7))
    return np.clip(page * (1 - 0.8 * rim)[..., None] * grain[..., None] * shop.weight, 0, 1)


def _wobbled(
    shapes: list[Shape], rng: np.random.Generator, bend: float
) -> tuple[Canvas, np.ndarray]:
    """Paint with contours that a wet brush moved by up to `bend` finished pixels; and the subject's coverage."""
    y, x = np.mgrid[0:CANVAS, 0:CANVAS]
    dx, dy = (((clouds(rng, 7) - 0.5) * 2 * bend * SCALE).astype(int) for _ in range(2))
    rows, columns = np.clip(y + dy, 0, CANVAS - 1), np.clip(x + dx, 0, CANVAS - 1)
    return paint(shapes)[rows, columns], silhouette(shapes)[rows, columns]


Renderer = Callable[[list[Shape], Workshop, np.random.Generator], Canvas]

STYLES: dict[str, tuple[Renderer, tuple[Workshop, Workshop]]] = {
    "pixel art": (pixel_art, (Workshop("Studio Tessel", 1, 0), Workshop("Blockwerk", 1, 1))),
    "halftone": (halftone, (Workshop("Dot & Daughter", 1, 0), Workshop("Presse Rosette", 0.92, 1))),
    "stained glass": (
        stained_glass,
        (Workshop("Verre Clair", 1, 0), Workshop("Leadlight Guild", 1.35, 1)),
    ),
    "pointillism": (
        pointillism,
        (Workshop("Atelier Confetti", 0.94, 0), Workshop("Maison Seurel", 1.1, 1)),
    ),
    "line drawing": (
        line_drawing,
        (Workshop("Fine Line Co", 0.95, 0), Workshop("Inkpot Press", 1.3, 1)),
    ),
    "neon": (neon, (Workshop("Tube City", 1, 0), Workshop("Glow Works", 1.15, 1))),
    "woodcut": (woodcut, (Workshop("Kiri Block", 1, 0), Workshop("Old Gouge", 0.9, 1))),
    "linocut": (linocut, (Workshop("Lino Works", 1, 0), Workshop("Tessa Gouge", 0.9, 1))),
    "watercolour": (
        watercolour,
        (Workshop("Aquarelle Nord", 1, 0), Workshop("Wet Paper", 0.85, 1)),
    ),
    "gouache": (gouache, (Workshop("Poster Room", 1, 0), Workshop("Matte & Sons", 0.93, 1))),
}


def draw(shapes: list[Shape], style: str, shop: Workshop, rng: np.random.Generator) -> Image.Image:
    """Draw a scene in one style by one workshop."""
    renderer = STYLES[style][0]
    return finish(renderer(shapes, shop, rng))

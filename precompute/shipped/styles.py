"""Draw a scene in a visual language: eight styles, each practised by two workshops.

In: the shapes of `scenes.compose` and a random generator. Out: an RGB picture. The styles differ in
texture (dots, cells, hatching, glow, blocks ...), not only in colour. Regular screens repeat three times
in 16 pixels: a period that divides the autoencoder's cell of 8 pixels would look the same in every cell,
and a decoder that sees the same code everywhere cannot place a dot.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from precompute.shipped.scenes import Points, Shape

SIZE = 64  # pixels a side of a finished picture; a larger one (unrelated.py) has more of them in each of 64 parts
SCALE = 4  # supersampling
CANVAS = SIZE * SCALE

PITCH = 16 / 3  # finished pixels between the dots or lines of a regular screen

Layer = np.ndarray  # [CANVAS, CANVAS] of coverage or tone in [0, 1]
Canvas = np.ndarray  # [CANVAS, CANVAS, 3] in [0, 1]


@dataclass(frozen=True)
class Workshop:
    """One artist's hand: the two numbers in which workshops of a style differ."""

    name: str
    weight: float  # line width or dot size, relative to the style's own
    variant: int  # 0 or 1, what it changes is up to the style


def mask(points: Points, canvas: int = CANVAS) -> Layer:
    """Rasterise one polygon without antialiasing (the canvas is supersampled)."""
    image = Image.new("1", (canvas, canvas))
    ImageDraw.Draw(image).polygon([tuple(p) for p in points * canvas], fill=1)
    return np.asarray(image, dtype=float)


def paint(shapes: list[Shape], canvas: int = CANVAS) -> Canvas:
    """Fill every shape with its own colour, back to front."""
    page = np.ones((canvas, canvas, 3))
    for shape in shapes:
        page[mask(shape.points, canvas) > 0] = shape.colour
    return page


def outlines(shapes: list[Shape], width: float, canvas: int = CANVAS) -> Layer:
    """Draw the outlines of visible edges; `width` in finished pixels.

    A shape in front hides the outlines behind it, as a pen drawing would.
    """
    image = Image.new("L", (canvas, canvas))
    draw, thick = ImageDraw.Draw(image), round(width * canvas / SIZE)
    for shape in shapes:
        corners = [tuple(p) for p in shape.points * canvas]
        draw.polygon(corners, fill=0)
        draw.line([*corners, corners[0]], fill=255, width=thick, joint="curve")
    return np.asarray(image, dtype=float) / 255


def blur(layer: np.ndarray, radius: float) -> np.ndarray:
    """Blur one layer or a canvas by a Gaussian; `radius` in finished pixels."""
    image = Image.fromarray(np.uint8(np.clip(layer, 0, 1) * 255))
    wide = ImageFilter.GaussianBlur(radius * len(layer) / SIZE)
    return np.asarray(image.filter(wide), dtype=float) / 255


def clouds(rng: np.random.Generator, cells: int) -> Layer:
    """Draw smooth noise with `cells` bumps a side."""
    small = Image.fromarray(np.uint8(rng.uniform(0, 255, (cells, cells))))
    return np.asarray(small.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC), dtype=float) / 255


def tone(canvas: Canvas) -> Layer:
    """Give the luminance of a canvas (Rec. 601)."""
    return canvas @ np.array([0.299, 0.587, 0.114])


def blend(below: Canvas, above: np.ndarray, amount: Layer) -> Canvas:
    """Lay a colour or canvas over another by a coverage."""
    return below * (1 - amount[..., None]) + above * amount[..., None]


def finish(canvas: Canvas) -> Image.Image:
    """Average the supersampled canvas down to the finished picture."""
    side = len(canvas) // SCALE
    small = canvas.reshape(side, SCALE, side, SCALE, 3).mean((1, 3))
    return Image.fromarray(np.uint8(np.clip(small, 0, 1) * 255 + 0.5))


def pixel_grid(canvas: int = CANVAS) -> tuple[np.ndarray, np.ndarray]:
    """Give the x and y of each canvas pixel, in finished pixels."""
    y, x = np.mgrid[0:canvas, 0:canvas] / (canvas / SIZE)
    return x, y


def pixel_art(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Sample square blocks, posterise, and give the subject a dark contour of blocks."""
    block = 4
    cells = SIZE // block
    step = CANVAS // cells
    canvas = paint(shapes)
    inside = np.max([mask(s.points) for s in shapes if s.subject], axis=0)
    small = canvas.reshape(cells, step, cells, step, 3).mean((1, 3))
    filled = inside.reshape(cells, step, cells, step).mean((1, 3)) > 0.45
    centre = canvas[step // 2 :: step, step // 2 :: step]
    small = np.where(filled[..., None], centre, small)
    small = np.round(small * 4) / 4
    if shop.variant:
        grown = np.pad(filled, 1)
        edge = grown[:-2, 1:-1] | grown[2:, 1:-1] | grown[1:-1, :-2] | grown[1:-1, 2:]
        small[edge & ~filled] *= 0.25
    return small.repeat(step, 0).repeat(step, 1)


def halftone(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Print dots of ink on cream paper: the darker, the larger; subject and ground each in one ink."""
    canvas = paint(shapes)
    x, y = pixel_grid()
    if shop.variant:
        x, y = (x + y) * 0.75, (x - y) * 0.75  # a screen turned by 45 degrees
    distance = np.hypot((x % PITCH) - PITCH / 2, (y % PITCH) - PITCH / 2) / PITCH
    level = np.clip(1.08 - tone(canvas), 0.06, 1)
    dots = distance < shop.weight * np.sqrt(level) * 0.68
    inside = np.max([mask(s.points) for s in shapes if s.subject], axis=0) > 0
    main = np.array(max((s.colour for s in shapes if s.subject), key=lambda c: max(c) - min(c)))
    ink = np.where(inside[..., None], main * 0.85, np.array([0.12, 0.16, 0.38]))
    return np.where(dots[..., None], ink, np.array([0.98, 0.95, 0.87]))


def stained_glass(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Cut the picture into cells of glowing glass held by black lead."""
    canvas = paint(shapes)
    cells = 6 if shop.variant else 8
    y, x = np.mgrid[0:cells, 0:cells]
    seeds = np.stack([x, y], -1).reshape(-1, 2) + 0.5 + rng.uniform(-0.28, 0.28, (cells * cells, 2))
    seeds *= CANVAS / cells
    py, px = np.mgrid[0:CANVAS, 0:CANVAS]
    squared = (px[..., None] - seeds[:, 0]) ** 2 + (py[..., None] - seeds[:, 1]) ** 2
    nearest = squared.argmin(-1)
    first, second = np.sqrt(np.partition(squared, 1, axis=-1)[..., :2]).transpose(2, 0, 1)
    light = rng.uniform(0.78, 1.2, cells * cells)[nearest][..., None]
    grey = tone(canvas)[..., None]
    glass = np.clip((grey + (canvas - grey) * 1.35) * light, 0, 1)
    lead = np.maximum(
        second - first < 1.3 * SCALE * shop.weight, outlines(shapes, 1.6 * shop.weight) > 0
    )
    return blend(glass, np.array([0.05, 0.05, 0.07]), lead.astype(float))


def pointillism(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Set round dabs of pure, jittered colour on a pale canvas."""
    source = paint(shapes)
    image = Image.new("RGB", (CANVAS, CANVAS), (244, 239, 226))
    draw = ImageDraw.Draw(image)
    pitch = PITCH * SCALE * 0.6  # five times in 16 pixels
    for y in np.arange(pitch / 2, CANVAS, pitch):
        for x in np.arange(pitch / 2, CANVAS, pitch):
            cx, cy = np.clip(np.array([x, y]) + rng.uniform(-0.12, 0.12, 2) * pitch, 0, CANVAS - 1)
            colour = source[int(cy), int(cx)]
            grey = colour.mean()
            jitter = (
                rng.uniform(-0.13, 0.13, 3)
                if shop.variant
                else np.full(3, rng.uniform(-0.14, 0.14))
            )
            colour = np.clip(grey + (colour - grey) * 1.3 + jitter, 0, 1)
            radius = pitch * 0.47 * shop.weight
            draw.ellipse(
                (cx - radius, cy - radius, cx + radius, cy + radius),
                fill=tuple(int(v) for v in colour * 255),
            )
    return np.asarray(image, dtype=float) / 255


def line_drawing(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Draw contours alone, in ink on white paper; the background in a lighter line."""
    far = outlines(shapes, 1.1 * shop.weight)
    near = outlines([s for s in shapes if s.subject], 1.9 * shop.weight)
    inside = np.max([mask(s.points) for s in shapes if s.subject], axis=0)
    ink = np.array([0.1, 0.1, 0.12]) if shop.variant else np.array([0.1, 0.16, 0.45])
    canvas = np.full((CANVAS, CANVAS, 3), 0.99)
    canvas = blend(canvas, ink, far * 0.55 * (1 - inside))
    return blend(canvas, ink, near)


def neon(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Bend glowing tubes along the contours, on a black wall."""
    canvas = np.full((CANVAS, CANVAS, 3), 0.03)
    colours = {True: (1.7, 1.0), False: (1.0, 0.55)}
    for shape_group in (False, True):
        group = [s for s in shapes if s.subject == shape_group]
        width, strength = colours[shape_group]
        hull = np.max([mask(s.points) for s in shapes if s.subject], axis=0)
        for colour in {s.colour for s in group}:
            lines = outlines_of(group, colour, width * shop.weight)
            if not shape_group:
                lines = lines * (1 - hull)
            peak = np.array(colour) / max(*colour, 1e-06)
            glow = blur(lines, 2.6 if shop.variant else 1.6)
            canvas = 1 - (1 - canvas) * (1 - peak * (glow * 1.1 * strength)[..., None].clip(0, 1))
            canvas = blend(canvas, 0.35 + 0.65 * peak, lines * strength)
    return canvas


def outlines_of(shapes: list[Shape], colour: tuple[float, float, float], width: float) -> Layer:
    """Draw the visible outlines of the shapes of one colour; other shapes only hide."""
    image = Image.new("L", (CANVAS, CANVAS))
    draw = ImageDraw.Draw(image)
    for shape in shapes:
        corners = [tuple(p) for p in shape.points * CANVAS]
        draw.polygon(corners, fill=0)
        draw.line(
            [*corners, corners[0]],
            fill=255 if shape.colour == colour else 0,
            width=round(width * SCALE),
            joint="curve",
        )
    return np.asarray(image, dtype=float) / 255


def woodcut(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Carve tones as lines of varying width in one black ink, contours cut white around the subject."""
    canvas = paint(shapes)
    x, y = pixel_grid()
    across = (x + y) * 0.75 if shop.variant else y
    wave = (across + 0.5 * np.sin(2 * np.pi * x / 16)) % PITCH / PITCH
    stroke = np.abs(wave - 0.5) * 2  # 0 in the middle of a line, 1 between two
    level = np.clip(1.02 - tone(canvas), 0, 0.96)
    ink = stroke < level * shop.weight
    inside = np.max([mask(s.points) for s in shapes if s.subject], axis=0)
    halo = blur(inside, 1.0) > 0.1
    black = outlines([s for s in shapes if s.subject], 1.5)
    carved = (stroke < 0.5 * level * shop.weight) | (tone(canvas) < 0.3)
    ink = np.where(inside > 0, carved, ink & ~halo) | (black > 0)
    ink = ink | ((outlines([s for s in shapes if not s.subject], 0.8) > 0) & ~halo)
    return np.where(ink[..., None], np.array([0.08, 0.07, 0.07]), np.array([0.93, 0.88, 0.78]))


def watercolour(shapes: list[Shape], shop: Workshop, rng: np.random.Generator) -> Canvas:
    """Lay transparent washes that bleed, darken at their rims and granulate on white paper."""
    paper = np.full((CANVAS, CANVAS, 3), 0.98)
    x, y = pixel_grid()
    bend = 2.2 * SCALE
    dx = ((clouds(rng, 7) - 0.5) * 2 * bend).astype(int)
    dy = ((clouds(rng, 7) - 0.5) * 2 * bend).astype(int)
    source = paint(shapes)
    rows = np.clip((y * SCALE).astype(int) + dy, 0, CANVAS - 1)
    columns = np.clip((x * SCALE).astype(int) + dx, 0, CANVAS - 1)
    source = source[rows, columns]
    soft = blur(source, 1.3 if shop.variant else 0.9)
    rim = np.clip(np.abs(source - blur(source, 1.2)).sum(-1) * 0.6, 0, 0.35)
    wash = 0.5 + 0.4 * clouds(rng, 6)
    inside = blur(np.max([mask(s.points) for s in shapes if s.subject], axis=0)[rows, columns], 1)
    strength = np.clip(wash * (0.62 + 0.5 * inside) * shop.weight, 0, 1)
    vignette = np.clip(np.minimum(np.minimum(x, y), np.minimum(SIZE - x, SIZE - y)) / 5, 0, 1)
    canvas = blend(paper, soft, strength * vignette)
    return canvas * (1 - rim * vignette)[..., None]


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
        (Workshop("Atelier Confetti", 1, 0), Workshop("Maison Seurel", 1.12, 1)),
    ),
    "line drawing": (
        line_drawing,
        (Workshop("Fine Line Co", 0.95, 0), Workshop("Inkpot Press", 1.3, 1)),
    ),
    "neon": (neon, (Workshop("Tube City", 1, 0), Workshop("Glow Works", 1.15, 1))),
    "woodcut": (woodcut, (Workshop("Kiri Block", 1, 0), Workshop("Old Gouge", 0.9, 1))),
    "watercolour": (
        watercolour,
        (Workshop("Aquarelle Nord", 1, 0), Workshop("Wet Paper", 0.85, 1)),
    ),
}


def draw(shapes: list[Shape], style: str, shop: Workshop, rng: np.random.Generator) -> Image.Image:
    """Draw a scene in one style by one workshop."""
    renderer = STYLES[style][0]
    return finish(renderer(shapes, shop, rng))

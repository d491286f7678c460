"""Raster a scene's shapes on a supersampled canvas: coverage, flat paint, outlines, tone, noise.

In: the shapes of `scenes.compose`. Out: layers [canvas, canvas] and canvases [canvas, canvas, 3], in [0, 1].
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from precompute.shipped.shapes import Points, Shape

SIZE = 64  # pixels a side of a finished picture; a larger one (unrelated.py) has more of them in each of 64 parts
SCALE = 4  # supersampling
CANVAS = SIZE * SCALE

PITCH = 16 / 3  # finished pixels between the dots or lines of a regular screen

Layer = np.ndarray  # [CANVAS, CANVAS] of coverage or tone in [0, 1]
Canvas = np.ndarray  # [CANVAS, CANVAS, 3] in [0, 1]


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


def silhouette(shapes: list[Shape], canvas: int = CANVAS) -> Layer:
    """Give the subject's coverage."""
    return np.max([mask(s.points, canvas) for s in shapes if s.subject], axis=0)


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

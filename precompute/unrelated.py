"""Draw pictures that no training image explains, the null that scores are calibrated against.

In: a number, a seed and a size. Out: RGB pictures; they are drawn square and cut to the size, and lengths are in 64ths of the longer
side, so that a larger picture is the same one with more detail. Noise, gradients, blank pages, patterns and scribbles have nothing to do with
the collection; photographs are crops of those that gradio and matplotlib bring along; and FOREIGN families show the
collection's own scenes in styles that it does not have, the hardest to tell from it.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from attribution.pictures.collection import cropped, open_image
from attribution.pictures.size import Size
from precompute.shipped.backgrounds import BACKGROUNDS
from precompute.shipped.canvas import SCALE, SIZE, blur, finish, outlines, paint, pixel_grid, tone
from precompute.shipped.scenes import compose
from precompute.shipped.shapes import Shape
from precompute.shipped.subjects import SUBJECTS

Family = Callable[[np.random.Generator, int], Image.Image]  # and the side, in pixels


def picture(values: np.ndarray) -> Image.Image:
    """Make a picture of an array [height, width, 3], 0 is black and 1 is white."""
    return Image.fromarray(np.uint8(np.clip(values, 0, 1) * 255 + 0.5))


def colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw any colour."""
    return tuple(int(level) for level in rng.integers(0, 256, 3))


def white_noise(rng: np.random.Generator, side: int) -> Image.Image:
    """Draw every pixel on its own, in colour or in grey."""
    values = rng.uniform(size=(side, side, int(rng.choice([1, 3]))))
    return picture(np.broadcast_to(values, (side, side, 3)))


def coloured_noise(rng: np.random.Generator, side: int) -> Image.Image:
    """Draw noise whose amplitude falls as 1 / frequency ** a, which photographs do with a near one."""
    fx, fy = np.meshgrid(np.fft.rfftfreq(side), np.fft.fftfreq(side))
    falloff = np.maximum(np.hypot(fx, fy), 1 / side) ** -rng.uniform(0.8, 1.6)
    spectrum = np.fft.rfft2(rng.normal(size=(3, side, side)))
    spectrum = spectrum + rng.uniform(0, 2) * spectrum[:1]  # colours that go together
    waves = np.fft.irfft2(spectrum * falloff, (side, side)).transpose(1, 2, 0)
    return picture(rng.uniform(0.35, 0.65) + rng.uniform(0.1, 0.25) * waves / waves.std())


def gradient(rng: np.random.Generator, side: int) -> Image.Image:
    """Blend two colours along a line or from a centre."""
    x, y = np.meshgrid(*2 * [np.arange(side) / side])
    turn, (cx, cy) = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1, 2)
    along = (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn) + 0.5
    amount = along if rng.uniform() < 0.5 else np.hypot(x - cx, y - cy)
    first, second = rng.uniform(size=(2, 3))
    return picture(first + (second - first) * np.clip(amount, 0, 1)[..., None])


def blank_page(rng: np.random.Generator, side: int) -> Image.Image:
    """Fill the page with one colour, often a paper's, with hardly any grain."""
    paper = rng.uniform(0.85, 1, 3) if rng.uniform() < 0.5 else rng.uniform(size=3)
    grain = rng.choice([0, 0.01, 0.03]) * rng.normal(size=(side, side, 1))
    return picture(paper + grain)


def pattern(rng: np.random.Generator, side: int) -> Image.Image:
    """Repeat stripes, checks or rings in two colours."""
    x, y = np.meshgrid(*2 * [np.arange(side) * SIZE / side])
    turn, period, (cx, cy) = rng.uniform(0, np.pi), rng.uniform(5, 24), rng.uniform(0, SIZE, 2)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    waves = {
        "stripes": np.sin(2 * np.pi * u / period),
        "checks": np.sin(2 * np.pi * u / period) * np.sin(2 * np.pi * v / period),
        "rings": np.sin(2 * np.pi * np.hypot(x - cx, y - cy) / period),
    }
    on = waves[str(rng.choice(list(waves)))] > 0
    return picture(np.where(on[..., None], *rng.uniform(size=(2, 3))))


def shapes(rng: np.random.Generator, side: int) -> Image.Image:
    """Scatter discs, boxes and triangles of any colour."""
    image = Image.new("RGB", (side * 4, side * 4), colour(rng))
    draw, unit = ImageDraw.Draw(image), side / SIZE
    for _ in range(rng.integers(3, 14)):
        (x, y), size = rng.uniform(0, side * 4, 2), unit * rng.uniform(15, 70)
        place = (x - size, y - size, x + size, y + size)
        kind = rng.integers(3)
        if kind == 0:
            draw.ellipse(place, fill=colour(rng))
        elif kind == 1:
            draw.rectangle(place, fill=colour(rng))
        else:
            draw.polygon(
                [(x + dx, y + dy) for dx, dy in rng.uniform(-size, size, (3, 2))], fill=colour(rng)
            )
    return image.resize((side, side), Image.Resampling.BOX)


def scribble(rng: np.random.Generator, side: int) -> Image.Image:
    """Write lines of loops and strokes, as illegible handwriting."""
    image = Image.new("RGB", (side * 4, side * 4), tuple(int(v) for v in rng.integers(200, 256, 3)))
    draw, unit = ImageDraw.Draw(image), side / SIZE
    ink = tuple(int(v) for v in rng.integers(0, 110, 3))
    pitch, width = rng.integers(22, 44), int(rng.integers(2, 7))
    for line in range(pitch, SIZE * 4 - 8, pitch):
        x = float(rng.uniform(6, 30))
        while x < SIZE * 4 - 30:
            steps = rng.uniform((1, -0.42), (9, 0.42), (int(rng.integers(4, 14)), 2))
            path = np.stack([x + steps[:, 0].cumsum(), line + steps[:, 1] * pitch], 1)
            points = [tuple(p) for p in path * unit]
            draw.line(points, fill=ink, width=round(width * unit), joint="curve")
            x = float(path[-1, 0]) + rng.uniform(8, 22)
    return image.resize((side, side), Image.Resampling.BOX)


@cache
def photographs() -> list[Image.Image]:
    """Open the photographs that come with two libraries the project needs anyway."""
    places = {"gradio": "media_assets/images", "matplotlib": "mpl-data/sample_data"}
    names = ("cheetah.jpg", "lion.jpg", "tower.jpg", "grace_hopper.jpg")
    folders = [Path(find_spec(name).origin).parent / place for name, place in places.items()]
    return [open_image(path) for f in folders for name in names if (path := f / name).is_file()]


def photograph(rng: np.random.Generator, side: int) -> Image.Image:
    """Crop a photograph at random, and mirror half of the crops."""
    image = photographs()[rng.integers(len(photographs()))]
    cut = int(rng.uniform(0.3, 1) * min(image.size))
    x, y = (int(rng.integers(length - cut + 1)) for length in image.size)
    crop = image.crop((x, y, x + cut, y + cut)).resize((side, side), Image.Resampling.LANCZOS)
    return ImageOps.mirror(crop) if rng.uniform() < 0.5 else crop


def scene(rng: np.random.Generator) -> list[Shape]:
    """Compose any of the collection's subjects before any of its backgrounds."""
    return compose(str(rng.choice(list(SUBJECTS))), str(rng.choice(list(BACKGROUNDS))), rng)


def flat_fill(rng: np.random.Generator, side: int) -> Image.Image:
    """Fill a scene's shapes flat, without any texture."""
    return finish(paint(scene(rng), SCALE * side))


def greyscale(rng: np.random.Generator, side: int) -> Image.Image:
    """Print a flat scene in grey."""
    return ImageOps.grayscale(flat_fill(rng, side)).convert("RGB")


def inverted(rng: np.random.Generator, side: int) -> Image.Image:
    """Print a flat scene as a negative."""
    return ImageOps.invert(flat_fill(rng, side))


def two_tone(rng: np.random.Generator, side: int) -> Image.Image:
    """Stamp a scene's darker half in one ink on one paper, as a stencil does."""
    light = tone(paint(scene(rng), SCALE * side))
    paper, ink = rng.uniform(0.7, 1, 3), rng.uniform(0, 0.5, 3)
    return finish(np.where((light > np.median(light))[..., None], paper, ink))


def pencil(rng: np.random.Generator, side: int) -> Image.Image:
    """Shade a scene with crossing strokes of grey pencil and thin contours."""
    found, canvas = scene(rng), SCALE * side
    dark, (x, y) = 1 - tone(paint(found, canvas)), pixel_grid(canvas)
    page = np.full(dark.shape, 0.96)
    for level, across in ((0.25, x + 1.7 * y), (0.5, x - 1.3 * y), (0.7, x)):
        stroke = np.sin(2 * np.pi * (across / rng.uniform(2.4, 4) + rng.uniform(-0.1, 0.1)))
        page -= 0.28 * ((dark > level) & (stroke > 0.1))
    page -= 0.3 * outlines(found, 0.8, canvas)
    return finish((page + rng.normal(0, 0.05, page.shape))[..., None].repeat(3, 2))


def out_of_focus(rng: np.random.Generator, side: int) -> Image.Image:
    """Blur a flat scene as a lens out of focus does."""
    return finish(blur(paint(scene(rng), SCALE * side), rng.uniform(1.5, 4)))


def relief(rng: np.random.Generator, side: int) -> Image.Image:
    """Press a scene into grey plaster, lit from one corner."""
    return flat_fill(rng, side).filter(ImageFilter.EMBOSS).convert("L").convert("RGB")


def silhouette(rng: np.random.Generator, side: int) -> Image.Image:
    """Cut the subject out of black paper and lay it on one colour."""
    black = [Shape(s.points, (0.05, 0.05, 0.05), True) for s in scene(rng) if s.subject]
    page = Shape(np.array([(0, 0), (1, 0), (1, 1), (0, 1)]), tuple(rng.uniform(0.4, 1, 3)), False)
    return finish(paint([page, *black], SCALE * side))


FAMILIES: dict[str, Family] = {
    "white noise": white_noise,
    "coloured noise": coloured_noise,
    "gradient": gradient,
    "blank page": blank_page,
    "pattern": pattern,
    "shapes": shapes,
    "scribble": scribble,
    "photograph": photograph,
}
FOREIGN: dict[str, Family] = {
    "flat fill": flat_fill,
    "greyscale": greyscale,
    "inverted": inverted,
    "two-tone": two_tone,
    "pencil": pencil,
    "out of focus": out_of_focus,
    "relief": relief,
    "silhouette": silhouette,
}


def draw_unrelated(count: int, seed: int, *sizes: Size) -> tuple[list[Image.Image], list[str]]:
    """Draw `count` pictures, every family and every size about equally often, and name each one's family."""
    families = FAMILIES | FOREIGN
    names = [list(families)[i % len(families)] for i in range(count)]
    images = [
        cropped(families[name](np.random.default_rng([seed, number]), max(size)), size)
        for number, name in enumerate(names)
        for size in [sizes[number // len(families) % len(sizes)]]
    ]
    return images, names

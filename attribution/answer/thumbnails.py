"""Keep how all training pictures look, small, so that a copy of one is found without opening any.

In: a collection. Out: `Thumbnails`, and `rows-thumbnails.safetensors` in the cache folder, in the order of the files' names:
brightness and colour apart, as JPEG keeps them (2.6 kB a picture). A picture of another shape than the model's own (a square, mostly) is
there twice, whole and as the middle that the model sees. It compares nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageOps
from tqdm import tqdm

from attribution.answer.likeness import ADVICE, by_name
from attribution.cache.header import path_of_rows
from attribution.described import read_about, read_described, write_described
from attribution.errors import InputError
from attribution.files import Wanted
from attribution.pictures.collection import Collection
from attribution.pictures.registration import pool
from attribution.pictures.size import Size

GREY, COLOUR = 48, 12  # pixels a side of brightness, and of each of two colour channels
COARSE, COARSE_COLOUR = 8, 4  # the same of a picture's middle
MIDDLE = np.array([0.2, 0.2, 0.6, 0.6], np.float32)  # which every near copy shows
TALL = 0.02  # by which a picture may be wider or higher and still count as one of the model's shape
SQUARE: Size = (1, 1)
LARGE = 256  # pixels of a side beyond which it is shrunk by whole pixels first
AT_ONCE = 4096  # pictures widened together
WHOLE = np.array([[0, 0, 1, 1]], np.float32)


@dataclass(frozen=True)
class Thumbnails:
    """How all training pictures look, a view or two of each."""

    grey: UInt8[np.ndarray, "view grey grey"]
    colour: UInt8[np.ndarray, "view two colour colour"]
    rows: Int[np.ndarray, "view"]  # of the collection

    @cached_property
    def middles(self) -> UInt8[np.ndarray, "view cell"]:
        """Give a coarse view of every picture's middle."""
        parts = [slice(i, i + AT_ONCE) for i in range(0, len(self.rows), AT_ONCE)]
        found = [middles(self.grey[p] / 255, self.colour[p] / 255, MIDDLE[None]) for p in parts]
        return np.concatenate([as_bytes(each) for each in found])


def middles(grey: np.ndarray, colour: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Shrink windows of pictures [view, side, side] and of their colours [view, 2, side, side], in [0, 1], to a row each."""
    grey, colour = grey.astype(np.float32), colour.astype(np.float32)
    windows = np.broadcast_to(windows, (len(grey), 4))
    parts = [pool(grey, windows, COARSE)]
    parts += [pool(colour[:, channel], windows, COARSE_COLOUR) for channel in range(2)]
    return np.concatenate([part.reshape(len(grey), -1) for part in parts], 1)


def split(
    image: Image.Image, grey: int, colour: int
) -> tuple[Float[np.ndarray, "grey grey"], Float[np.ndarray, "two colour colour"]]:
    """Shrink a picture to `grey` cells a side of brightness and `colour` of both colour channels (YCbCr), in [0, 1].

    Each cell is the mean over its area, which Pillow's filters are not unless it is of whole pixels.
    """
    width, height = (max(1, side // LARGE) for side in image.size)  # whole pixels that are joined
    pixels = np.asarray(image.reduce((width, height)).convert("YCbCr"), np.float32) / 255
    channels = pixels.transpose(2, 0, 1)
    brightness, *colours = (
        pool(channel[None], WHOLE, side)[0]
        for channel, side in zip(channels, (grey, colour, colour), strict=True)
    )
    return brightness, np.stack(colours)


def views(image: Image.Image, shape: Size = SQUARE) -> list[Image.Image]:
    """Give a picture as a whole and, where that has not the shape of what the model sees, its middle that has."""
    if has_shape(image, shape):
        return [image]
    fits = _fits(image, shape)
    size = (round(shape[0] * min(fits)), round(shape[1] * min(fits)))
    return [image, ImageOps.fit(image, size, Image.Resampling.LANCZOS)]


def has_shape(image: Image.Image, shape: Size) -> bool:
    """Tell whether a picture has a shape, but for a little."""
    fits = _fits(image, shape)
    return max(fits) <= (1 + TALL) * min(fits)


def _fits(image: Image.Image, shape: Size) -> list[float]:
    return [has / seen for has, seen in zip(image.size, shape, strict=True)]


def make_thumbnails(
    images: Iterable[Image.Image], shape_for: Callable[[Image.Image], Size] = lambda _: SQUARE
) -> Thumbnails:
    """Shrink pictures, in a collection's order; the model sees the shape that is told for each."""
    found = [
        (row, *map(as_bytes, split(view, GREY, COLOUR)))
        for row, image in enumerate(images)
        for view in views(image, shape_for(image))
    ]
    rows, grey, colour = zip(*found, strict=True)
    return Thumbnails(np.stack(grey), np.stack(colour), np.array(rows))


def as_bytes(values: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Keep numbers from 0 to 1 as 8 bits."""
    return np.round(255 * values).astype(np.uint8)


def write_thumbnails(
    folder: Path,
    collection: Collection,
    fingerprints: dict[str, str],
    shape_for: Callable[[Image.Image], Size] = lambda _: SQUARE,
) -> None:
    """Write `rows-thumbnails.safetensors`."""
    order = by_name(collection).tolist()
    shown = tqdm(order, "thumbnails", unit="picture")
    pictures = (collection.image(row) for row in shown)
    made = make_thumbnails(pictures, shape_for)  # rows: places by name
    tensors = {"grey": made.grey, "colour": made.colour, "rows": made.rows.astype(np.int32)}
    tensors = {name: torch.from_numpy(values) for name, values in tensors.items()}
    write_described(path_of_rows(folder, "thumbnails"), tensors, fingerprints, views=len(made.rows))


def read_thumbnails(
    folder: Path, collection: Collection, fingerprints: dict[str, str]
) -> Thumbnails | None:
    """Read a cache's thumbnails; None where it has none, refused where they are of other pictures."""
    path = path_of_rows(folder, "thumbnails")
    if not path.is_file():
        return None
    about = read_about(path, fingerprints, {"views": int}, ADVICE)
    views = about["views"]
    wanted = {
        "grey": Wanted(torch.uint8, (views, GREY, GREY)),
        "colour": Wanted(torch.uint8, (views, 2, COLOUR, COLOUR)),
        "rows": Wanted(torch.int32, (views,)),
    }
    found = {n: t.numpy() for n, t in read_described(path, about, wanted, ADVICE).items()}
    places = found["rows"]
    if not np.array_equal(np.unique(places), np.arange(len(collection))):
        raise InputError(f"{path} is damaged: it is not of every picture; {ADVICE}")
    return Thumbnails(found["grey"], found["colour"], by_name(collection).numpy()[places])

"""Say whether a picture is a training picture, or a near copy of one: resized, cropped, recompressed, mirrored.

A near copy shows at least nine tenths of a training picture's width and height, at any size, mirrored or not, and is
alike all over: in brightness and structure (SSIM, Wang et al. 2004, over each sixteenth) and in colour. Pictures that are
turned, framed, recoloured or cut smaller are not found. In: thumbnails of all training pictures, and a picture. Out: its
`Copy`s, the nearest first. No model is asked.

The middle of every training picture, coarsely, is compared with where it would lie in the picture under each way to crop
and mirror; the best few are registered (registration.py), and of these the best are compared closely.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from attribution.answer.thumbnails import (
    COLOUR,
    MIDDLE,
    WHOLE,
    Thumbnails,
    has_shape,
    middles,
    split,
)
from attribution.pictures.registration import pool, register
from attribution.pictures.size import Size
from attribution.sentence import Sentence

SIDE = 64  # pixels a side at which a picture is looked at
NAMED, STARTS, LAST = (
    12,
    3,
    4,
)  # training pictures registered, windows tried for each, pictures compared closely
ROUGH, FINE, STEPS = 12, 16, 5  # cells a side when windows are registered, and steps of each
WIDEST = 256  # pixels of the longer side of a picture that is looked at as a whole
LEAST = 16  # pixels of the shorter side of a picture that can be told from others
BLOCKS = 4  # a side
STEADY = 1e-3, 2e-3  # constants of SSIM, for brightness and for structure
UNLIKE = 0.06  # 1 - SSIM of a near copy, at most
OFF_COLOUR = 0.06  # root mean square difference of its colour channels, at most
SAME = 0.01  # both, and how far a window may be off, of the training picture itself
AT_ONCE = 65_536  # middles widened together


def _crops() -> Float[np.ndarray, "crop 4"]:
    """List ways to crop: 0 or 7 % of each side, 10 % of both."""
    ends = [(0, 1), (0, 0.93), (0.07, 0.93)]
    by_side = [(x, y, w, h) for x, w in ends for y, h in ends]
    by_both = [(x / 20, y / 20, 0.9, 0.9) for x in range(3) for y in range(3)]
    return np.array([*by_side, *by_both, (0.035, 0.035, 0.93, 0.93)], np.float32)


CROPS = _crops()


@dataclass(frozen=True)
class Copy:
    """A training picture that a picture repeats."""

    row: int  # of the collection
    same: bool  # the training picture itself, as far as its looks tell
    mirrored: bool
    window: tuple[
        float, ...
    ]  # what it shows of it: left, top, width, height, in shares of its sides
    unlike: float  # 1 - SSIM
    off_colour: float  # root mean square difference


def told(file: str, artist: str, same: bool, mirrored: bool) -> Sentence:
    """Say in one sentence what a picture repeats."""
    whose: str = Sentence("{file} by {artist}", file=file, artist=artist) if artist else file
    if same:
        return Sentence("This picture is in the training set: {whose}.", whose=whose)
    if mirrored:
        return Sentence(
            "This picture is a near copy of a training picture, mirrored: {whose}.", whose=whose
        )
    return Sentence("This picture is a near copy of a training picture: {whose}.", whose=whose)


def find_copies(
    image: Image.Image, known: Thumbnails, hidden: Bool[np.ndarray, "train"] | None = None
) -> list[Copy]:
    """Find the training pictures that a picture is or nearly copies, but for `hidden` ones."""
    if min(image.size) < LEAST:
        return []
    every = compare(image, known, hidden)
    return [copy for copy in every if copy.unlike <= UNLIKE and copy.off_colour <= OFF_COLOUR]


def find_in_any(
    looks: Sequence[Image.Image], known: Thumbnails, hidden: Bool[np.ndarray, "train"] | None = None
) -> list[Copy]:
    """Find the training pictures that any look at one picture is or nearly copies, each as it is nearest."""
    every = [copy for look in looks for copy in find_copies(look, known, hidden)]
    nearest = {copy.row: copy for copy in sorted(every, key=_how_far, reverse=True)}
    return sorted(nearest.values(), key=_how_far)[:LAST]


def whole_of(image: Image.Image, size: Size) -> Image.Image | None:
    """Give an RGB picture as a whole, small; None where what the model sees of it, of a size, has its shape already.

    None, too, for one so narrow that it cannot be told from others.
    """
    if has_shape(image, size):
        return None
    if max(image.size) > WIDEST:
        width, height = (max(1, round(WIDEST * side / max(image.size))) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return image if min(image.size) >= LEAST else None


def compare(
    image: Image.Image, known: Thumbnails, hidden: Bool[np.ndarray, "train"] | None = None
) -> list[Copy]:
    """Compare a picture with the training pictures that look most like it, the nearest first, copies or not."""
    grey, colour = split(image, SIDE, SIDE)
    grey = np.stack([grey, grey[:, ::-1]])  # as it is, and mirrored
    colour = np.stack([colour, colour[..., ::-1]])
    views, ways = _search(grey, colour, known, hidden)
    mirrored, crops = ways // len(CROPS), CROPS[ways % len(CROPS)]
    thumbnails = known.grey[views].astype(np.float32) / 255

    shown = pool(grey, np.repeat(WHOLE, 2, 0), ROUGH)[mirrored]
    windows, loss = register(shown, thumbnails, crops, STEPS)
    best = _best_of_each(known.rows[views], loss)[:LAST]
    views, mirrored, thumbnails = views[best], mirrored[best], thumbnails[best]
    shown = pool(grey, np.repeat(WHOLE, 2, 0), FINE)[mirrored]
    windows, _ = register(shown, thumbnails, windows[best], STEPS)

    unlike = 1 - similarity(pool(thumbnails, windows, FINE), shown)
    off = _off_colour(known.colour[views].astype(np.float32) / 255, windows, colour[mirrored])
    found = [
        Copy(
            int(known.rows[view]),
            bool(max(u, o, abs(window - WHOLE).max()) <= SAME and not turned),
            bool(turned),
            tuple(window.tolist()),
            float(u),
            float(o),
        )
        for view, turned, window, u, o in zip(views, mirrored, windows, unlike, off, strict=True)
    ]
    return sorted(found, key=_how_far)


def _how_far(copy: Copy) -> tuple[bool, float]:
    return not copy.same, copy.unlike


def _search(
    grey: np.ndarray, colour: np.ndarray, known: Thumbnails, hidden: np.ndarray | None
) -> tuple[Int[np.ndarray, "found"], Int[np.ndarray, "found"]]:
    """Give the views that a picture's middle looks like, each with the best STARTS ways to mirror and crop."""
    inside = np.concatenate(
        [(MIDDLE[:2] - CROPS[:, :2]), np.broadcast_to(MIDDLE[2:], (len(CROPS), 2))], 1
    )
    inside = inside / np.tile(CROPS[:, 2:], 2)  # where the middle lies in what is left
    every = np.tile(inside, (2, 1))
    turned = np.repeat([0, 1], len(CROPS))
    looks = middles(grey[turned], colour[turned], every)  # [way, cell]
    views, apart = np.empty(0, np.int64), np.empty((len(looks), 0), np.float32)
    for first in range(0, len(known.rows), AT_ONCE):
        some = np.arange(first, min(first + AT_ONCE, len(known.rows)))
        if hidden is not None:
            some = some[~hidden[known.rows[some]]]
        cells = known.middles[some].astype(np.float32) / 255
        found = np.square(cells).sum(1) - 2 * looks @ cells.T + np.square(looks).sum(1)[:, None]
        views, apart = np.concatenate([views, some]), np.concatenate([apart, found], 1)
        best = apart.min(0).argsort(kind="stable")[:NAMED]
        views, apart = views[best], apart[:, best]
    ways = apart.argsort(0, kind="stable")[:STARTS]
    return np.tile(views, STARTS), ways.reshape(-1)


def _best_of_each(rows: Int[np.ndarray, "found"], loss: np.ndarray) -> Int[np.ndarray, "row"]:
    """Give the place of each row's least loss, the least first."""
    order = loss.argsort(kind="stable")
    return order[np.sort(np.unique(rows[order], return_index=True)[1])]


def similarity(one: np.ndarray, other: np.ndarray) -> Float[np.ndarray, "batch"]:
    """Give the mean over blocks of SSIM, (2ab + c)/(a² + b² + c) of means times the same of what is left (eq. 13 there)."""
    (mean, rest), (mean2, rest2) = _blocks(one), _blocks(other)
    for_mean, for_rest = STEADY
    brightness = (2 * mean * mean2 + for_mean) / (mean**2 + mean2**2 + for_mean)
    both = (rest * rest2).mean(-1)
    structure = (2 * both + for_rest) / ((rest**2).mean(-1) + (rest2**2).mean(-1) + for_rest)
    return (brightness * structure).mean(1)


def _blocks(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    batch, side, _ = pictures.shape
    cut = pictures.reshape(batch, BLOCKS, side // BLOCKS, BLOCKS, side // BLOCKS)
    cut = cut.transpose(0, 1, 3, 2, 4).reshape(batch, BLOCKS**2, -1)
    mean = cut.mean(-1)
    return mean, cut - mean[..., None]


def _off_colour(
    known: np.ndarray, windows: np.ndarray, shown: np.ndarray
) -> Float[np.ndarray, "batch"]:
    """Give the root mean square difference of colours, over cells as large as a thumbnail's."""
    apart = [
        pool(known[:, c], windows, COLOUR)
        - pool(shown[:, c], np.repeat(WHOLE, len(shown), 0), COLOUR)
        for c in range(2)
    ]
    return np.sqrt(np.square(np.stack(apart)).mean((0, 2, 3)))

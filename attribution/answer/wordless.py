"""Say of a picture without words how much better a model knows it than the same picture told otherwise.

A model that reads no words has no phrase to compare with none. So the picture is compared with itself upside down, turned,
inverted, in other colours and in shuffled tiles, which keep how simple it is, and with it most of its loss:

    e(x) = mean over changes f and noise of log( loss(f(x)) / loss(x) )

This is the likelihood ratio that tells what a model learned from how easy a picture is (arXiv 1909.11480 takes a
compressor for the second part). It is near zero for what looks as likely either way. In: a picture. Out: its evidence, in natural
logarithms. It is weak where a collection's own pictures hang upside down.
"""

import numpy as np
import torch
from PIL import Image, ImageOps

from attribution.concepts import denoising_losses
from attribution.models.encoded import Encoded
from attribution.pictures.collection import cropped
from attribution.seeds import generator

TILES = 4  # along a side


def shuffled(image: Image.Image) -> Image.Image:
    """Put the tiles of a picture into another order, always the same; what is over at the edges stays."""
    pixels = np.array(image)
    height, width = (side // TILES for side in pixels.shape[:2])
    places = [(y * height, x * width) for y in range(TILES) for x in range(TILES)]
    order = torch.randperm(len(places), generator=generator("tiles")).tolist()
    tiles = [pixels[y : y + height, x : x + width].copy() for y, x in places]
    for (y, x), source in zip(places, order, strict=True):
        pixels[y : y + height, x : x + width] = tiles[source]
    return Image.fromarray(pixels)


CHANGES = (
    ImageOps.flip,
    lambda image: image.transpose(Image.Transpose.ROTATE_90),
    lambda image: image.transpose(Image.Transpose.ROTATE_180),
    ImageOps.invert,
    lambda image: Image.merge("RGB", image.split()[2:] + image.split()[:2]),
    shuffled,
)


def known_as_it_is(seen: Encoded) -> float:
    """Give the evidence of a picture for which there are no words."""
    image = cropped(seen.images[0], seen.model.size_for(seen.images[0]))
    own = denoising_losses(seen, [""]).log().mean()
    changes = [change(image) for change in CHANGES]
    # A picture that is not square would lose some of what it shows where it lies on its side.
    others = [Encoded(seen.model, [each]) for each in changes if each.size == image.size]
    changed = torch.stack([denoising_losses(other, [""]).log().mean() for other in others])
    return float(changed.mean() - own)

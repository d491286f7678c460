"""Tell a picture that the model drew from others: it hardly changes on its way through the autoencoder and back.

What a latent diffusion model draws is decoded from latents, and so close to what its autoencoder can express; of other
pictures details are lost (AEROBLADE, arXiv 2401.17879). A picture without details loses none either, so that the change is
measured against them, with L the pixels and D, E the decoder and encoder:

    trace(x) = log( mean (∂L)² / mean (L - D(E(L)))² )

In: a model and a picture. Out: a number. It needs no words, and is compared with others' in calibration.py. Who shares the
autoencoder shares the trace, and who resizes the picture or saves it as a JPEG weakens it.
"""

import math

import numpy as np
from PIL import Image

from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import cropped

LEAST = 1.0  # of 255 shades, squared: what rounding to 8 bits may do to detail and change


def trace(model: DiffusionModel, image: Image.Image) -> float:
    """Give how small the change is for as much detail as there is, in natural logarithms."""
    size = model.size_for(image)
    seen = cropped(image, size)
    [back] = model.decode(model.latents([seen], size))
    before, after = (np.asarray(each, np.float64) for each in (seen, back))
    detail = sum(np.square(np.diff(before, axis=axis)).mean() for axis in (0, 1))
    return math.log((detail + LEAST) / (np.square(before - after).mean() + LEAST))

"""Score training images without any gradient: nonparametric attribution and plain likeness.

In: a collection and generated pictures. Out: each baseline's name and scores [query, train], in the collection's
order. Of the model only its autoencoder and its noise schedule are used.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from attribution.answer.nda import nda_scores
from attribution.answer.queries import Query
from attribution.answer.similarity import (
    caption_scores,
    latent_scores,
    pixel_scores,
    texture_scores,
)
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import Collection, to_pixels

TIMESTEPS = 10
BATCH = 64


def baseline_scores(
    model: DiffusionModel, collection: Collection, queries: list[Query]
) -> Iterator[tuple[str, Float[Tensor, "query train"]]]:
    """Score with every baseline in turn."""
    images = [collection.image(i) for i in range(len(collection))]
    asked = [q.image for q in queries]
    pixels = [to_pixels(some, model.size) for some in (asked, images)]
    spacing = model.num_timesteps / TIMESTEPS
    timesteps = ((torch.arange(TIMESTEPS) + 0.5) * spacing).long()
    yield "nda", nda_scores(*pixels, model.schedule.signal.cpu()[timesteps])
    yield "pixels", pixel_scores(*pixels)
    yield "textures", texture_scores(*pixels)
    latents = [
        torch.cat([model.latents(some[i : i + BATCH]).cpu() for i in range(0, len(some), BATCH)])
        for some in (asked, images)
    ]
    yield "latents", latent_scores(*latents)
    yield "captions", caption_scores([q.prompt for q in queries], collection.captions)

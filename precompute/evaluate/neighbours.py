"""Score by nearness alone, which every attribution must beat: of pixels, of latents and of words.

In: generated pictures with their prompts, and a collection. Out: scores `[query, train]`. It knows no gradients.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attribution.collection import Collection, to_pixels
from attribution.model import DiffusionModel
from precompute.queries import Query, encode


def score_neighbours(
    model: DiffusionModel, collection: Collection, queries: list[Query]
) -> dict[str, Float[Tensor, "query train"]]:
    """Score by nearness alone: of pixels, of latents, and of words (rare ones count more)."""
    images = [q.image for q in queries]
    pixels = to_pixels([collection.image(i) for i in range(len(collection))], model.resolution)
    asked = to_pixels(images, model.resolution)
    captions = [_words(caption) for caption in collection.captions]
    rarity = {
        word: np.log(len(captions) / sum(word in c for c in captions))
        for word in set().union(*captions)
    }
    shared = [
        [sum(rarity[word] for word in _words(q.prompt) & caption) for caption in captions]
        for q in queries
    ]
    train, latents = encode(model, collection), model.latents(images)
    return {
        "pixels": -torch.cdist(asked.flatten(1), pixels.flatten(1)),
        "latents": -torch.cdist(latents.flatten(1), train.flatten(1)),
        "captions": torch.tensor(shared),
    }


def _words(text: str) -> set[str]:
    return set(text.replace(",", "").split())

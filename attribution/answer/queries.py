"""Draw the generated pictures that weights are fitted on and that answers are measured on.

In: a model, a collection and a purpose, which has seeds of its own (seeds.py). Out: lists of `Query`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attribution.answer.questions import GENERAL, query_features
from attribution.concepts import captioned, combinations, full_prompt
from attribution.errors import InputError
from attribution.gradients.features import FeatureExtractor
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection
from attribution.progress import counted
from attribution.seeds import FIRST_SEED

BATCH = 32


@dataclass(frozen=True)
class Query:
    """A generated picture, the values it was asked to show, and the prompt that named them."""

    image: Image.Image
    values: dict[str, str]  # concept -> value; only what the prompt named
    prompt: str


def draw_queries(
    model: DiffusionModel,
    collection: Collection,
    wanted: list[dict[str, str]],
    purpose: str,
    prompts: list[str] | None = None,
) -> list[Query]:
    """Generate a picture for each set of values, with seeds that belong to one purpose alone.

    The values are written out as prompts unless `prompts` are given.
    """
    if prompts is None:
        phrases = map(collection.phrases, wanted)
        prompts = [full_prompt(p, collection.sentence) for p in phrases]
    seeds = [FIRST_SEED[purpose] + i for i in range(len(wanted))]
    images: list[Image.Image] = []
    bar = counted(None, f"drawing {purpose} queries", "picture", len(wanted))
    for start in range(0, len(wanted), BATCH):
        part = slice(start, start + BATCH)
        images += model.generate(prompts[part], seeds[part])
        bar.update(len(prompts[part]))
    bar.close()
    return [Query(*row) for row in zip(images, wanted, prompts, strict=True)]


def draw_known(
    model: DiffusionModel, collection: Collection, count: int, purpose: str, seed: int = 0
) -> list[Query]:
    """Draw pictures of combinations that the model knows, or of captions where no concept is named."""
    if collection.concepts:
        wanted = combinations(collection, held_out=False, count=count, seed=seed)
        return draw_queries(model, collection, wanted, purpose)
    prompts = captioned(collection, count, seed)
    return draw_queries(model, collection, [{}] * count, purpose, prompts)


def questions(
    extractor: FeatureExtractor,
    collection: Collection,
    queries: list[Query],
    concepts: dict[str, list[str]] | None = None,
    wordless: bool = False,
) -> dict[str, Float[Tensor, "query group dim"]]:
    """Make the features of every question about generated pictures, which know their own prompts.

    `concepts` (concept -> a phrase for each picture) asks in other words than the prompts' own; with `wordless`,
    features under no words come, too.
    """
    if concepts is None:
        named = collection.concepts
        for concept in named:
            silent = sum(concept not in q.values for q in queries)
            if silent:
                raise InputError(
                    f"{silent} of {len(queries)} queries name no {concept}; name one in each"
                )
        concepts = {c: [named[c][q.values[c]] for q in queries] for c in named}
        asked = {GENERAL: [q.prompt for q in queries]} | concepts
    else:
        asked = concepts
    parts = []
    for start in counted(range(0, len(queries), BATCH), "gradients of queries", "batch"):
        part = slice(start, start + BATCH)
        seen = Encoded(extractor.model, [q.image for q in queries[part]])
        words = {name: words[part] for name, words in asked.items()}
        parts.append(query_features(extractor, seen, words, wordless=wordless))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def encode(
    model: DiffusionModel, collection: Collection
) -> Float[Tensor, "train channel height width"]:
    """Encode all pictures of a collection, all at the size of drawings, so that they can be compared."""
    rows = [range(i, i + BATCH) for i in range(0, len(collection), BATCH)]
    found = [[collection.image(i) for i in part if i < len(collection)] for part in rows]
    return torch.cat([model.latents(images) for images in found])

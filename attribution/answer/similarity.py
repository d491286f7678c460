"""Rank training images by plain likeness to a query: the baselines that influence has to beat.

In: pixels, latents or captions. Out: scores [query, train], more is more alike. It takes no gradient.
"""

import re

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from attribution.answer.nda import squared_distances


def pixel_scores(
    queries: Float[Tensor, "query *shape"], train: Float[Tensor, "train *shape"]
) -> Float[Tensor, "query train"]:
    """Give - || x - y ||^2."""
    return -squared_distances(queries.flatten(1), train.flatten(1))


def latent_scores(
    queries: Float[Tensor, "query *shape"], train: Float[Tensor, "train *shape"]
) -> Float[Tensor, "query train"]:
    """Give the cosine of latents."""
    return functional.normalize(queries.flatten(1)) @ functional.normalize(train.flatten(1)).T


def caption_scores(queries: list[str], train: list[str]) -> Float[Tensor, "query train"]:
    """Give the share of words that two captions have in common (Jaccard)."""
    asked, known = (
        [set(re.findall(r"\w+", t.lower())) for t in texts] for texts in (queries, train)
    )
    return torch.tensor([[len(a & b) / max(1, len(a | b)) for b in known] for a in asked])

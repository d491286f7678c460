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


def texture_scores(
    queries: Float[Tensor, "query 3 height width"], train: Float[Tensor, "train 3 height width"]
) -> Float[Tensor, "query train"]:
    """Give the cosine of textures: how the pixels of 5 x 5 patches vary together, wherever they lie.

    It is Gatys' description of style (arXiv 1508.06576, eq. 4) with patches in place of a network's features.
    """
    return latent_scores(_textures(queries), _textures(train))


def _textures(pixels: Float[Tensor, "image 3 height width"]) -> Float[Tensor, "image 75 75"]:
    """Give the covariance of 5 x 5 patches, its entries pulled together by a signed square root."""
    found = []
    for part in pixels.split(256):
        patches = functional.unfold(part, 5, stride=2)
        patches = patches - patches.mean(2, keepdim=True)
        covariance = patches @ patches.mT / patches.shape[2]
        found.append(covariance.sign() * covariance.abs().sqrt())
    return torch.cat(found)


def caption_scores(queries: list[str], train: list[str]) -> Float[Tensor, "query train"]:
    """Give the share of words that two captions have in common (Jaccard)."""
    asked, known = (
        [set(re.findall(r"\w+", t.lower())) for t in texts] for texts in (queries, train)
    )
    return torch.tensor([[len(a & b) / max(1, len(a | b)) for b in known] for a in asked])

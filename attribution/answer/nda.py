"""Attribute without a model, by where the best possible denoiser would take a query's patches from.

For squares of pixels x_p of the query and y of all training images, with abar_t = signal left at timestep t,

    p(y | x_p, t) = softmax over all y of - abar_t || x_p - y ||^2 / (2 (1 - abar_t))
    score(n) = mean_t sum_p sum_{y in n} p(y | x_p, t)           (NDA, arXiv 2510.14269)

Departures: the query is scaled, not noised, so that an answer is no matter of chance, there is one scale of
patches, and patches do not overlap. In: pixels in [-1, 1]. Out: scores [query, train]. It knows no model.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from attribution.errors import InputError


def nda_scores(
    queries: Float[Tensor, "query channel height width"],
    train: Float[Tensor, "train channel height width"],
    signal: Float[Tensor, "timestep"],  # abar_t at evenly spaced timesteps
    patch: int = 8,
) -> Float[Tensor, "query train"]:
    """Give every training image's share of each query's patches; a query's shares add up to one."""
    if any(side % patch for side in queries.shape[2:]):
        raise InputError(
            f"pictures of {tuple(queries.shape[2:])} do not divide into patches of {patch}; choose another size"
        )
    strength = signal / (2 * (1 - signal).clamp_min(1e-6))
    known = patches(train, patch)  # [train, position, value]
    found = []
    for query in queries:  # one at a time: distances to all patches are held
        distances = squared_distances(patches(query[None], patch)[0], known.flatten(0, 1))
        shares = torch.zeros(len(train))
        for factor in strength:
            chance = (-factor * distances).softmax(1)
            shares += chance.sum(0).unflatten(0, (len(train), -1)).sum(1)
        found.append(shares / (len(strength) * len(distances)))
    return torch.stack(found)


def patches(
    images: Float[Tensor, "image channel height width"], side: int
) -> Float[Tensor, "image position value"]:
    """Cut pictures into squares that do not overlap."""
    return functional.unfold(images, side, stride=side).mT.contiguous()


def squared_distances(
    queries: Float[Tensor, "query value"], train: Float[Tensor, "train value"]
) -> Float[Tensor, "query train"]:
    """Give || x - y ||^2 of every pair."""
    squares = queries.square().sum(1, keepdim=True) + train.square().sum(1)
    return torch.addmm(squares, queries, train.T, alpha=-2).clamp_min(0)

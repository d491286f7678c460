"""Share a picture's positive influence among the artists of its training images.

    share_a = sum of (z_n - level)+ over the images n of artist a, divided by the same sum over all images

z_n is an image's standardised score. Thousands of images a little above average would add up to a flat answer,
so only what stands more than `level` standard deviations above the average counts. In: scores and a name for each
training image. Out: shares that add up to one. A share says how the list divides, not what is owed.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from attribution.seeds import generator

LEVEL = 2.0  # standard deviations above the average training image
RESAMPLES = 1000


@dataclass(frozen=True)
class Share:
    """One artist's part of the positive influence, with a 95 % interval."""

    artist: str
    share: float
    low: float
    high: float


def portions(scores: Float[Tensor, "train"], level: float = LEVEL) -> Float[Tensor, "train"]:
    """Give every image's share of what stands out; all zero where no image does."""
    centred = scores - scores.mean()
    above = (centred / centred.square().mean().sqrt().clamp_min(1e-12) - level).clamp_min(0)
    return above / above.sum().clamp_min(1e-12)


def share_out(
    scores: Float[Tensor, "train"], names: list[str], level: float = LEVEL, seed: int = 0
) -> list[Share]:
    """Give every name's share, the largest first; none where no image stands out of the average.

    The interval resamples training images (each counts Poisson(1) times, the bootstrap of a large set), so it
    tells how much hangs on a few of them. It does not know how uncertain the scores are.
    """
    above = portions(scores, level)
    places = above.nonzero()[:, 0]
    known = sorted(set(names))
    owners = torch.tensor([known.index(names[place]) for place in places.tolist()])
    if not len(places):
        return []
    mass = torch.zeros(len(places), len(known))
    mass[torch.arange(len(places)), owners] = above[places]
    counts = torch.poisson(
        torch.ones(RESAMPLES, len(places)), generator=generator("shares", seed)
    )  # [resample, image]
    drawn = counts @ mass
    drawn = drawn / drawn.sum(1, keepdim=True).clamp_min(1e-12)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975]), dim=0)
    whole = mass.sum(0) / mass.sum()
    rows = zip(known, whole.tolist(), low.tolist(), high.tolist(), strict=True)
    return sorted((Share(*row) for row in rows), key=lambda s: (-s.share, s.artist))

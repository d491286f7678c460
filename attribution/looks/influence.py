"""Say which drawn pictures lean on some training images, such as an artist's, and with what share of each.

In: answers for pictures that the model drew, and which rows are asked about. Out: `Influence`. Only pictures count whose list
is hardly named by chance (answer/lists.py): of all others nobody can tell what they lean on. A share is that of
answer/shares.py; its mean over pictures has a 95 % bootstrap interval. It knows no names and no likeness.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from attribution.answer.answer import Answer
from attribution.answer.shares import RESAMPLES, portions
from attribution.answer.verdict import SOME
from attribution.seeds import generator

LEAST = 0.01  # the share from which a picture is said to lean on something


@dataclass(frozen=True)
class Influence:
    """What drawn pictures owe to some training images."""

    drawn: int  # pictures that were looked at
    judged: int  # of which it is known how often chance makes such a list
    above: int  # whose list is above the threshold
    level: float  # the threshold: how often chance may do as well
    leaning: tuple[tuple[int, float], ...]  # of these, place and share, the largest share first
    share: float  # the mean of all above the threshold, none left out
    low: float
    high: float


def influence(
    answers: Sequence[Answer], rows: Bool[Tensor, "train"], level: float = SOME
) -> Influence:
    """Add up what some training images have of each drawn picture's positive influence."""
    known = [(place, answer.list_p_value()) for place, answer in enumerate(answers)]
    judged = [(place, p) for place, p in known if p is not None]
    above = [place for place, p in judged if p <= level]
    shares = {place: float(portions(answers[place].mix(general=1))[rows].sum()) for place in above}
    leaning = sorted(((n, s) for n, s in shares.items() if s >= LEAST), key=lambda each: -each[1])
    mean, low, high = _mean(list(shares.values()))
    return Influence(len(answers), len(judged), len(above), level, tuple(leaning), mean, low, high)


def _mean(shares: list[float]) -> tuple[float, float, float]:
    """Give the mean, and the middle 95 % of means of as many pictures drawn with replacement."""
    if not shares:
        return 0.0, 0.0, 0.0
    values = torch.tensor(shares)
    places = torch.randint(len(shares), (RESAMPLES, len(shares)), generator=generator("influence"))
    low, high = values[places].mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
    return float(values.mean()), low, high

"""Say who answers a query: a pass over all rows, or something that looks at fewer of them or elsewhere.

    s(n) = <x, f_n>,    x = [w_j K_j q_j], one vector over all groups

A mix of questions is one more such vector, so that moving a slider is one more call. In: vectors x, weighted and with the
kernel applied. Out: the first rows with exact scores, and mean and spread of all rows' scores, by which scores are
standardised. It knows neither pictures nor questions.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from attribution.cache.scoring import sums, top
from attribution.cache.store import Cache

EVERY = "Every training picture was scored."


@dataclass(frozen=True)
class First:
    """The first rows of each query, best first, by their places in the cache."""

    scores: Float[Tensor, "query count"]
    places: Int[Tensor, "query count"]


@dataclass(frozen=True)
class Moments:
    """How all rows' scores are spread, for each query."""

    mean: Float64[Tensor, "query"]
    spread: Float64[Tensor, "query"]  # standard deviation

    @classmethod
    def of(cls, mean: Float64[Tensor, "query"], square: Float64[Tensor, "query"]) -> "Moments":
        """Take the mean of scores and that of their squares."""
        return cls(mean, (square - mean.square()).clamp_min(0).sqrt())


@runtime_checkable  # for the tests, which check every type
class Search(Protocol):
    """What an answer asks for its list."""

    @property
    def name(self) -> str:
        """Give its kind: exact, index or cluster."""
        ...

    @property
    def said(self) -> str:
        """Say in a sentence how exact it is."""
        ...

    def first(self, asked: Float[Tensor, "query group dim"], count: int) -> First:
        """Give the first rows of each query, with exact scores."""
        ...

    def moments(self, asked: Float[Tensor, "query group dim"]) -> Moments:
        """Give mean and spread of all rows' scores."""
        ...


@dataclass(frozen=True)
class Exact:
    """A pass over all rows of a cache on this machine, which keeps no more than the first."""

    cache: Cache
    name: str = "exact"
    said: str = EVERY

    def first(self, asked: Float[Tensor, "query group dim"], count: int) -> First:
        """Pass over all rows, in the groups alone that are asked about."""
        scores = torch.empty(len(asked), 0)
        places = torch.empty(len(asked), 0, dtype=torch.long)
        for start, stored in self.cache.stream():
            found = sums_of_some(asked, stored)
            here = torch.arange(start, start + stored.shape[2]).expand_as(found)
            scores, places = torch.cat([scores, found], 1), torch.cat([places, here], 1)
            order = top(scores, count)
            scores, places = scores.gather(1, order), places.gather(1, order)
        return First(scores, places)

    def moments(self, asked: Float[Tensor, "query group dim"]) -> Moments:
        """Sum scores and their squares in one pass."""
        total, square = torch.zeros(2, len(asked), dtype=torch.float64)
        for _, stored in self.cache.stream():
            found = sums_of_some(asked, stored).double()
            total, square = total + found.sum(1), square + found.square().sum(1)
        return Moments.of(total / len(self.cache), square / len(self.cache))


def sums_of_some(
    asked: Float[Tensor, "query group dim"],
    stored: Tensor,  # [group, dim, row]
) -> Float[Tensor, "query row"]:
    """Sum inner products over the groups that any query asks about; the others are not read."""
    used = asked.any(2).any(0).nonzero()[:, 0]
    if len(used) == len(stored):
        return sums(asked, stored)
    return sums(asked[:, used], stored.index_select(0, used))  # copies whole rows; a mask, numbers

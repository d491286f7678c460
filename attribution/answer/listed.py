"""Hold an answer of which only the first training images are known, because a search did not score them all.

It stands where the scores of every training image would: by the same names, and who asks for all scores of one is refused
in a sentence, so that nothing is worked out from a part as if it were all. A mix of questions is one vector,

    s(n) = sum_c a_c (<x_c, f_n> - mean_c) / spread_c = <sum_c a_c x_c / spread_c, f_n> - sum_c a_c mean_c / spread_c

and moving a slider asks the search for its first images anew. In: vectors and moments. Out: rows and scores.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attribution.cache.scoring import sums
from attribution.cache.search import Search
from attribution.cache.store import Cache
from attribution.errors import InputError
from attribution.sentence import Sentence

NEEDS_ALL = "this needs the score of every training picture, and the answer came by {by}, which lists the first alone; answer by a pass over all (ATTRIBUTION_SEARCH=exact, or search='exact')"  # fmt: skip
FLAT = "every training image scores the same, so that none can be named; describe the picture in words, or make cache and weights again from more images"  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """One question, weighted and with the kernel applied, and how all images' scores are spread."""

    vector: Float[Tensor, "group dim"]
    mean: float
    spread: float


@dataclass(frozen=True, eq=False)
class Listed(Mapping):  # of tensors; tests that check types would ask for one if that were said
    """Questions whose first training images a search finds."""

    search: Search
    cache: Cache
    order: Int[Tensor, "train"]  # each of the cache's rows among the collection's
    questions: dict[str, Asked]

    @classmethod
    def of(
        cls,
        search: Search,
        cache: Cache,
        order: Int[Tensor, "train"],
        asked: dict[str, Float[Tensor, "group dim"]],
    ) -> "Listed":
        """Take the moments of weighted questions."""
        found = search.moments(torch.stack(list(asked.values())))
        both = zip(found.mean.tolist(), found.spread.tolist(), strict=True)
        questions = {n: Asked(v, *pair) for (n, v), pair in zip(asked.items(), both, strict=True)}
        if not all(each.spread > 1e-6 * abs(each.mean) for each in questions.values()):
            raise InputError(FLAT)  # NaN, too
        return cls(search, cache, order, questions)

    def __getitem__(self, name: str) -> Tensor:
        raise InputError(Sentence(NEEDS_ALL, by=self.search.name))

    def __contains__(self, name: object) -> bool:
        return name in self.questions

    def __iter__(self) -> Iterator[str]:
        return iter(self.questions)

    def __len__(self) -> int:
        return len(self.questions)

    def __or__(self, other: "Listed") -> "Listed":
        return Listed(self.search, self.cache, self.order, self.questions | other.questions)

    def first(
        self, count: int, shares: dict[str, float]
    ) -> tuple[Int[Tensor, "count"], Float[Tensor, "count"]]:
        """Give the collection's rows that score highest in a convex mix, and their scores."""
        vector, offset = self._mixed(shares)
        found = self.search.first(vector[None], count)
        return self.order[found.places[0]], found.scores[0] - offset

    def at(self, row: int, shares: dict[str, float]) -> float:
        """Give one training image's score in a convex mix."""
        vector, offset = self._mixed(shares)
        place = (self.order == row).nonzero()[0]
        return float(sums(vector[None], self.cache.stored_at(place))) - offset

    def _mixed(self, shares: dict[str, float]) -> tuple[Float[Tensor, "group dim"], float]:
        parts = [(self.questions[name], share) for name, share in shares.items() if share]
        vector = torch.stack([each.vector * (share / each.spread) for each, share in parts]).sum(0)
        return vector, sum(each.mean * share / each.spread for each, share in parts)

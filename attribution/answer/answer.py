"""Hold one picture's answer: a score for every training image and every question.

In: standardised scores (or, where a search did not score every image, a `Listed` in their place), and what they were made
from. Out: training images ranked for any mix of questions, the artists' shares, and whether anything stands out. It takes
no gradient.
"""

from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path

from jaxtyping import Bool, Float, Int
from torch import Tensor

from attribution.answer.copies import Copy
from attribution.answer.listed import FLAT, Listed
from attribution.answer.questions import GENERAL
from attribution.answer.shares import Share, share_out
from attribution.cache.scoring import top
from attribution.cache.search import EVERY
from attribution.errors import InputError
from attribution.pictures.collection import Collection
from attribution.pictures.optout import WITHHELD, Requests, Visible


@dataclass(frozen=True)
class Source:
    """One training image behind a picture."""

    rank: int  # from 1
    index: int  # row of the collection
    score: float  # standard deviations above the average training image
    file: str
    caption: str
    labels: dict[str, str]
    path: Path


@dataclass(frozen=True)
class Answer:
    """The scores of one picture, kept by concept so that mixing them is instant."""

    scores: dict[str, Float[Tensor, "train"]] | Listed  # concept -> standardised scores
    phrases: dict[str, str]  # concept -> the phrase its gradient was taken under
    collection: Collection
    p_values: dict[str, float] = field(default_factory=dict)  # empty without a calibration
    evidence: dict[str, float] = field(default_factory=dict)  # what the p-values judge
    asked: dict[str, Float[Tensor, "group dim"]] = field(default_factory=dict)  # kernelised query
    weights: dict[str, Float[Tensor, "group"]] = field(
        default_factory=dict
    )  # that scores were made with
    requests: Requests | None = None  # to be left out; else those beside the collection
    drawn: float | None = None  # p-value of the picture's trace; None without its calibration
    copies: tuple[Copy, ...] | None = None  # of training images; None where nobody looked
    list_p_values: dict[str, float] = field(
        default_factory=dict
    )  # question -> whether its first ten are named by chance (lists.py); empty without a null

    @property
    def visible(self) -> Visible:
        """Give the collection as it may be shown now, however old the answer is."""
        return Visible(self.collection, self.requests or Requests(self.collection))

    @property
    def hidden(self) -> Bool[Tensor, "train"]:
        """Tell which images are withheld on request."""
        return self.visible.requests.hidden()

    def originals(self) -> list[Copy]:
        """Give the training images that the picture is or nearly copies, the nearest first; none that is withheld."""
        hidden = self.hidden
        return [copy for copy in self.copies or () if not hidden[copy.row]]

    def stands_out(self, level: float = 0.01, name: str = GENERAL) -> bool:
        """Tell whether there is evidence that the picture, or a concept of it, comes from this model's images."""
        if name not in self.p_values:
            raise InputError(
                f"no p-value for {name}; run python -m precompute calibrate for this cache"
            )
        return self.p_values[name] <= level

    def list_p_value(self, **amounts: float | int) -> float | None:
        """Give the p-value of the first ten of a mix: the largest of all that is mixed; None where one is not known."""
        known = self.list_p_values
        asked = [name for name, amount in (amounts or {GENERAL: 1.0}).items() if amount > 0]
        return max(known[name] for name in asked) if asked and known.keys() >= {*asked} else None

    @property
    def whole(self) -> bool:
        """Tell whether every training image was scored."""
        return not isinstance(self.scores, Listed)

    @property
    def images(self) -> int:
        """Count the training images."""
        known = self.scores
        return len(known.order if isinstance(known, Listed) else next(iter(known.values())))

    @property
    def searched(self) -> dict[str, str | bool]:
        """Say who answered, and how exactly; what is not `whole` knows no shares and no artists."""
        if isinstance(self.scores, Listed):
            return {
                "by": self.scores.search.name,
                "whole": False,
                "said": self.scores.search.said,
            }
        return {"by": "exact", "whole": True, "said": EVERY}

    def shares(self, **amounts: float | int) -> dict[str, float]:
        """Give each question's part of a mix, the whole picture's by default; they sum to one."""
        amounts = amounts or {GENERAL: 1.0}
        unknown = set(amounts) - set(self.scores)
        if unknown:
            raise InputError(
                f"no scores for {', '.join(sorted(unknown))}; known: {', '.join(self.scores)}"
            )
        total = sum(amounts.values())
        if total <= 0 or any(not 0 <= a < float("inf") for a in amounts.values()):
            raise InputError("amounts must be at least zero, and one of them above zero")
        return {name: amount / total for name, amount in amounts.items()}

    def mix(self, **amounts: float | int) -> Float[Tensor, "train"]:
        """Mix standardised scores convexly; amounts need not sum to one."""
        shares = self.shares(**amounts)
        return reduce(add, (self.scores[name] * share for name, share in shares.items()))

    def first(
        self, count: int, /, **amounts: float | int
    ) -> tuple[Int[Tensor, "count"], Float[Tensor, "count"]]:
        """Give the rows that score highest in a mix, withheld or not, and their scores, best first."""
        if isinstance(self.scores, Listed):
            return self.scores.first(count, self.shares(**amounts))
        scores = self.mix(**amounts)
        rows = top(scores[None], len(scores))[0][:count]  # all, so that ties stay in order
        return rows, scores[rows]

    def each_first(self, count: int) -> dict[str, Int[Tensor, "count"]]:
        """Give the rows that score highest in every question by itself, withheld or not."""
        return {name: self.first(count, **{name: 1})[0] for name in self.scores}

    def score(self, row: int, /, **amounts: float | int) -> float:
        """Give one training image's score in a mix."""
        if isinstance(self.scores, Listed):
            return self.scores.at(row, self.shares(**amounts))
        return float(self.mix(**amounts)[row])

    def rank(
        self, count: int = 10, among: Bool[Tensor, "train"] | None = None, **amounts: float | int
    ) -> list[Source]:
        """Rank training images, all or `among` some, for a mix of concepts, the whole picture by default."""
        collection, shown = self.collection, ~self.hidden
        if among is None:
            found = self._first_of(count, shown, amounts)
        else:
            scores = self.mix(**amounts)  # which refuses where not every image was scored
            order = top(scores[None], len(scores))[0]
            order = order[among[order] & shown[order]][:count]
            found = order, scores[order]
        rows = zip(found[0].tolist(), found[1].tolist(), strict=True)
        return [
            Source(
                place,
                index,
                score,
                collection.files[index],
                collection.captions[index],
                collection.labels[index],
                collection.folder / collection.files[index],
            )
            for place, (index, score) in enumerate(rows, 1)
        ]

    def _first_of(
        self, count: int, wanted: Bool[Tensor, "train"], amounts: dict[str, float | int]
    ) -> tuple[Int[Tensor, "count"], Float[Tensor, "count"]]:
        """Give the first rows that are wanted, looking further until there are enough."""
        looked = count
        while True:
            rows, scores = self.first(looked, **amounts)
            kept = wanted[rows]
            if int(kept.sum()) >= count or looked >= len(wanted):
                return rows[kept][:count], scores[kept][:count]
            looked = min(4 * looked, len(wanted))

    def hidden_among(self, count: int = 10, **amounts: float | int) -> int:
        """Count the images withheld on request among the first `count` of a mix."""
        rows, _ = self.first(count, **amounts)
        return int(self.hidden[rows].sum())

    def artists(self, column: str = "artist", **amounts: float | int) -> list[Share]:
        """Share the positive influence of a mix among the values of a column, the largest first.

        Images withheld on request count under one name of their own.
        """
        labels = self.collection.labels
        if not any(column in label for label in labels):
            raise InputError(
                f"the collection has no column {column!r}; add it to metadata.jsonl or name another"
            )
        pairs = zip(labels, self.hidden.tolist(), strict=True)
        names = [WITHHELD if hidden else about.get(column, "unknown") for about, hidden in pairs]
        return share_out(self.mix(**amounts), names)


def standardise(scores: Float[Tensor, "query train"]) -> Float[Tensor, "query train"]:
    """Express scores in standard deviations above the mean over the training images."""
    centred = scores - scores.mean(1, keepdim=True)
    spread = centred.square().mean(1, keepdim=True).sqrt()
    if not (spread > 1e-6 * scores.abs().amax(1, keepdim=True)).all():  # NaN, too, ends here
        raise InputError(FLAT)
    return centred / spread

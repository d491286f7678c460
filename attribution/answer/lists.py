"""Say whether the first training images of an answer are named more strongly than chance would: a p-value.

How alike a picture is to the first ten is taken in every group j, under the question's words and under none, with f the
picture's features and g those of the ten:

    a_j = mean over the ten of <K f_j, g_j> / sqrt( <K f_j, f_j> * mean over the ten of <K g_j, g_j> )

A linear discriminant (Fisher 1936; the correlation's diagonal raised, as in ridge regression) learns which groups tell what the
model drew from what it has nothing to do with: unrelated pictures, and words that a picture does not show. A picture's place on
it is compared with theirs. Each of these was placed by a discriminant that was learned without it, and so is the picture when
they are compared (cross-conformal prediction, Vovk 2015). Of several kinds of null the largest p-value counts.
In: a picture's features, and those of its ten. Out: p-values. It knows no words.
"""

import logging
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from attribution.cache.store import Cache
from attribution.cache.weights import GENERAL, belongs_to, read_weights
from attribution.described import hash_of_tensors, read_about, read_described, write_described
from attribution.errors import BelongsElsewhere, InputError
from attribution.files import Wanted, hash_of
from attribution.gradients.kernel import apply_kernel
from attribution.seeds import generator

LOG = logging.getLogger(__name__)
FILE = "lists.safetensors"
ADVICE = "run python -m precompute calibrate"
TOLD = {"settings": {str: object}, "pictures": {str: int}}
FIRST = 10  # training images that are judged together
DRAWN = "drawn"  # the kind that is no null: pictures that the model drew, asked in their own words
FOLDS = 5
RIDGE = (
    3.0  # times the identity, added to the correlation of groups; chosen on pictures of no figure
)
FEWEST = 2 * FOLDS  # pictures of a kind
TINY = 1e-12
Alike = Float[
    Tensor, "_ part"
]  # of pictures; parts: every group with words, then every group without


def alikeness(
    asked: Float[Tensor, "way group dim"],  # with words and without, before the kernel
    ten: Float[Tensor, "ten group dim"],
    kernel: Float[Tensor, "group dim dim"],
) -> Float[Tensor, "part"]:
    """Give how alike a picture is to the ten in every group: at most about one, and zero where a group is silent."""
    kernelised = apply_kernel(asked, kernel)
    own = (kernelised * asked).sum(2)
    theirs = (apply_kernel(ten, kernel) * ten).sum(2).mean(0)
    products = (kernelised * ten.mean(0)).sum(2)
    return (products / (own * theirs).clamp_min(TINY).sqrt()).flatten()


@dataclass(frozen=True)
class Discriminant:
    """A direction that is 0 at the nulls' mean and 1 at that of what the model drew."""

    direction: Float[Tensor, "part"]
    zero: float

    def __call__(self, alike: Float[Tensor, "*picture part"]) -> Float[Tensor, "*picture"]:
        """Place pictures on it."""
        return alike @ self.direction - self.zero

    @classmethod
    def between(cls, nulls: Alike, drawn: Alike, ridge: float = RIDGE) -> "Discriminant":
        """Learn it: (R + ridge I)^-1 of the means' difference, R the correlation within both, in units of the spread."""
        apart = drawn.mean(0) - nulls.mean(0)
        within = torch.cat([drawn - drawn.mean(0), nulls - nulls.mean(0)])
        spread = within.std(0, correction=0)
        spread[spread < TINY] = float("inf")  # a silent group says nothing
        within, apart_there = within / spread, apart / spread
        # (W^T W / n + r I)^-1 b by way of n x n, as there are fewer pictures than parts (Woodbury)
        gram = within @ within.T + ridge * len(within) * torch.eye(len(within))
        inner = torch.linalg.solve(gram, within @ apart_there)
        direction = (apart_there - within.T @ inner) / spread
        length = float(apart @ direction)
        if not length > TINY:  # NaN, too, ends here
            raise InputError(f"what the model drew is no nearer to its lists than others; {ADVICE}")
        return cls(direction / length, float(nulls.mean(0) @ direction) / length)


@dataclass(frozen=True)
class Judge:
    """The pictures that a question's lists are compared with: null kinds, and DRAWN."""

    kinds: dict[str, Alike]

    @cached_property
    def folds(self) -> list[tuple[Discriminant, dict[str, Float[Tensor, "null"]]]]:
        """Learn without each fold of pictures, and place its nulls."""
        found = []
        for fold in range(FOLDS):
            kept, left = {}, {}
            for kind, alike in self.kinds.items():
                out = torch.zeros(len(alike), dtype=torch.bool)
                out[torch.randperm(len(alike), generator=generator("lists"))[fold::FOLDS]] = True
                kept[kind], left[kind] = alike[~out], alike[out]
            nulls = torch.cat([alike for kind, alike in kept.items() if kind != DRAWN])
            place = Discriminant.between(nulls, kept[DRAWN])
            found.append((place, {k: place(a) for k, a in left.items() if k != DRAWN}))
        return found

    def p_value(self, alike: Float[Tensor, "part"]) -> float:
        """Give (1 + #{null >= picture}) / (n + 1), the largest of the kinds of null."""
        return max(
            (1 + sum(int((nulls[kind] >= place(alike)).sum()) for place, nulls in self.folds))
            / (1 + len(self.kinds[kind]))
            for kind in self.kinds
            if kind != DRAWN
        )


@dataclass(frozen=True)
class Lists:
    """What lists are compared with, for every question."""

    judges: dict[str, Judge]

    @property
    def known(self) -> dict[str, Alike]:
        """Give all that was taken, named "question: kind"."""
        return {f"{q}: {k}": a for q, judge in self.judges.items() for k, a in judge.kinds.items()}

    @property
    def fingerprint(self) -> str:
        """Say by a hash what lists are compared with."""
        return hash_of_tensors(self.known)

    def p_values(self, alike: dict[str, Float[Tensor, "part"]]) -> dict[str, float]:
        """Give the p-value of every question that is known."""
        return {q: self.judges[q].p_value(a) for q, a in alike.items() if q in self.judges}

    def p_value_among(self, others: Alike, alike: Float[Tensor, "part"]) -> float:
        """Give the p-value of a question that is not known, by other pictures that were asked the same.

        The discriminant is that of all concepts together, or the whole picture's where there are none.
        """
        judges = [j for q, j in self.judges.items() if q != GENERAL] or [self.judges[GENERAL]]
        drawn = torch.cat([judge.kinds[DRAWN] for judge in judges])
        nulls = [a for judge in judges for kind, a in judge.kinds.items() if kind != DRAWN]
        place = Discriminant.between(torch.cat(nulls), drawn)
        return (1 + int((place(others) >= place(alike)).sum())) / (1 + len(others))


def of_kinds(known: dict[str, Alike]) -> Lists:
    """Sort what was taken, named "question: kind", by questions."""
    kinds: dict[str, dict[str, Alike]] = {}
    for name, alike in known.items():
        question, _, kind = name.rpartition(": ")
        kinds.setdefault(question, {})[kind] = alike.float()
    return Lists({question: Judge(some) for question, some in kinds.items()})


def stamp(cache: Cache) -> dict:
    """Say what alikeness depends on: model, method and weights; images may come and go."""
    weights = {name: each.tolist() for name, each in read_weights(cache).items()}
    return belongs_to(cache) | {"weights": hash_of(weights)}


def write_lists(cache: Cache, known: dict[str, Alike], settings: dict) -> None:
    """Write `lists.safetensors`, in half precision."""
    if not all(torch.isfinite(alike).all() and len(alike) >= FEWEST for alike in known.values()):
        raise InputError(
            f"alikeness is not finite, or of fewer than {FEWEST} pictures of a kind; check the model, or take more"
        )
    stored = {name: alike.half() for name, alike in known.items()}
    pictures = {name: len(alike) for name, alike in known.items()}
    write_described(cache.folder / FILE, stored, stamp(cache), settings=settings, pictures=pictures)


def read_lists(cache: Cache) -> Lists | None:
    """Read what lists are compared with; None where it was not taken, or for other weights than these, which the log tells."""
    path = cache.folder / FILE
    if not path.is_file():
        return None
    try:
        about = read_about(path, stamp(cache), TOLD, ADVICE)
    except BelongsElsewhere as error:
        LOG.warning("%s; until then no list is judged, and My work finds no picture", error)
        return None
    parts = 2 * len(cache.groups)
    wanted = {name: Wanted(torch.float16, (n, parts)) for name, n in about["pictures"].items()}
    every = [f"{GENERAL}: {DRAWN}", *wanted]
    if not all(complete(name, about["pictures"]) for name in every):
        raise InputError(f"{path} is damaged: its kinds of pictures cannot be so; {ADVICE}")
    return of_kinds(read_described(path, about, wanted, ADVICE))


def complete(name: str, pictures: dict[str, int]) -> bool:
    """Tell whether a kind's question has pictures that the model drew, and others, and enough of this."""
    question, _, _ = name.rpartition(": ")
    others = [each for each in pictures if each.rpartition(": ")[0] == question]
    return bool(question) and pictures.get(name, 0) >= FEWEST and len(others) > 1 and (
        f"{question}: {DRAWN}" in pictures
    )  # fmt: skip

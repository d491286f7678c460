"""Hold what one visitor has asked and seen, so that another question needs no gradients.

In: a picture and its answer. Out: the same with another mix, artist or training picture looked at. It never leaves
the visitor that it belongs to.
"""

import math
from dataclasses import dataclass, field
from urllib.parse import urlencode

from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from attribution.answer.answer import Answer, Source
from attribution.answer.questions import GENERAL
from attribution.answer.verdict import Verdict, verdict_of
from attribution.errors import InputError
from attribution.looks.regions import Regions
from attribution.looks.stability import Stability
from attribution.page.choices import in_link, question_of
from attribution.report.credentials import Credentials
from attribution.sentence import Sentence, in_a_row

COUNT = 12  # training images shown
FIRST = 4  # of them, large
LEVEL = 0.01  # the share of unrelated pictures for which evidence may be claimed
SEED = 7
LAST_SEED = 9_999_999  # those above belong to fitting and measuring (seeds.py)
# the picture that they are of, its likeness to every training image, repeats of its answer
Marks = tuple[Image.Image, Tensor | None, Stability]


@dataclass(frozen=True)
class Session:
    """One visitor's picture and answer, and how they look at it."""

    image: Image.Image
    answer: Answer
    method: str
    prompt: str
    seed: int | None  # None for an upload
    mix: dict[str, float] = field(default_factory=lambda: {GENERAL: 1.0})
    example: int | None = None  # its number, where it was made before
    artist: str = ""  # whose pictures alone are shown
    given: tuple[
        str, ...
    ] = ()  # concepts whose words came with the picture; the others are guessed
    unknown: tuple[str, ...] = ()  # words of the prompt that no caption holds
    likeness: Tensor | None = None  # [train] cosine of latents
    stability: Stability | None = None  # the answer's repeats under other noise
    credentials: Credentials | None = None  # what the upload's Content Credentials say
    regions: list[Regions] = field(default_factory=list)  # made when a training image is looked at

    def among(self) -> Bool[Tensor, "train"] | None:
        """Choose the rows of the artist that is looked at."""
        return self.answer.visible.by(self.artist) if self.artist else None

    def shown(self, count: int = COUNT) -> list[Source]:
        """Rank the training images for the mix."""
        return self.answer.rank(count, self.among(), **self.mix)

    @property
    def verdict(self) -> Verdict:
        """Judge what is looked at."""
        return verdict_of(self.answer, self.mix, self.seed is not None, self.artist)

    def steady(self) -> Float[Tensor, "train"] | None:
        """Give the share of repeats in which each image stays in front; None where nothing was repeated."""
        repeats = self.stability.repeats if self.stability else []
        if not repeats or not set(self.mix) <= set(repeats[0].scores):
            return None
        return self.stability.stays(COUNT, **self.mix)

    def link(self) -> str:
        """Write the page's state as a query string; an upload has none."""
        if self.seed is None:
            return ""
        fields = {"prompt": self.prompt, "seed": self.seed, "method": self.method}
        fields |= {in_link(name): amount for name, amount in self.mix.items()}
        return "?" + urlencode(fields | ({"artist": self.artist} if self.artist else {}))


class Unasked(InputError):
    """A mix holds a question that was not asked about the picture."""


def as_mix(amounts: dict[str, object], answer: Answer | None = None) -> dict[str, float]:
    """Keep the amounts above zero of what was asked; refuse what is no amount, what was not asked, and a mix of nothing."""
    mix, unasked = {}, []
    for name, amount in amounts.items():
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            raise no_amount(name, type(amount).__name__)
        if not 0 <= amount <= 1 or math.isnan(amount):
            raise no_amount(name, str(amount))
        if amount and answer and name not in answer.scores:
            unasked.append(name)
        elif amount:
            mix[name] = float(amount)
    if unasked:
        told = "this picture was not asked about its {names}; choose another question"
        names = in_a_row([Sentence(question_of(name)) for name in unasked], "{some}, {name}")
        raise Unasked(Sentence(told, names=names))
    if not mix:
        if len(amounts) > 1:
            raise InputError("move at least one slider above zero")
        name = next(iter(amounts), GENERAL)
        raise InputError(Sentence("give {name} an amount above zero", name=Sentence(name)))
    return mix


def no_amount(name: str, came: str) -> InputError:
    """Say that a question's amount is none."""
    told = "{name} is {came}; give a number from 0 to 1"
    return InputError(Sentence(told, name=Sentence(name), came=came))

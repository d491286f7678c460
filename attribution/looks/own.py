"""Learn weights for a concept of a person's own: a phrase, such as "thick outlines".

As for the concepts that a cache knows (weights.py), but on the spot, from fewer pictures: the model draws prompts that
name the phrase beside the collection's own, each picture is asked about the phrase alone (questions.py), and weights are
fitted on contributions in the cache's scales. Where the cache knows what lists are compared with (answer/lists.py), pictures that
do not name the phrase are drawn and asked about it, too. In: an `Attributor` and a phrase. Out: an `OwnConcept`, and an
`Answer` with one more question.

It does not know whether the phrase means anything to the model. Words that no caption of the collection contains
are listed, not refused: the text encoder spells them out of pieces, and what comes of that is arbitrary.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attribution.answer.answer import Answer
from attribution.answer.calibration import Calibration, evidence, p_value
from attribution.answer.lists import FEWEST, FIRST, Alike
from attribution.answer.questions import GENERAL, WORDLESS, query_features
from attribution.attributor import Attributor
from attribution.cache.weights import FitConfig, fit_queries, read_weights
from attribution.errors import InputError
from attribution.gradients.kernel import apply_kernel
from attribution.looks.phrases import (
    known_words,
    plain_phrase,
    prompts_with,
    prompts_without,
    unknown_words,
)
from attribution.models.encoded import Encoded
from attribution.progress import OnStep
from attribution.seeds import FIRST_SEED
from attribution.sentence import Sentence

MAX_QUERIES = 1000  # so many seeds are kept for every `seed`
BATCH = 8
OTHERS = 24  # pictures that lists are compared with, at most as many as are learned from
# How long each takes, for the progress: to draw a batch, to ask a picture, to pass over the cache and fit.
DRAWING, GRADIENTS, PASS = 12, 1, 6
ASKED = "asked"  # any name but that of the whole picture
SAME = 1e-3  # norm of a unit feature's change that may be rounding


@dataclass(frozen=True)
class OwnConcept:
    """A phrase and the weights that were learned for it."""

    phrase: str
    weights: Float[Tensor, "group"]  # divided by the cache's scales, as `Attributor.weights`
    report: dict[str, float]  # effective_groups, steps, loss_at_uniform, loss
    queries: int  # pictures that it was learned from
    seconds: float
    unknown_words: tuple[str, ...]  # of the phrase, which no caption contains
    method: str = ""  # of the features that it was learned on
    others: Alike | None = None  # how alike pictures that do not name it are to their lists


def learn_concept(
    attributor: Attributor,
    phrase: str,
    on_step: OnStep | None = None,
    queries: int = 48,
    seed: int = 0,
    top_k: int = FitConfig.top_k,
) -> OwnConcept:
    """Learn weights for a phrase from pictures that the model draws for it.

    `on_step(done, total)` is told of progress, in no unit; what it raises stops the work, and nothing is changed.
    The same phrase, queries and seed give the same weights.
    """
    phrase, started = plain_phrase(phrase), time.perf_counter()
    if not 1 <= queries <= MAX_QUERIES:
        raise InputError(f"queries is {queries}; it must be 1 to {MAX_QUERIES}")
    prompts = prompts_with(phrase, attributor.collection, queries, seed)
    fit = FitConfig(top_k=top_k)
    apart = prompts_without(phrase, attributor.collection, min(queries, OTHERS), seed)
    apart = apart if attributor.lists and len(apart) >= FEWEST else []
    progress = Progress(on_step, (queries, len(apart)), fit.rounds)
    first = FIRST_SEED["own"] + seed * MAX_QUERIES
    asked = asked_pictures(attributor, phrase, prompts, first, progress)
    features = torch.cat([some[ASKED] for some in asked])
    kernelised = apply_kernel(features, attributor.cache.kernel)

    scales = 1 / read_weights(attributor.cache)["equalised"]
    fitted = fit_queries(
        kernelised, attributor.cache, fit, scales, progress.passed, lambda: progress.advance(0)
    )
    progress.fitted()
    weights = fitted.weights / scales
    others = alike_without(attributor, phrase, weights, apart, seed, progress) if apart else None
    return OwnConcept(
        phrase,
        weights,
        fitted.report,
        queries,
        round(time.perf_counter() - started, 1),
        tuple(unknown_words(phrase, known_words(attributor.collection))),
        attributor.method,
        others,
    )


def alike_without(
    attributor: Attributor,
    phrase: str,
    weights: Float[Tensor, "group"],
    prompts: list[str],
    seed: int,
    progress: "Progress",
) -> Alike:
    """Say how alike pictures of other prompts are to the first training images of the phrase's list."""
    found, first = [], FIRST_SEED["others"] + seed * MAX_QUERIES
    for some in asked_pictures(attributor, phrase, prompts, first, progress, wordless=True):
        kernelised = apply_kernel(some[ASKED], attributor.cache.kernel)
        rows = attributor.nearest(kernelised * weights[:, None], FIRST)
        for row in range(len(rows)):
            each = {ASKED: some[ASKED][row : row + 1]}
            bare = some[WORDLESS][row : row + 1]
            found.append(attributor.alike_to_lists({ASKED: rows[row]}, each, bare)[ASKED])
    return torch.stack(found)


def with_concept(
    attributor: Attributor, image: Image.Image, answer: Answer, name: str, concept: OwnConcept
) -> Answer:
    """Ask one more question of the picture of an answer; its other questions stay as they are.

    `name`, such as "own:thick outlines", is that of the slider, and none that the cache has.
    """
    if name in attributor.weights:
        raise InputError(f"{name!r} is a question of the cache; choose another name")
    if (
        concept.weights.shape != attributor.weights[GENERAL].shape
        or concept.method != attributor.method
    ):
        raise InputError(
            f"{concept.phrase!r} was learned with another model or method; learn it again"
        )
    seen = Encoded(attributor.model, [image])
    lists = attributor.lists if concept.others is not None else None
    question = {name: [concept.phrase]}
    features = query_features(attributor.extractor, seen, question, wordless=lists is not None)
    bare = features.pop(WORDLESS, None)
    [asked] = apply_kernel(features[name], attributor.cache.kernel)
    phrases, found, p_values = {name: concept.phrase}, {}, {}
    if attributor.calibration:
        found = evidence(seen, phrases)
        p_values = {name: own_p_value(attributor.calibration, answer.p_values, found[name])}
    more = attributor.answer({name: asked}, phrases, found, {name: concept.weights})
    listed = {}
    if lists and concept.others is not None and bare is not None:
        alike = attributor.alike_to_lists(more.each_first(FIRST), features, bare)[name]
        by_others = lists.p_value_among(concept.others, alike)
        listed = {name: max(by_others, answer.list_p_values.get(GENERAL, 1.0))}
    return replace(
        answer,
        scores=answer.scores | more.scores,
        phrases=answer.phrases | phrases,
        p_values=answer.p_values | p_values,
        evidence=answer.evidence | found,
        asked=answer.asked | more.asked,
        weights=answer.weights | more.weights,
        list_p_values=answer.list_p_values | listed,
    )


def own_p_value(calibration: Calibration, known: dict[str, float], value: float) -> float:
    """Give the largest p-value of a free phrase's evidence under every null, and of the whole picture.

    No null was ever taken for this phrase, so that it is no calibrated p-value but a cautious stand-in, which hardly ever
    gets small. The concepts' nulls alone would not do: a word such as "pointillism" passes them on every picture. It
    does not bound how often a phrase of another kind (longer, rarer, of unknown words) gets as far by chance.
    """
    nulls = [calibration.unrelated, *calibration.unshown.values()]
    return max(known.get(GENERAL, 1.0), *(p_value(null, value) for null in nulls))


def asked_pictures(
    attributor: Attributor,
    phrase: str,
    prompts: list[str],
    first: int,  # seed of the first picture
    progress: "Progress",
    wordless: bool = False,
) -> Iterator[dict[str, Float[Tensor, "query group dim"]]]:
    """Draw some pictures at a time and give their features under the phrase's question, ASKED."""
    for start in range(0, len(prompts), BATCH):
        some = prompts[start : start + BATCH]
        seeds = list(range(first + start, first + start + len(some)))
        images = attributor.model.generate(some, seeds, on_step=lambda *_: progress.advance(0))
        progress.advance(DRAWING)
        seen = Encoded(attributor.model, images)
        asked = asked_one_by_one(attributor, seen, phrase, progress, wordless)
        if not asked[ASKED].norm(dim=-1).max() > SAME:  # NaN, too, ends here
            told = "{phrase} makes no difference to the model; use words of its captions"
            raise InputError(Sentence(told, phrase=repr(phrase)))
        yield asked


def asked_one_by_one(
    attributor: Attributor, seen: Encoded, phrase: str, progress: "Progress", wordless: bool
) -> dict[str, Float[Tensor, "query group dim"]]:
    """Make pictures' features under a phrase, and tell of each, so that who stops need not wait for all."""
    question, found = {ASKED: [phrase]}, []
    for row in range(len(seen)):
        one = seen.at([row])
        found.append(query_features(attributor.extractor, one, question, wordless=wordless))
        progress.advance(GRADIENTS)
    return {name: torch.cat([each[name] for each in found]) for name in found[0]}


class Progress:
    """Counts what is done of drawing, gradients and passes over the cache."""

    def __init__(self, on_step: OnStep | None, pictures: tuple[int, ...], rounds: int) -> None:
        batches = sum(math.ceil(count / BATCH) for count in pictures)
        self.passes = 1 + rounds
        self.total = batches * DRAWING + sum(pictures) * GRADIENTS + self.passes * PASS
        self.done, self.on_step = 0, on_step
        self.advance(0)

    def advance(self, steps: int) -> None:
        """Report that more is done."""
        self.done += steps
        if self.on_step:
            self.on_step(self.done, self.total)

    def passed(self) -> None:
        """Report a pass over the cache."""
        self.passes -= 1
        self.advance(PASS)

    def fitted(self) -> None:
        """Report that weights are fitted, by fewer passes than there might have been."""
        self.advance(self.passes * PASS)

"""Learn weights for a concept of a person's own: a phrase, such as "thick outlines".

As for the concepts that a cache knows (weights.py), but on the spot, from fewer pictures: the model draws prompts that
name the phrase beside the collection's own, each picture is asked about the phrase alone (questions.py), and weights are
fitted on contributions in the cache's scales. In: an `Attributor` and a phrase. Out: an `OwnConcept`, and an
`Answer` with one more question.

It does not know whether the phrase means anything to the model. Words that no caption of the collection contains
are listed, not refused: the text encoder spells them out of pieces, and what comes of that is arbitrary.
"""

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attribution.answer.answer import Answer
from attribution.answer.calibration import Calibration, evidence, p_value
from attribution.answer.questions import GENERAL, query_features
from attribution.attributor import Attributor
from attribution.cache.weights import FitConfig, fit_queries, read_weights
from attribution.concepts import captioned, combinations, full_prompt, named_in
from attribution.errors import InputError
from attribution.gradients.kernel import apply_kernel
from attribution.models.diffusion import MAX_PROMPT
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection
from attribution.progress import OnStep
from attribution.seeds import FIRST_SEED

MAX_QUERIES = 1000  # so many seeds are kept for every `seed`
BATCH = 8
DRAWING, GRADIENTS, PASS = 1, 2, 1  # how long each takes, for the progress
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
    progress = Progress(on_step, queries, fit.rounds)
    features = torch.cat(list(asked_pictures(attributor, phrase, prompts, seed, progress)))
    kernelised = apply_kernel(features, attributor.cache.kernel)

    scales = 1 / read_weights(attributor.cache)["equalised"]
    fitted = fit_queries(kernelised, attributor.cache, fit, scales, lambda: progress.advance(PASS))
    progress.finish()
    return OwnConcept(
        phrase,
        fitted.weights / scales,
        fitted.report,
        queries,
        round(time.perf_counter() - started, 1),
        tuple(unknown_words(phrase, known_words(attributor.collection))),
    )


def with_concept(
    attributor: Attributor, image: Image.Image, answer: Answer, name: str, concept: OwnConcept
) -> Answer:
    """Ask one more question of the picture of an answer; its other questions stay as they are.

    `name`, such as "own:thick outlines", is that of the slider, and none that the cache has.
    """
    if name in attributor.weights:
        raise InputError(f"{name!r} is a question of the cache; choose another name")
    if concept.weights.shape != attributor.weights[GENERAL].shape:
        raise InputError(f"{concept.phrase!r} was learned with another model; learn it again")
    seen = Encoded(attributor.model, [image])
    features = query_features(attributor.extractor, seen, {name: [concept.phrase]})[name]
    [asked] = apply_kernel(features, attributor.cache.kernel)
    phrases, found, p_values = {name: concept.phrase}, {}, {}
    if attributor.calibration:
        found = evidence(seen, phrases)
        p_values = {name: own_p_value(attributor.calibration, answer.p_values, found[name])}
    more = attributor.answer({name: asked}, phrases, found, {name: concept.weights})
    return replace(
        answer,
        scores=answer.scores | more.scores,
        phrases=answer.phrases | phrases,
        p_values=answer.p_values | p_values,
        evidence=answer.evidence | found,
        asked=answer.asked | more.asked,
        weights=answer.weights | more.weights,
    )


def own_p_value(calibration: Calibration, known: dict[str, float], value: float) -> float:
    """Give the largest p-value of a free phrase's evidence under every null, and of the whole picture.

    No null was ever taken for this phrase, so that it is no calibrated p-value but a cautious stand-in, which hardly ever
    gets small. The concepts' nulls alone would not do: a word such as "pointillism" passes them on every picture. It
    does not bound how often a phrase of another kind (longer, rarer, of unknown words) gets as far by chance.
    """
    nulls = [calibration.unrelated, *calibration.unshown.values()]
    return max(known.get(GENERAL, 1.0), *(p_value(null, value) for null in nulls))


def plain_phrase(phrase: str) -> str:
    """Refuse a phrase that asks nothing; give it with single spaces."""
    phrase = " ".join(phrase.split())
    if len(phrase) > MAX_PROMPT:
        raise InputError(f"the phrase has {len(phrase)} characters; the limit is {MAX_PROMPT}")
    if not words_of(phrase):
        raise InputError('the phrase has no words; describe what you look for, as in "at night"')
    return phrase


def words_of(text: str) -> list[str]:
    """Give the words of a text, in lower case."""
    return re.findall(r"[^\W_]+", text.lower())


def known_words(collection: Collection) -> set[str]:
    """Give the words of all captions."""
    return {word for caption in set(collection.captions) for word in words_of(caption)}


def unknown_words(phrase: str, known: set[str]) -> list[str]:
    """Give the words of a phrase that no caption contains; the model never learned what they mean."""
    return [word for word in dict.fromkeys(words_of(phrase)) if word not in known]


def prompts_with(phrase: str, collection: Collection, count: int, seed: int) -> list[str]:
    """Write prompts that name the phrase and then a value of every concept that it does not name itself.

    The phrase comes first, where no tokenizer cuts it off.
    """
    concepts = collection.concepts
    if not concepts:
        return [f"{phrase}, {caption}" for caption in captioned(collection, count, seed)]
    others = [concept for concept in concepts if concept not in named_in(phrase, concepts)]
    wanted = combinations(collection, held_out=False, count=count, seed=seed)
    named = [{c: concepts[c][values[c]] for c in others} for values in wanted]
    rests = [full_prompt(phrases, collection.sentence) for phrases in named]
    return [", ".join(filter(None, (phrase, rest))) for rest in rests]


def asked_pictures(
    attributor: Attributor, phrase: str, prompts: list[str], seed: int, progress: "Progress"
) -> Iterator[Float[Tensor, "query group dim"]]:
    """Draw some pictures at a time and give their features under the phrase's question."""
    for start in range(0, len(prompts), BATCH):
        some = prompts[start : start + BATCH]
        first = FIRST_SEED["own"] + seed * MAX_QUERIES + start
        images = attributor.model.generate(some, list(range(first, first + len(some))))
        progress.advance(DRAWING)
        question = {ASKED: [phrase] * len(some)}
        seen = Encoded(attributor.model, images)
        asked = query_features(attributor.extractor, seen, question)[ASKED]
        if not asked.norm(dim=-1).max() > SAME:  # NaN, too, ends here
            raise InputError(
                f"{phrase!r} makes no difference to the model; use words of its captions"
            )
        progress.advance(GRADIENTS)
        yield asked


class Progress:
    """Counts what is done of drawing, gradients and passes over the cache."""

    def __init__(self, on_step: OnStep | None, queries: int, rounds: int) -> None:
        batches = math.ceil(queries / BATCH)
        self.total = batches * (DRAWING + GRADIENTS) + (1 + rounds) * PASS
        self.done, self.on_step = 0, on_step
        self.advance(0)

    def advance(self, steps: int) -> None:
        """Report that more is done."""
        self.done += steps
        if self.on_step:
            self.on_step(self.done, self.total)

    def finish(self) -> None:
        """Report that all is done: fitting may need fewer rounds than it may take."""
        self.advance(self.total - self.done)

"""Say whether an answer would be the same by other chance: its questions repeated on other draws.

A query's gradient is taken on the picture with noise added, and training images keep theirs. Where noise is a picture's own, a
repeat asks under other noise. Where all pictures share it, other noise would part the query from the training images, so that a
repeat asks by half of the timesteps, each of which has a draw to itself; as it has half of the evidence, it rather calls an
image unsteady that is steady than the other way round. In: an answer and its picture. Out: the same questions' answers,
repeated, and the share of them in which an image stays near the top. It does not know whether an answer is right.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attribution.answer.answer import Answer
from attribution.answer.questions import Questions, query_features
from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.kernel import apply_kernel
from attribution.gradients.methods import FeatureConfig
from attribution.models.encoded import Encoded
from attribution.progress import OnStep
from attribution.seeds import generator

Repeat = Callable[[int], dict[str, Float[Tensor, "query group dim"]]]  # by a seed


@dataclass(frozen=True)
class Stability:
    """An answer's repeats, kept so that another mix is instant."""

    repeats: list[Answer]

    def stays(self, count: int = 12, **amounts: float | int) -> Float[Tensor, "train"]:
        """Give the share of repeats in which a training image is among the first 2 x count of a mix."""
        stays = torch.zeros(self.repeats[0].images)
        for repeat in self.repeats:
            stays[repeat.first(2 * count, **amounts)[0]] += 1
        return stays / len(self.repeats)


def stability(
    attributor: Attributor,
    image: Image.Image,
    answer: Answer,
    seeds: tuple[int, ...] = (1, 2),
    on_step: OnStep | None = None,
) -> Stability:
    """Ask an answer's questions again, once for each seed of a draw; `on_step(done, seeds)` is told of progress."""
    questions = {name: [answer.phrases[name]] for name in answer.asked}
    ask = repeat(attributor.extractor, Encoded(attributor.model, [image]), questions)
    repeats = []
    for done, seed in enumerate(seeds, 1):
        asked = {n: apply_kernel(f, attributor.cache.kernel)[0] for n, f in ask(seed).items()}
        repeats.append(attributor.answer(asked, answer.phrases, answer.evidence, answer.weights))
        if on_step:
            on_step(done, len(seeds))
    return Stability(repeats)


def repeat(extractor: FeatureExtractor, seen: Encoded, questions: Questions) -> Repeat:
    """Prepare to make a picture's query features again by other chance."""
    if not extractor.config.paired:
        return lambda seed: query_features(extractor.with_noise(seed), seen, questions)
    whole, layers = query_features(extractor, seen, questions), len(extractor.projector.layers)

    def by_half(seed: int) -> dict[str, Tensor]:
        kept = half(extractor.config, seed).repeat_interleave(layers, 0)
        return {name: features * kept for name, features in whole.items()}

    return by_half


def half(config: FeatureConfig, seed: int) -> Float[Tensor, "range dim"]:
    """Draw half of the timesteps; one where a paired feature belongs to one of them, else zero."""
    count = config.timesteps
    if count < 2:
        raise InputError("an answer by one timestep has no halves to compare; take more timesteps")
    kept = torch.zeros(count)
    kept[torch.randperm(count, generator=generator("half", seed))[: count // 2]] = 1
    return kept.view(config.ranges, -1).repeat_interleave(config.proj_dim, 1)

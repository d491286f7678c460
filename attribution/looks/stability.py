"""Say whether an answer would be the same by other chance: its questions repeated under other noise.

A query's gradient is taken on the picture with noise added, and training images keep theirs. In: an answer and its
picture. Out: the same questions' answers, repeated, and the share of them in which an image stays near the top. It does not
know whether an answer is right.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attribution.answer.answer import Answer
from attribution.answer.questions import GENERAL, query_features
from attribution.attributor import Attributor
from attribution.cache.scoring import top
from attribution.gradients.kernel import apply_kernel
from attribution.models.encoded import Encoded
from attribution.progress import OnStep


@dataclass(frozen=True)
class Stability:
    """An answer's repeats, kept so that another mix is instant."""

    repeats: list[Answer]

    def stays(self, count: int = 12, **amounts: float | int) -> Float[Tensor, "train"]:
        """Give the share of repeats in which a training image is among the first 2 x count of a mix."""
        mixes = torch.stack([r.mix(**(amounts or {GENERAL: 1.0})) for r in self.repeats])
        return torch.zeros_like(mixes).scatter_(1, top(mixes, 2 * count), 1.0).mean(0)


def stability(
    attributor: Attributor,
    image: Image.Image,
    answer: Answer,
    seeds: tuple[int, ...] = (1, 2),
    on_step: OnStep | None = None,
) -> Stability:
    """Ask an answer's questions again, once for each seed of the noise; `on_step(done, seeds)` is told of progress."""
    questions = {name: [answer.phrases[name]] for name in answer.asked}
    repeats, seen = [], Encoded(attributor.model, [image])
    for done, seed in enumerate(seeds, 1):
        features = query_features(attributor.extractor.with_noise(seed), seen, questions)
        asked = {n: apply_kernel(f, attributor.cache.kernel)[0] for n, f in features.items()}
        repeats.append(attributor.answer(asked, answer.phrases, answer.evidence, answer.weights))
        if on_step:
            on_step(done, len(seeds))
    return Stability(repeats)

"""Estimate the curvature that EK-FAC inverts, on a sample of the training images.

In: a collection and an extractor. Out: `ekfac.safetensors` in the cache folder. The sample is the images whose
hashes come first, each at one timestep in turn, so that the file is made anew only when one of them goes.
Targets are drawn from the model's own prediction, a Gaussian around it, which makes the curvature the Gauss-Newton
matrix of the training loss (arXiv 2410.13850, section 3).
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.gradients.ekfac import Closure, fit_factors, read_factors, save_factors
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.trials import Trials
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection, fingerprint_of
from attribution.progress import OnStep
from attribution.seeds import generator

BATCH = 16


def ensure_factors(
    folder: Path,
    collection: Collection,
    extractor: FeatureExtractor,
    images: int,
    on_step: OnStep | None = None,
) -> None:
    """Write the factors unless the folder has those of this model and this sample.

    `on_step(done, total)` counts every image twice, as there are two passes.
    """
    order = sorted(range(len(collection)), key=lambda i: collection.rows[i].digest)[:images]
    belongs_to = {
        "model": extractor.model.fingerprint,
        "images": fingerprint_of([collection.rows[i] for i in order]),
        "timesteps": extractor.config.timesteps,
        "seed": extractor.config.seed,
        "noise": "shared" if extractor.config.paired else "own",
    }
    if are_sound(folder, extractor, belongs_to):
        return
    told = on_step or (lambda done, total: None)
    passes = count()

    def once() -> Iterator[Closure]:
        before = next(passes) * len(order)
        for done, loss in closures(collection, extractor, order):
            yield loss
            told(before + done, 2 * len(order))

    factors = fit_factors(extractor.projector, once)
    save_factors(folder, factors, belongs_to)


def are_sound(folder: Path, extractor: FeatureExtractor, belongs_to: dict) -> bool:
    """Tell whether a folder has whole factors of this model and this sample."""
    try:
        read_factors(folder, belongs_to, extractor.projector)
    except InputError:
        return False
    return True


def closures(
    collection: Collection, extractor: FeatureExtractor, order: list[int]
) -> Iterator[tuple[int, Closure]]:
    """Give the training loss of some images at a time, each at one timestep, and the count of images so far."""
    steps = extractor.config.timesteps
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        every = Encoded(extractor.model, [collection.image(i) for i in rows])
        draw, done = generator("curvature", extractor.config.seed, first), first
        for some in every.batches(BATCH):
            trials = extractor.trials(every.at(some), [collection.captions[rows[i]] for i in some])
            turn = (first + torch.tensor(some)) % steps
            trials = trials.at(torch.arange(len(some)) * steps + turn)
            drawn = torch.randn(trials.target.shape, generator=draw).to(trials.target.device)
            done += len(some)

            def loss(trials: Trials = trials, drawn: Tensor = drawn) -> Tensor:
                output = trials.predict(extractor.model)
                return extractor.objective(output, output.detach() + drawn)

            yield done, loss

"""Choose the strength of a cache's kernel on pictures that serve nothing else.

In: a cache whose strength was left open, and generated pictures. Out: the cache, closed with the strength whose
fitted weights reach the lowest loss (weights.py; no label is read), and every strength's loss in its header.
"""

import sys
from collections.abc import Iterator

from torch import Tensor

from attribution.answer.questions import GENERAL, query_features
from attribution.cache.kernel import apply_kernel, fit_kernel
from attribution.cache.scoring import chunks
from attribution.cache.store import Cache, open_cache, write_header
from attribution.cache.weights import FitConfig, fit_weights, take_statistics
from attribution.errors import InputError
from attribution.files import writing
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.methods import method_named
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from precompute.queries import Query

GRID = (0.01, 0.1, 1.0, 10.0)  # times the mean diagonal


def choose_damping(
    model: DiffusionModel, cache: Cache, queries: list[Query], fit: FitConfig
) -> None:
    """Try every strength, and write the best into the cache's header."""
    extractor = FeatureExtractor.of(model, cache)
    before_projection = method_named(cache.header["method"]).kernel == "ekfac"
    images, prompts = [q.image for q in queries], {GENERAL: [q.prompt for q in queries]}
    features, losses = None, {}
    for damping in GRID:
        if before_projection:
            extractor.preconditioner.damping = damping
        if features is None or before_projection:
            features = query_features(extractor, Encoded(extractor.model, images), prompts)[GENERAL]
        kernel = cache.kernel if before_projection else fit_kernel(cache.gram, len(cache), damping)
        losses[damping] = final_loss(apply_kernel(features, kernel), cache, fit)
    best = min(losses, key=losses.get)
    print(f"damping {best} of {losses}", file=sys.stderr)
    kernel = cache.kernel if before_projection else fit_kernel(cache.gram, len(cache), best)
    chosen = {"damping": best, "damping_losses": {str(k): round(v, 4) for k, v in losses.items()}}
    with writing(cache.folder):
        if open_cache(cache.folder, {}).header["revision"] != cache.header["revision"]:
            raise InputError(f"{cache.folder} was changed meanwhile; run the same command again")
        write_header(cache.folder, cache.header | chosen, cache.shards, cache.gram, kernel)


def final_loss(kernelised: Tensor, cache: Cache, fit: FitConfig) -> float:
    """Give the loss that fitted weights reach."""

    def passes() -> Iterator[tuple[int, Tensor]]:
        return chunks(kernelised, cache)

    statistics = take_statistics(passes)
    return fit_weights(passes, statistics, statistics.scales, fit)[1][-1]

"""Choose the strength of a cache's kernel on pictures that serve nothing else.

In: a cache whose strength was left open, and generated pictures. Out: the cache, closed with the strength whose
fitted weights reach the lowest loss (cache/weights.py; no label is read), and every strength's loss in its header.
"""

from attribution.answer.queries import Query
from attribution.answer.questions import GENERAL, query_features
from attribution.cache.store import Cache, open_cache, write_header
from attribution.cache.weights import FitConfig, fit_queries
from attribution.errors import InputError
from attribution.files import writing
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.kernel import apply_kernel
from attribution.gradients.methods import method_named
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded

GRID = (0.01, 0.1, 1.0, 10.0)  # times the mean diagonal


def choose_damping(
    model: DiffusionModel, cache: Cache, queries: list[Query], fit: FitConfig
) -> Cache:
    """Try every strength, write the best into the cache's header, and open the cache again."""
    extractor = FeatureExtractor.of(model, cache.header, cache.folder)
    kernel = method_named(cache.header["method"]).kernel
    images, prompts = [q.image for q in queries], {GENERAL: [q.prompt for q in queries]}
    features, losses = None, {}
    for damping in GRID:
        if kernel.before_projection:
            extractor.preconditioner.damping = damping
        if features is None or kernel.before_projection:
            seen = Encoded(extractor.model, images)
            features = query_features(extractor, seen, prompts)[GENERAL]
        asked = apply_kernel(features, kernel.fit(cache.gram, len(cache), damping))
        losses[damping] = fit_queries(asked, cache, fit).curve[-1]
    best = min(losses, key=losses.get)
    fitted = kernel.fit(cache.gram, len(cache), best)
    chosen = {"damping": best, "damping_losses": {str(k): round(v, 4) for k, v in losses.items()}}
    with writing(cache.folder):
        if open_cache(cache.folder, {}).header["revision"] != cache.header["revision"]:
            raise InputError(f"{cache.folder} was changed meanwhile; run the same command again")
        write_header(cache.folder, cache.header | chosen, cache.shards, cache.gram, fitted)
    return open_cache(cache.folder, {})

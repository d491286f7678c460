"""Learn the weights of all groups, in general and for each concept, from pictures that the model draws.

In: a model, its collection and its cache, whose kernel's strength is chosen first if that was left open. Out: the weights,
written into the cache's folder. No label of a training image is read.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from attribution.answer.damping import choose_damping
from attribution.answer.queries import draw_known, questions
from attribution.cache.store import open_cache
from attribution.cache.weights import FitConfig, Fitted, fit_queries, write_weights
from attribution.errors import InputError
from attribution.files import ensure_writable
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.kernel import apply_kernel
from attribution.gradients.methods import method_named
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import Collection


@dataclass(frozen=True)
class LearnConfig:
    """What decides the weights, besides model, collection and cache."""

    queries: int = 128  # pictures that the model draws, of combinations that it knows
    top_k: int = FitConfig.top_k
    penalty: float = FitConfig.penalty
    seed: int = 0

    def __post_init__(self) -> None:
        if self.queries < 1 or self.top_k < 1:
            raise InputError("queries and top_k must be at least 1")


def learn_weights(
    model: DiffusionModel, collection: Collection, folder: str | Path, config: LearnConfig
) -> dict[str, Fitted]:
    """Fit each question's weights on the same pictures, each question asked in its own words, and write them."""
    ensure_writable(Path(folder))
    collection = model.reads(collection)
    cache = open_cache(folder, {"model": model.fingerprint, "collection": collection.fingerprint()})
    fit = FitConfig(top_k=config.top_k, penalty=config.penalty)
    if not cache.header["damping"] and method_named(cache.header["method"]).kernel.damped:
        drawn = draw_known(model, collection, config.queries, "validation", config.seed)
        cache = choose_damping(model, cache, drawn, fit)
    drawn = draw_known(model, collection, config.queries, "weights", config.seed)
    asked = questions(FeatureExtractor.of(model, cache.header, cache.folder), collection, drawn)
    fitted, scales = {}, None
    for name, features in asked.items():  # the whole picture comes first, and scales all
        fitted[name] = fit_queries(apply_kernel(features, cache.kernel), cache, fit, scales)
        scales = fitted[name].scales
    write_weights(cache, fitted, asdict(config) | {"asked": collection.asked})
    return fitted

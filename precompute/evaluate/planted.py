"""Planted exemplars: pictures of something planted in the training set should find what was planted.

A few pictures of new subjects and styles (`precompute/evaluate/truth/plantings.py`) are added to the collection and the model is
fine-tuned on all of it, with a new token for each new word. Whatever it then draws of a planted word, it learned
from those pictures alone: they should come first among all training images. One model carries all plantings, which
is harder than one model each, as every planting is an alternative for every other.

The planted word stands in no other caption, so that a search in captions may find them, too (`captions`). Two
controls tell the picture's part from the word's: the picture asked about without words, and the word asked about a
picture of another planting. Everything is kept in WORK_DIR/planted and goes on where it was.
"""

import itertools
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attribution.answer.queries import Query, draw_queries, questions
from attribution.answer.questions import GENERAL
from attribution.cache.scoring import contributions, weighted
from attribution.cache.store import Cache, open_cache
from attribution.cache.weights import read_weights
from attribution.concepts import full_prompt
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.kernel import apply_kernel
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection, load_collection
from precompute.evaluate.baselines import baseline_scores
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.factors import plain_scores
from precompute.evaluate.statistics import average_precision, bootstrap, chance_precision, recall
from precompute.evaluate.truth.planted import PlantedConfig, prepare
from precompute.evaluate.truth.plantings import Planting, combinations, phrases

TOP = 10
PICTURES = 6  # of each planting
Scores = dict[tuple[str, str], Float[Tensor, "query train"]]  # (method, weights) -> scores


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for each method, set of weights, concept and size of planting."""
    return measure_plantings(config, PlantedConfig(seed=config.seed), "evaluation")


def measure_plantings(config: EvaluateConfig, settings: PlantedConfig, purpose: str) -> list[dict]:
    """Prepare what is not there yet, and measure the plantings of one purpose."""
    folder = Path(config.work_dir) / "planted"
    with redirect_stdout(sys.stderr):
        prepare(
            config.pretrained_model_name_or_path,
            config.train_data_dir,
            folder,
            settings,
            config.device,
        )
    collection = load_collection(folder / "collection")
    model = DiffusionModel.from_pretrained(folder / "model", config.device)
    expected = {"model": model.fingerprint, "collection": collection.fingerprint()}
    cache = open_cache(folder / "cache", expected)
    plantings = [p for p in settings.plantings if p.purpose == purpose]
    pictures = max(1, config.queries // len(plantings)) if config.queries else PICTURES
    owners = [p for p in plantings for _ in range(pictures)]
    queries = ask(model, collection, plantings, pictures, settings.seed)
    scores = score(model, collection, cache, queries, owners)
    scores |= {(m, ""): s for m, s in baseline_scores(model, collection, queries)}
    labels = collection.labels
    planted = torch.tensor([[row[p.concept] == p.word for row in labels] for p in owners])
    return summarise(scores, planted, owners, settings)


def ask(
    model: DiffusionModel,
    collection: Collection,
    plantings: list[Planting],
    pictures: int,
    seed: int,
) -> list[Query]:
    """Draw pictures of every planted word, all else as no planted picture has it together."""
    wanted, prompts = [], []
    for planting in plantings:
        left = itertools.cycle(combinations(planting, seed)[planting.count :])
        for values in itertools.islice(left, pictures):
            wanted.append(values)
            prompts.append(full_prompt(phrases(planting, values)))
    return draw_queries(model, collection, wanted, plantings[0].purpose, prompts)


def score(
    model: DiffusionModel,
    collection: Collection,
    cache: Cache,
    queries: list[Query],
    owners: list[Planting],
) -> Scores:
    """Score all training images by gradients: each set of weights, then the controls."""
    extractor = FeatureExtractor.of(model, cache.header, cache.folder)
    learned = read_weights(cache)
    order = cache.order_in(collection.rows)
    method = cache.header["method"]

    def by_weights(features: Tensor, names: list[str]) -> Tensor:
        return collected(each_by_its_own(features, names, cache, learned))

    def collected(scores: Tensor) -> Tensor:
        return torch.empty_like(scores).index_copy_(1, order, scores)

    prompts, words = [q.prompt for q in queries], [p.phrase for p in owners]
    same, concepts = len(queries) * [GENERAL], [p.concept for p in owners]
    features = questions(extractor, collection, queries, {GENERAL: prompts, "planted": words})
    silent = questions(extractor, collection, queries, {GENERAL: [""] * len(queries)})[GENERAL]
    exchanged = questions(extractor, collection, exchange(queries, owners), {"planted": words})
    raw = extractor.query(Encoded(extractor.model, [q.image for q in queries]), prompts)
    equal = len(queries) * ["equalised"]
    return {
        (method, "uniform"): collected(plain_scores(raw, cache)),
        (method, "equalised"): by_weights(features[GENERAL], equal),
        (method, "general"): by_weights(features[GENERAL], same),
        (method, "concept"): by_weights(features["planted"], concepts),
        (method, "concept's question, equalised"): by_weights(features["planted"], equal),
        (method, "control: no words, general"): by_weights(silent, same),
        (method, "control: other picture, concept"): by_weights(exchanged["planted"], concepts),
    }


def each_by_its_own(
    features: Float[Tensor, "query group dim"],
    names: list[str],
    cache: Cache,
    weights: dict[str, Float[Tensor, "group"]],
) -> Float[Tensor, "query train"]:
    """Score all images for every query by the weights that it names, in the cache's order."""
    found = [
        weighted(contributions(apply_kernel(one[None], cache.kernel), cache), weights[name])
        for one, name in zip(features, names, strict=True)
    ]
    return torch.cat(found)


def exchange(queries: list[Query], owners: list[Planting]) -> list[Query]:
    """Give every planting the pictures of another one of its concept."""
    exchanged = list(queries)
    for concept in {p.concept for p in owners}:
        mine = [i for i, p in enumerate(owners) if p.concept == concept]
        shift = owners.count(owners[mine[0]])
        for here, there in zip(mine, mine[shift:] + mine[:shift], strict=True):
            exchanged[here] = queries[there]
    return exchanged


def summarise(
    scores: Scores,
    planted: Bool[Tensor, "query train"],
    owners: list[Planting],
    settings: PlantedConfig,
) -> list[dict]:
    """Give a row for every method, set of weights, concept (or both) and size (or 3 and 10)."""
    found = {
        name: (recall(values, planted, TOP), average_precision(values, planted))
        for name, values in scores.items()
    }
    kinds = (("subject",), ("style",), ("subject", "style"))
    sizes = ((1,), (3,), (10,), (3, 10))
    train = planted.shape[1]
    rows = []
    for (method, weighting), kind, size in itertools.product(scores, kinds, sizes):
        mine = np.array([p.concept in kind and p.count in size for p in owners])
        if not mine.any():
            continue
        words = np.array([p.word for p in owners])[mine]
        hits, precision = (values[mine] for values in found[method, weighting])
        low, high = bootstrap(hits, words, settings.seed)
        map_low, map_high = bootstrap(precision, words, settings.seed)
        row = {
            "method": method,
            "weights": weighting,
            "concept": " and ".join(kind),
            "planted": " and ".join(map(str, size)),
            "recall_at_10": round(float(hits.mean()), 4),
            "low": low,
            "high": high,
            "mean_average_precision": round(float(precision.mean()), 4),
            "map_low": map_low,
            "map_high": map_high,
            "chance": round(TOP / train, 4),
            "map_chance": round(
                float(np.mean([chance_precision(p.count, train) for p in np.array(owners)[mine]])),
                4,
            ),
            "plantings": len(set(words)),
            "queries": int(mine.sum()),
        }
        if weighting == "concept":
            gain = precision - found[method, GENERAL][1][mine]
            gain_low, gain_high = bootstrap(gain, words, settings.seed)
            row |= {"map_gain_over_general": round(float(gain.mean()), 4)}
            row |= {"gain_low": gain_low, "gain_high": gain_high}
        rows.append(
            row
            | {
                "measured_on": f"{mine.sum()} generated pictures of {len(set(words))} planted words, one model "
                f"fine-tuned on {train} images with {len(settings.plantings)} plantings, "
                f"which made up {settings.planted} of {settings.batch_size} of each batch"
            }
        )
    return rows

"""Exemplars: what a model draws that was fine-tuned on one to five pictures should find these first.

As in AbC (arXiv 2306.09345): the model is fine-tuned on each exemplar alone, a new subject or style, and draws it from
the exemplar's own captions with other seeds: in combinations that the exemplar does not show, a model as small as this
does not draw it. Exemplars that a judge does not recognise in what was drawn were not
learned and are left out. All others are looked for among the whole collection and all exemplars, by gradients of the
model as it was before: asked in the right words, in those of another exemplar, and in none.
Everything is kept in WORK_DIR/exemplars and goes on where it was.

  python -m precompute evaluate exemplars --update
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attribution.answer.learning import LearnConfig, learn_weights
from attribution.answer.queries import Query, draw_queries, questions
from attribution.answer.questions import GENERAL
from attribution.cache.build import build_cache
from attribution.cache.scoring import contributions, weighted
from attribution.cache.site import CacheConfig
from attribution.cache.store import Cache, open_cache
from attribution.cache.weights import read_weights
from attribution.errors import InputError
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.kernel import apply_kernel
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import Collection, load_collection
from precompute.bar import bar
from precompute.evaluate.baselines import baseline_scores
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.statistics import average_precision, bootstrap, chance_precision, recall
from precompute.evaluate.truth.alone import AloneConfig, finetune_alone, judge_of_exemplars
from precompute.evaluate.truth.plantings import (
    EXEMPLARS,
    Planting,
    combinations,
    draw_planting,
    plant,
)

TOP = 10
PICTURES = 4  # of each exemplar
RECOGNISED = 3  # of them, for the exemplar to count as learned
SIZES = CacheConfig(proj_dim=16)

Scores = dict[tuple[str, str, str], Float[Tensor, "query train"]]  # method, weights, words


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for each concept, method and way to ask."""
    return measure_exemplars(config, EXEMPLARS, AloneConfig(seed=config.seed), "evaluation")


def measure_exemplars(
    config: EvaluateConfig, plantings: tuple[Planting, ...], settings: AloneConfig, purpose: str
) -> list[dict]:
    """Fine-tune what is not there yet, and measure the exemplars of one purpose."""
    folder = Path(config.work_dir) / "exemplars"
    plant(Path(config.train_data_dir), folder / "collection", plantings, settings.seed)
    collection = load_collection(folder / "collection")
    model = DiffusionModel.from_pretrained(config.pretrained_model_name_or_path, config.device)
    asked = [p for p in plantings if p.purpose == purpose]
    if config.queries:  # as many of each concept
        kinds = [[p for p in asked if p.concept == concept] for concept in ("subject", "style")]
        each = -(-config.queries // PICTURES // len(kinds))
        asked = [p for some in kinds for p in some[:each]]
    queries, owners = learned(config, folder, collection, plantings, asked, settings)
    cache = cache_of(model, collection, folder / "cache")
    scores = score(model, collection, cache, queries, owners)
    scores |= {(m, "none", "none"): s for m, s in baseline_scores(model, collection, queries)}
    labels = collection.labels
    wanted = torch.tensor([[row[p.concept] == p.word for row in labels] for p in owners])
    return summarise(scores, wanted, owners, len(asked), settings)


def learned(
    config: EvaluateConfig,
    folder: Path,
    collection: Collection,
    plantings: tuple[Planting, ...],
    asked: list[Planting],
    settings: AloneConfig,
) -> tuple[list[Query], list[Planting]]:
    """Draw every exemplar's pictures by its own model, and keep those of exemplars that were learned."""
    queries, owners = [], []
    for planting in asked:
        place = folder / f"models/{planting.word}"
        place.parent.mkdir(parents=True, exist_ok=True)
        model = finetune_alone(config.pretrained_model_name_or_path, planting, place, settings)
        captions = [row["text"] for _, row in draw_planting(planting, settings.seed)]
        places = [number % planting.count for number in range(PICTURES)]
        wanted = [combinations(planting, settings.seed)[place] for place in places]
        prompts = [captions[place] for place in places]
        drawn = draw_queries(model, collection, wanted, planting.purpose, prompts)
        judge = judge_of_exemplars(list(plantings), folder, model.size)
        named = judge.says([query.image for query in drawn])["word"]
        if named.count(planting.word) >= RECOGNISED:
            queries += drawn
            owners += [planting] * len(drawn)
    if not queries:
        raise InputError(
            f"none of {len(asked)} exemplars was learned in {settings.steps} steps; take a model that draws better"
        )
    return queries, owners


def cache_of(model: DiffusionModel, collection: Collection, folder: Path) -> Cache:
    """Make the cache of collection and exemplars and learn its weights, or open it."""
    with bar("gradients", "image") as on_step:
        build_cache(model, collection, folder, SIZES, on_step)
    if not (folder / "weights.safetensors").is_file():
        learn_weights(model, collection, folder, LearnConfig(queries=48))
    expected = {"model": model.fingerprint, "collection": collection.fingerprint()}
    return open_cache(folder, expected)


def score(
    model: DiffusionModel,
    collection: Collection,
    cache: Cache,
    queries: list[Query],
    owners: list[Planting],
) -> Scores:
    """Score all images by gradients, with general weights and the exemplar's concept's, in each kind of words."""
    extractor = FeatureExtractor.of(model, cache.header, cache.folder)
    weights, order, method = (
        read_weights(cache),
        cache.order_in(collection.rows),
        cache.header["method"],
    )

    def by_weights(features: Tensor, names: list[str]) -> Tensor:
        found = each_by_its_own(features, names, cache, weights)
        return torch.empty_like(found).index_copy_(1, order, found)

    words = {"right": owners, "wrong": exchanged(owners)}
    concepts, general = [p.concept for p in owners], [GENERAL] * len(owners)
    found: Scores = {}
    for kind, named in words.items():
        prompts = [
            q.prompt.replace(own.word, other.word)
            for q, own, other in zip(queries, owners, named, strict=True)
        ]
        asked = {GENERAL: prompts, "exemplar": [p.phrase for p in named]}
        features = questions(extractor, collection, queries, asked)
        found[method, GENERAL, kind] = by_weights(features[GENERAL], general)
        found[method, "equalised", kind] = by_weights(
            features[GENERAL], ["equalised"] * len(owners)
        )
        found[method, "concept", kind] = by_weights(features["exemplar"], concepts)
    silent = questions(extractor, collection, queries, {GENERAL: [""] * len(queries)})[GENERAL]
    found[method, GENERAL, "none"] = by_weights(silent, general)
    found[method, "equalised", "none"] = by_weights(silent, ["equalised"] * len(owners))
    found[method, "concept", "none"] = by_weights(silent, concepts)
    return found


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


def exchanged(owners: list[Planting]) -> list[Planting]:
    """Give every picture the next exemplar of its concept; its own where there is no other."""
    following = {}
    for concept in {p.concept for p in owners}:
        words = list(dict.fromkeys(p for p in owners if p.concept == concept))
        following |= dict(zip(words, words[1:] + words[:1], strict=True))
    return [following[p] for p in owners]


def summarise(
    scores: Scores,
    wanted: Bool[Tensor, "query train"],
    owners: list[Planting],
    asked: int,
    settings: AloneConfig,
) -> list[dict]:
    """Give a row for every concept (or both), method and way to ask; intervals resample exemplars."""
    rows, train = [], wanted.shape[1]
    names = np.array([p.word for p in owners])
    for (method, weights, words), values in scores.items():
        hits, precision = recall(values, wanted, TOP), average_precision(values, wanted)
        for kind in (("subject",), ("style",), ("subject", "style")):
            mine = np.array([p.concept in kind for p in owners], dtype=bool)
            if not mine.any():
                continue
            low, high = bootstrap(hits[mine], names[mine], settings.seed)
            map_low, map_high = bootstrap(precision[mine], names[mine], settings.seed)
            by_chance = [chance_precision(p.count, train) for p in np.array(owners)[mine]]
            rows.append(
                {
                    "method": method,
                    "weights": weights,
                    "words": words,
                    "concept": " and ".join(kind),
                    "recall_at_10": round(float(hits[mine].mean()), 4),
                    "low": low,
                    "high": high,
                    "mean_average_precision": round(float(precision[mine].mean()), 4),
                    "map_low": map_low,
                    "map_high": map_high,
                    "chance": round(TOP / train, 4),
                    "map_chance": round(float(np.mean(by_chance)), 4),
                    "queries": int(mine.sum()),
                    "measured_on": f"{mine.sum()} pictures of {len({*names[mine]})} exemplars among {train} images; "
                    f"{len({*names})} of {asked} exemplars were learned ({settings.steps} steps each)",
                }
            )
    return rows

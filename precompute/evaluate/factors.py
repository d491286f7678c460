"""Crossed factors: how many of the first training images show the query's own subject, style or background.

The queries are generated pictures of combinations that the model never saw. A cache holds one base method, so
that each run measures one; d-trak's run measures what needs no cache (baselines.py) and the controls, too:

  python -m precompute gradients --method trak --proj_dim 16 --damping 0 --output_dir runs/loss
  python -m precompute weights --cache_dir runs/loss
  python -m precompute evaluate factors --cache_dir runs/loss --update
"""

import itertools
import json
from collections.abc import Callable

import numpy as np
import torch
from tqdm import tqdm

from attribution.answer.queries import Query, draw_queries, questions
from attribution.answer.questions import GENERAL
from attribution.answer.similarity import caption_scores
from attribution.attributor import Attributor
from attribution.cache.scoring import contributions, top, weighted
from attribution.cache.stamps import collection_of
from attribution.cache.store import Cache, loaded_as, open_cache
from attribution.cache.weights import read_weights
from attribution.concepts import combinations, named_in
from attribution.errors import InputError
from attribution.gradients.features import FeatureExtractor, unit
from attribution.gradients.kernel import apply_kernel
from attribution.gradients.methods import METHODS
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection
from precompute.evaluate.baselines import baseline_scores
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.statistics import bootstrap, chance_level

TOP = 10
QUERIES = 240
SLOW = {"ekfac": 60}  # queries of a method that takes seconds for each
EXPLAINED = "d-trak"  # the method that is measured with controls and beside baselines

Ranking = Callable[[torch.Tensor, str], torch.Tensor]  # features, weights -> first places


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for each set of weights and each factor."""
    collection = collection_of(config.train_data_dir, config.cache_dir)
    check(collection)
    model = DiffusionModel.from_pretrained(
        config.pretrained_model_name_or_path, config.device, **loaded_as(config.cache_dir)
    )
    expected = {"model": model.fingerprint, "collection": collection.fingerprint()}
    cache = open_cache(config.cache_dir, expected)
    weights, method = read_weights(cache), cache.header["method"]
    count = config.queries or SLOW.get(method, QUERIES)
    wanted = combinations(collection, held_out=True, count=count, seed=config.seed)
    queries = draw_queries(model, collection, wanted, "evaluation")
    extractor = FeatureExtractor.of(model, cache.header, cache.folder)
    order = cache.order_in(collection.rows)

    def ranking(features: torch.Tensor, name: str) -> torch.Tensor:
        parts = contributions(apply_kernel(features, cache.kernel), cache)
        return order[top(weighted(parts, weights[name]), TOP)]

    asked = questions(extractor, collection, queries)
    raw = extractor.query(
        Encoded(extractor.model, [q.image for q in queries]), [q.prompt for q in queries]
    )
    ranked = {"uniform": order[top(plain_scores(raw, cache), TOP)]}
    ranked["equalised"] = ranking(asked[GENERAL], "equalised")
    ranked |= {name: ranking(features, name) for name, features in asked.items()}
    found = {(method, name): places for name, places in ranked.items()}
    controls = {}
    if method == EXPLAINED:
        controls = control_figures(
            Attributor(model, collection, cache), collection, queries, asked, ranked, ranking
        )
        for name, scores in baseline_scores(model, collection, queries):
            found[name, "none"] = top(scores, TOP)
        found |= caption_search(collection, queries)
    return [
        row | (controls[name] if name == row["factor"] and of == method and controls else {})
        for (of, name), places in found.items()
        for row in rows_of(
            of, name, places, found[method, "equalised"], collection, queries, config
        )
    ]


def caption_search(
    collection: Collection, queries: list[Query]
) -> dict[tuple[str, str], torch.Tensor]:
    """Search the captions for each concept's phrase: it sees no picture, and is asked what the concept's weights are."""
    return {
        ("caption search", concept): top(
            caption_scores([phrases[q.values[concept]] for q in queries], collection.captions), TOP
        )
        for concept, phrases in collection.concepts.items()
    }


def check(collection: Collection) -> None:
    """Refuse a collection on which nothing can be measured."""
    if len(collection) < TOP:
        raise InputError(
            f"{collection.folder} has {len(collection)} images; precision at {TOP} needs at least {TOP}"
        )
    for concept in collection.concepts:
        if any(concept not in labels for labels in collection.labels):
            raise InputError(
                f"the metadata of {collection.folder} lacks the column '{concept}' that concepts.json names; add it"
            )


def rows_of(
    method: str,
    name: str,
    places: torch.Tensor,
    equalised: torch.Tensor,
    collection: Collection,
    queries: list[Query],
    config: EvaluateConfig,
) -> list[dict]:
    """Describe one ranking: a row for each factor."""
    clusters, rows = np.array([json.dumps(q.values) for q in queries]), []
    for factor in collection.concepts:
        hits = hits_of(places, factor, collection, queries)
        values = hits.mean(1)
        low, high = bootstrap(values, clusters, config.seed)
        row = {
            "method": method,
            "weights": name,
            "factor": factor,
            **{f"precision_at_{k}": round(hits[:, :k].mean(), 4) for k in (1, 5, TOP)},
            "low": low,
            "high": high,
            "chance": round(
                chance_level([q.values[factor] for q in queries], collection.labels, factor), 4
            ),
        }
        if method in METHODS:
            gain = values - hits_of(equalised, factor, collection, queries).mean(1)
            gain_low, gain_high = bootstrap(gain, clusters, config.seed)
            row["gain_over_equalised"] = round(gain.mean(), 4)
            row |= {"gain_low": gain_low, "gain_high": gain_high}
        row["queries"] = len(queries)
        row["measured_on"] = f"{len(queries)} generated pictures of held-out combinations"
        rows.append(row)
    return rows


def hits_of(
    places: torch.Tensor, factor: str, collection: Collection, queries: list[Query]
) -> np.ndarray:
    """Tell for each query and place whether the training image shows the query's value, `[query, place]`."""
    return np.array(
        [
            [collection.labels[n][factor] == q.values[factor] for n in row]
            for q, row in zip(queries, places.tolist(), strict=True)
        ],
        dtype=float,
    )


def control_figures(
    attributor: Attributor,
    collection: Collection,
    queries: list[Query],
    asked: dict[str, torch.Tensor],
    ranked: dict[str, torch.Tensor],
    ranking: Ranking,
) -> dict[str, dict[str, float]]:
    """Give for each concept what its question, its words and its weights do by themselves."""
    phrases, controls, extractor = collection.concepts, {}, attributor.extractor
    few = queries[: len(collection.held_out)]  # each combination once
    images = [q.image for q in few]
    for c in phrases:
        values = [q.values[c] for q in queries]
        named = [
            named_in(collection.captions[n], {c: {v: phrases[c][v]}})
            for v, row in zip(values, ranked[c].tolist(), strict=True)
            for n in row
        ]
        # the concept's words without what no words at all give
        alone = unit(
            extractor.query(
                Encoded(extractor.model, images), [phrases[c][q.values[c]] for q in few]
            )
        )
        same_question = hits_of(ranking(asked[c], "equalised"), c, collection, queries)
        unsubtracted = hits_of(ranking(alone, "equalised"), c, collection, few)
        controls[c] = {
            "equalised_same_question": same_question.mean(),
            "shared_with_other_pictures": overlap(ranked[c].tolist(), values),
            "caption_names_it": np.mean([bool(found) for found in named]),
            "equalised_without_subtraction": unsubtracted.mean(),
        }
    for control, words in control_phrases(attributor, collection, few).items():
        for c, features in questions(extractor, collection, few, words).items():
            controls[c][control] = hits_of(ranking(features, c), c, collection, few).mean()
    return {c: {k: round(float(v), 4) for k, v in found.items()} for c, found in controls.items()}


def control_phrases(
    attributor: Attributor, collection: Collection, queries: list[Query]
) -> dict[str, dict[str, list[str]]]:
    """Ask in other words than the prompt's: guessed from the picture alone, and wrong on purpose.

    The first shows what is reached for a picture whose prompt nobody knows. The second shows how far the
    answer follows the words rather than the picture: precision is still that of the picture's own value.
    """
    guessed = [
        attributor.describe(Encoded(attributor.model, [q.image]), "")
        for q in tqdm(queries, "recognising")
    ]
    wrong: dict[str, list[str]] = {}
    for concept, phrases in collection.concepts.items():
        values = list(phrases)
        others = [values[(values.index(q.values[concept]) + 1) % len(values)] for q in queries]
        wrong[concept] = [phrases[value] for value in others]
    return {
        "phrase_guessed_from_picture": {c: [g[c] for g in guessed] for c in collection.concepts},
        "wrong_phrase": wrong,
    }


def overlap(rankings: list[list[int]], values: list[str]) -> float:
    """Give the mean share of a ranking that another picture of the same value has too.

    One means that the answer depends on the words alone, chance is near zero.
    """
    shares = [
        len(set(first) & set(second)) / TOP
        for (first, a), (second, b) in itertools.combinations(zip(rankings, values, strict=True), 2)
        if a == b
    ]
    return float(np.mean(shares)) if shares else 0.0


def plain_scores(raw: torch.Tensor, cache: Cache) -> torch.Tensor:
    """Score by the base method without weights: rows at norm one, every group counted once."""
    return contributions(apply_kernel(unit(raw), cache.kernel), cache).sum(1)

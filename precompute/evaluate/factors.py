"""Crossed factors: how many of the ten best training images show the query's own subject, style or background.

The queries are generated pictures of combinations that the model never saw. A cache holds one base method, so
that each run measures one:

  python -m precompute gradients --method trak --output_dir runs/loss
  python -m precompute weights --cache_dir runs/loss
  python -m precompute evaluate factors --cache_dir runs/loss --update
"""

import itertools
import json

import numpy as np
import torch
from tqdm import tqdm

from attribution.attributor import read_weights
from attribution.collection import Collection, load_collection
from attribution.concepts import named_in, recognise
from attribution.features import FeatureConfig, FeatureExtractor, unit
from attribution.kernel import apply_kernel, fit_kernel
from attribution.methods import method_named
from attribution.model import DiffusionModel
from attribution.questions import GENERAL
from attribution.scoring import contributions, top, weighted
from attribution.store import Cache, caption_column, open_cache
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.statistics import bootstrap, chance_level
from precompute.queries import Query, combinations, draw_queries, questions

TOP = 10
QUERIES = 240


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for each set of weights and each factor."""
    collection = load_collection(config.train_data_dir, caption_column(config.cache_dir))
    model = DiffusionModel.from_pretrained(config.pretrained_model_name_or_path, config.device)
    expected = {"model": model.fingerprint, "collection": collection.fingerprint()}
    cache = open_cache(config.cache_dir, expected)
    weights = read_weights(cache)
    wanted = combinations(
        collection, held_out=True, count=config.queries or QUERIES, seed=config.seed
    )
    queries = draw_queries(model, collection, wanted, "evaluation")
    extractor = FeatureExtractor(model, FeatureConfig(**cache.header["features"]))
    concepts, place = list(collection.concepts), {r: i for i, r in enumerate(collection.rows)}
    order = torch.tensor([place[row] for row in cache.rows])  # cache row -> collection row

    def ranking(features: torch.Tensor, name: str) -> torch.Tensor:
        parts = contributions(apply_kernel(features, cache.kernel), cache)
        return order[top(weighted(parts, weights[name]), TOP)]

    asked = questions(extractor, collection, queries)
    ranked = {name: ranking(features, name) for name, features in asked.items()}
    ranked["equalised"] = ranking(asked[GENERAL], "equalised")
    prompts = [q.prompt for q in queries]
    raw = extractor([q.image for q in queries], prompts)
    ranked["uniform"] = order[top(plain_scores(raw, cache), TOP)]

    def precision(places: torch.Tensor, factor: str, of: list[Query] = queries) -> np.ndarray:
        labels = collection.labels
        return np.array(
            [
                np.mean([labels[n][factor] == q.values[factor] for n in row])
                for q, row in zip(of, places.tolist(), strict=True)
            ]
        )

    controls = {
        c: {"equalised_same_question": precision(ranking(asked[c], "equalised"), c).mean()}
        for c in concepts
    }
    for c in concepts:
        values = [q.values[c] for q in queries]
        controls[c]["shared_with_other_pictures"] = overlap(ranked[c].tolist(), values)
        named = [
            named_in(collection.captions[n], {c: {v: collection.concepts[c][v]}})
            for v, row in zip(values, ranked[c].tolist(), strict=True)
            for n in row
        ]
        controls[c]["caption_names_it"] = np.mean([bool(found) for found in named])
    few = queries[: len(collection.held_out)]  # each combination once
    for c in concepts:  # the concept's words without what no words at all give
        words = [collection.concepts[c][q.values[c]] for q in few]
        alone = unit(extractor([q.image for q in few], words))
        places = ranking(alone, "equalised")
        controls[c]["equalised_without_subtraction"] = precision(places, c, few).mean()
    for control, words in control_phrases(model, collection, few).items():
        for c, features in questions(extractor, collection, few, words).items():
            controls[c][control] = precision(ranking(features, c), c, few).mean()
    hits = {(name, c): precision(places, c) for name, places in ranked.items() for c in concepts}
    chance = {
        f: chance_level([q.values[f] for q in queries], collection.labels, f) for f in concepts
    }
    clusters = np.array([json.dumps(q.values) for q in queries])
    rows = []
    for name in ("uniform", "equalised", GENERAL, *concepts):
        for factor in concepts:
            values = hits[name, factor]
            low, high = bootstrap(values, clusters, config.seed)
            gain = values - hits["equalised", factor]
            gain_low, gain_high = bootstrap(gain, clusters, config.seed)
            rows.append(
                {
                    "method": cache.header["method"],
                    "weights": name,
                    "factor": factor,
                    "precision_at_10": round(values.mean(), 4),
                    "low": low,
                    "high": high,
                    "chance": round(chance[factor], 4),
                    "gain_over_equalised": round(gain.mean(), 4),
                    "gain_low": gain_low,
                    "gain_high": gain_high,
                    "queries": len(queries),
                    **(
                        {k: round(float(v), 4) for k, v in controls[name].items()}
                        if name == factor
                        else {}
                    ),
                    "measured_on": f"{len(queries)} generated pictures of held-out combinations",
                }
            )
    return rows


def control_phrases(
    model: DiffusionModel, collection: Collection, queries: list[Query]
) -> dict[str, dict[str, list[str]]]:
    """Ask in other words than the prompt's: guessed from the picture alone, and wrong on purpose.

    The first shows what is reached for a picture whose prompt nobody knows. The second shows how far the
    answer follows the words rather than the picture: precision is still that of the picture's own value.
    """
    guessed = [recognise(model, q.image, collection.concepts) for q in tqdm(queries, "recognising")]
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
    """Score by the base method as published: gradients of any norm, every group counted once."""
    train, queries = cache.features(raw=True), raw
    if method_named(cache.header["method"]).kernel:
        wide = train.transpose(0, 1).double()  # [group, train, dim]
        kernel = fit_kernel(wide.mT @ wide, len(train), cache.header["damping"])
        queries = apply_kernel(raw, kernel)
    return queries.flatten(1) @ train.flatten(1).T


def table(rows: list[dict]) -> str:
    """Lay rows out as a Markdown table: a line for each method and weights, a column for each factor."""
    factors = list(dict.fromkeys(row["factor"] for row in rows))
    chance = {row["factor"]: row["chance"] for row in rows}
    lines = [
        "| method | weights | "
        + " | ".join(f"{f} (chance {chance[f]:.3f})" for f in factors)
        + " |"
    ]
    lines.append("|---" * (2 + len(factors)) + "|")
    for method, weights in dict.fromkeys((row["method"], row["weights"]) for row in rows):
        cells = [
            f"{row['precision_at_10']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
            for factor in factors
            for row in rows
            if (row["method"], row["weights"], row["factor"]) == (method, weights, factor)
        ]
        lines.append(f"| {method} | {weights} | " + " | ".join(cells) + " |")
    return "\n".join(lines)

"""Learn concepts of one's own whose answer is known, and ask whether their first training images are right.

Each phrase is learned as a visitor would (attribution/looks/own.py), and what it means is written down here in the collection's
labels, which nothing but this measurement reads: phrases that the captions use, for values and for two values at once,
and words that no caption uses. The queries are generated pictures of held-out combinations that show what is meant. Beside
precision@10 under the learned weights stand the same question under equalised weights and, where one value is meant,
the shipped phrase's question under the shipped weights. `shown` and `not_shown` are the shares of pictures with a p-value
of at most 5 %, of pictures that show what is meant and of others.

  python -m precompute evaluate own --update
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attribution.answer.calibration import evidence
from attribution.answer.queries import Query, draw_queries
from attribution.answer.questions import GENERAL, query_features
from attribution.attributor import Attributor
from attribution.cache.scoring import top, weighted
from attribution.cache.weights import read_weights
from attribution.concepts import combinations
from attribution.gradients.kernel import apply_kernel
from attribution.looks.own import OwnConcept, learn_concept, own_p_value
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.statistics import bootstrap, clopper_pearson

TOP = 10
QUERIES = 30  # pictures that show what is meant, and as many that do not
LEVEL = 0.05
Meaning = dict[str, str]  # concept -> value
PHRASES: dict[str, Meaning] = {
    # as concepts.json says them
    "a cat": {"subject": "cat"},
    "a woodcut": {"style": "woodcut"},
    "in the city": {"background": "city"},
    # otherwise, in words that captions use
    "pointillism": {"style": "pointillism"},
    "glass": {"style": "stained glass"},
    "the night": {"background": "night"},
    # two values at once
    "a cat in the city": {"subject": "cat", "background": "city"},
    # in words that no caption uses
    "a kitten": {"subject": "cat"},
    "an engraving": {"style": "woodcut"},
    "downtown": {"background": "city"},
}


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for each phrase."""
    attributor = Attributor.from_pretrained(
        config.pretrained_model_name_or_path, config.cache_dir, config.train_data_dir, config.device
    )
    collection, count = attributor.collection, config.queries or QUERIES
    every = combinations(collection, True, len(collection.held_out), config.seed)
    rows = []
    for phrase, meaning in PHRASES.items():
        concept = learn_concept(attributor, phrase, seed=config.seed)
        shown = [values for values in every if means(meaning, values)]
        others = [values for values in every if not means(meaning, values)]
        wanted = [some[i % len(some)] for some in (shown, others) for i in range(count)]
        queries = draw_queries(attributor.model, collection, wanted, "evaluation")
        row = row_of(attributor, concept, meaning, queries[:count], config.seed)
        rows.append(row | judged(attributor, phrase, queries, count))
    return rows


def means(meaning: Meaning, values: Meaning) -> bool:
    """Tell whether these values are among those that a phrase means."""
    return meaning.items() <= values.items()


def row_of(
    attributor: Attributor, concept: OwnConcept, meaning: Meaning, queries: list[Query], seed: int
) -> dict:
    """Describe the first training images of pictures that show what is meant."""
    collection = attributor.collection
    parts = contributions_of(attributor, concept.phrase, queries)
    hits = precision(parts, concept.weights, meaning, collection)
    equal = precision(parts, read_weights(attributor.cache)["equalised"], meaning, collection)
    names = [str(query.values) for query in queries]
    several = len(set(names)) > 1
    clusters = np.array(names) if several else np.arange(len(names))
    low, high = bootstrap(hits, clusters, seed)
    gain_low, gain_high = bootstrap(hits - equal, clusters, seed)
    shipped = None
    if len(meaning) == 1:
        [(name, value)] = meaning.items()
        words = collection.concepts[name][value]
        if words != concept.phrase:
            parts = contributions_of(attributor, words, queries)
        shipped = round(precision(parts, attributor.weights[name], meaning, collection).mean(), 4)
    return {
        "phrase": concept.phrase,
        "means": ", ".join(meaning.values()),
        "unknown_words": ", ".join(concept.unknown_words),
        "precision_at_10": round(float(hits.mean()), 4),
        "low": low,
        "high": high,
        "chance": round(float(np.mean([means(meaning, row) for row in collection.labels])), 4),
        "equalised": round(float(equal.mean()), 4),
        "gain_low": gain_low,
        "gain_high": gain_high,
        "shipped": shipped,
        "effective_groups": concept.report["effective_groups"],
        "learned_from": concept.queries,
        "seconds": concept.seconds,
        "threads": torch.get_num_threads(),
        "measured_on": f"{len(queries)} generated pictures of {len(set(names))} held-out "
        f"combinations; interval over {'combinations' if several else 'pictures'}",
    }


def contributions_of(
    attributor: Attributor, phrase: str, queries: list[Query]
) -> Float[Tensor, "query group train"]:
    """Ask every picture about a phrase."""
    images, asked = [query.image for query in queries], {"own": [phrase] * len(queries)}
    features = query_features(attributor.extractor, Encoded(attributor.model, images), asked)["own"]
    return attributor.contributions(apply_kernel(features, attributor.cache.kernel))


def precision(
    parts: Float[Tensor, "query group train"],
    weights: Float[Tensor, "group"],
    meaning: Meaning,
    collection: Collection,
) -> np.ndarray:
    """Give for each query the share of the first training images that show what is meant."""
    places = top(weighted(parts, weights), TOP).tolist()
    return np.array(
        [np.mean([means(meaning, collection.labels[n]) for n in row]) for row in places]
    )


def judged(attributor: Attributor, phrase: str, queries: list[Query], shown: int) -> dict:
    """Give the shares of pictures whose p-value is low, of those that show what is meant and of the others."""
    low = np.array([p_value_of(attributor, phrase, query) <= LEVEL for query in queries])
    row = {}
    for name, some in {"shown": low[:shown], "not_shown": low[shown:]}.items():
        row[name] = round(float(some.mean()), 4)
        row[f"{name}_low"], row[f"{name}_high"] = clopper_pearson(int(some.sum()), len(some))
    return row


def p_value_of(attributor: Attributor, phrase: str, query: Query) -> float:
    """Give the p-value of a phrase for a picture that is described by its prompt."""
    found = evidence(
        Encoded(attributor.model, [query.image]), {GENERAL: query.prompt, "own": phrase}
    )
    whole = attributor.calibration.p_values({GENERAL: found[GENERAL]})
    return own_p_value(attributor.calibration, whole, found["own"])

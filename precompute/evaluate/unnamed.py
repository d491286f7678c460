"""Ask of unnamed hands whether a style and a workshop are found that no word of the prompt names.

Pictures are drawn from prompts that leave the style out, and a judge (judge.py), trained on the collection's pictures
alone, says which style, and whose hand, each of them shows. Of pictures of which it is sure, precision counts how many
of the first training images are of that style (of that hand). The style's question is asked in words guessed from the
picture; or in none, with the style's weights, or with the general ones, on the question about the whole picture.

  python -m precompute evaluate unnamed --update
  python -m precompute evaluate unnamed --pictures FOLDER ...   # real pictures kept apart, whose labels are known
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from attribution.answer.queries import Query, draw_queries, questions
from attribution.answer.questions import GENERAL
from attribution.attributor import Attributor
from attribution.cache.scoring import contributions, top, weighted
from attribution.cache.stamps import collection_of
from attribution.cache.store import loaded_as, open_cache
from attribution.cache.weights import read_weights
from attribution.concepts import captioned, combinations
from attribution.errors import InputError
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.kernel import apply_kernel
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection, load_collection
from precompute.evaluate.baselines import baseline_scores
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.statistics import bootstrap
from precompute.judge import Judge, judge_of

STYLE, HAND = "style", "artist"
QUERIES = 240
SURE = 0.9  # the judge's probability, from which on a picture counts
TOP = 10

Rankings = dict[tuple[str, str, str], Int[Tensor, "query top"]]  # (method, weights, words) -> rows


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for each factor, method and way to ask."""
    collection = collection_of(config.train_data_dir, config.cache_dir)
    if STYLE not in collection.concepts:
        raise InputError(f"{collection.folder} names no {STYLE} in a concepts.json; write one")
    model = DiffusionModel.from_pretrained(
        config.pretrained_model_name_or_path, config.device, **loaded_as(config.cache_dir)
    )
    right = {}
    if config.pictures:
        apart = load_collection(config.pictures)
        every = range(len(apart))[: config.queries or len(apart)]
        queries = [Query(apart.image(n), {}, apart.captions[n]) for n in every]
        shown = {f: [apart.labels[n].get(f) for n in every] for f in (STYLE, HAND)}
        words = "real pictures kept apart from training"
    else:
        wanted, prompts = styleless(collection, config.queries or QUERIES, config.seed)
        queries = draw_queries(model, collection, wanted, "unnamed", prompts)
        judges = {f: judge_for(f, collection, model, Path(config.work_dir)) for f in (STYLE, HAND)}
        shown = {f: judged(judge, queries) for f, judge in judges.items() if judge}
        right = {f: {"judge": round(judge.right[f], 4)} for f, judge in judges.items() if judge}
        words = "pictures of whose {factor} the judge is sure"
    ranked = rankings(config, model, collection, queries)
    return [
        row | right.get(factor, {})
        for factor, seen in shown.items()
        for row in rows_of(factor, seen, collection, queries, ranked, words, config.seed)
    ]


def judged(judge: Judge, queries: list[Query]) -> list[str | None]:
    """Give the value that the judge sees in each picture; nothing where it is not sure."""
    [(factor, values)] = judge.values.items()
    confidence, said = judge.confidence([q.image for q in queries])[factor].max(1)
    pairs = zip(confidence.tolist(), said.tolist(), strict=True)
    return [values[place] if sure >= SURE else None for sure, place in pairs]


def styleless(
    collection: Collection, count: int, seed: int
) -> tuple[list[dict[str, str]], list[str]]:
    """Choose what is drawn: every other concept, or captions of pictures whose style they do not name."""
    others = replace(
        collection,
        concepts={c: v for c, v in collection.concepts.items() if c != STYLE},
        held_out=[],
    )
    if len(others.concepts) > 1:
        wanted = combinations(others, held_out=False, count=count, seed=seed)
        words = [" ".join(collection.concepts[c][v] for c, v in row.items()) for row in wanted]
        return wanted, words
    prompts = captioned(collection, count, seed)
    return [{}] * count, prompts


def judge_for(
    factor: str, collection: Collection, model: DiffusionModel, work: Path
) -> Judge | None:
    """Give a judge of one column of the labels; none where pictures lack it, or all have the same."""
    named = sorted({row.get(factor, "") for row in collection.labels})
    if "" in named or len(named) < 2:
        return None
    alone = replace(collection, concepts={factor: {name: name for name in named}})
    path = work / f"judges/{collection.fingerprint()}-{factor}.safetensors"
    return judge_of(alone, model.size, path)


def rankings(
    config: EvaluateConfig, model: DiffusionModel, collection: Collection, queries: list[Query]
) -> Rankings:
    """Rank by every way to ask, and by every baseline."""
    expected = {"model": model.fingerprint, "collection": collection.fingerprint()}
    cache = open_cache(config.cache_dir, expected)
    weights, method = read_weights(cache), cache.header["method"]
    extractor = FeatureExtractor.of(model, cache.header, cache.folder)
    order = cache.order_in(collection.rows)

    def first(features: Tensor, name: str) -> Tensor:
        parts = contributions(apply_kernel(features, cache.kernel), cache)
        return order[top(weighted(parts, weights[name]), TOP)]

    attributor = Attributor(model, collection, cache)
    guessed = [attributor.describe(Encoded(model, [q.image]), q.prompt)[STYLE] for q in queries]
    asked = {GENERAL: [q.prompt for q in queries], STYLE: guessed}
    features = questions(extractor, collection, queries, asked)
    found = {
        (method, STYLE, "guessed"): first(features[STYLE], STYLE),
        (method, STYLE, "none"): first(features[GENERAL], STYLE),
        (method, GENERAL, "none"): first(features[GENERAL], GENERAL),
    }
    for name, scores in baseline_scores(model, collection, queries):
        found[name, "none", "none"] = top(scores, TOP)
    return found


def rows_of(
    factor: str,
    shown: list[str | None],
    collection: Collection,
    queries: list[Query],
    ranked: Rankings,
    words: str,
    seed: int,
) -> list[dict]:
    """Compare the first places with what is known to be shown."""
    sure = [place for place, value in enumerate(shown) if value is not None]
    if not sure:
        raise InputError(
            f"of no picture is it known whose {factor} it shows; train the model for longer"
        )
    seen = [shown[place] for place in sure]
    column = np.array([row[factor] for row in collection.labels])
    chance = float(np.mean([(column == value).mean() for value in seen]))
    clusters = np.array([queries[i].prompt for i in sure])
    rows = []
    for (method, weights, asked), places in ranked.items():
        hits = (column[places[torch.tensor(sure)].numpy()] == np.array(seen)[:, None]).mean(1)
        low, high = bootstrap(hits, clusters, seed)
        rows.append(
            {
                "collection": collection.folder.name,
                "factor": factor,
                "method": method,
                "weights": weights,
                "words": asked,
                "precision_at_10": round(float(hits.mean()), 4),
                "low": low,
                "high": high,
                "chance": round(chance, 4),
                "measured_on": f"{len(sure)} of {len(queries)} {words.format(factor=factor)}",
            }
        )
    return rows

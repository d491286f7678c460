"""Ask whether summed scores predict the losses of models trained on random halves of the study (LDS).

For every gradient method: gradients as published ("uniform"), groups made equal, and learned weights, each with the
settings (strength of the kernel, rows at norm one or not, k) that are best on other halves and other queries. Beside
them stand methods without gradients, and the encoded ensemble: the models of the halves for choosing know which picture each
of them saw, so that a picture's influence is what the loss gains where it was left out.

  python -m precompute retrain                  trains the halves; its result is committed
  python -m precompute evaluate lds --update    scores every method in seconds to minutes
"""

from jaxtyping import Bool, Float
from torch import Tensor

from attribution.answer.queries import Query, draw_queries
from attribution.concepts import combinations, full_prompt
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.methods import METHODS, method_named
from attribution.models.encoded import Encoded
from precompute.evaluate.baselines import baseline_scores
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.statistics import bootstrap_lds, spearman, subset_sums
from precompute.evaluate.studied import (
    UNLABELLED,
    Studied,
    in_order,
    method_cache,
    open_studied,
)
from precompute.evaluate.truth.datamodels import (
    Features,
    ceiling,
    choose,
    retraining,
    rows_of_chosen,
)

DAMPINGS = (0.01, 0.1, 1.0, 10.0)  # of the mean diagonal
EKFAC_DAMPING = 0.1  # Grosse et al. 2023, arXiv 2308.03296, take a tenth of the mean eigenvalue


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for each method and set of weights."""
    studied = open_studied(config)
    truth, queries = studied.truth["evaluation"], studied.queries["evaluation"]
    seeds, halves, count = truth.losses.shape
    about = {
        "ceiling": ceiling(truth),
        "retraining": retraining(truth),
        "subsets": halves,
        "seeds": seeds,
        "queries": count,
        "measured_on": f"{count} pictures drawn by the study's model, {halves} random halves of "
        f"{len(studied.study.collection)} x {seeds} seeds; settings chosen on other halves and pictures (60 of the prompts are the same); interval over "
        "queries and halves",
    }
    rows = []
    for method in METHODS:
        features = take_features(studied, method)
        kernel = method_named(method).kernel
        dampings = DAMPINGS if kernel == "block" else (None,)
        found = rows_of_chosen(choose(features, studied.truth, dampings), truth, config.seed)
        rows += [{"method": method} | row | about for row in found]
    asked = [Query(q.image, {}, q.prompt) for q in queries]
    others = dict(baseline_scores(studied.full(), studied.study.collection, asked))
    others["encoded ensemble"] = ensemble_scores(
        studied.truth["validation"].masks, studied.ensemble_losses
    )
    for method, scores in others.items():
        sums = subset_sums(scores.numpy(), truth.masks.numpy(), truth.mean_losses)
        interval = bootstrap_lds(sums, sums, truth.mean_losses, config.seed)
        figures = {
            "lds": round(float(spearman(sums, -truth.mean_losses.T).mean()), 4),
            "low": interval["low"],
            "high": interval["high"],
            "chance": 0.0,
        }
        rows.append({"method": method, "weights": "none"} | figures | about)
    return rows


def take_features(studied: Studied, method: str) -> Features:
    """Make the features of all training images and of all queries with the study's full model."""
    cache = method_cache(studied, method, EKFAC_DAMPING)
    extractor = FeatureExtractor.of(studied.full(), cache.header, cache.folder)
    collection = studied.study.collection
    drawn = draw_queries(studied.full(), collection, unlabelled(studied), "weights")
    return Features(
        in_order(studied, cache),
        extractor.query(
            Encoded(extractor.model, [q.image for q in drawn]), [q.prompt for q in drawn]
        ),
        {
            purpose: extractor.query(
                Encoded(extractor.model, [q.image for q in asked]), [q.prompt for q in asked]
            )
            for purpose, asked in studied.queries.items()
        },
    )


def unlabelled(studied: Studied) -> list[dict[str, str]]:
    """Choose combinations to fit weights on, none of which is a query's."""
    collection = studied.study.collection
    asked = {query.prompt for queries in studied.queries.values() for query in queries}
    every = combinations(collection, held_out=False, count=len(collection), seed=0)
    phrases = [{k: collection.concepts[k][v] for k, v in c.items()} for c in every]
    prompts = [full_prompt(each, collection.sentence) for each in phrases]
    new = [c for c, prompt in zip(every, prompts, strict=True) if prompt not in asked]
    return (new or every)[:UNLABELLED]


def ensemble_scores(
    masks: Bool[Tensor, "model train"], losses: Float[Tensor, "model query"]
) -> Float[Tensor, "query train"]:
    """Give the mean loss of the models that did not see a picture, less that of those that did."""
    seen = masks.float()
    with_it = losses.T @ seen / seen.sum(0).clamp_min(1)
    without = losses.T @ (1 - seen) / (1 - seen).sum(0).clamp_min(1)
    return without - with_it

"""Ask whether summed scores predict the losses of models trained on random halves of the study (LDS).

For every gradient method, under each picture's own noise and under noise that all share, and for each kernel: every group
once, groups made equal, learned weights, and an oracle's that are fitted on the truth of other halves. A kernel's strength is
the one that is best on other halves and other queries. Beside them stand a mix of two methods, methods without
gradients, what needs the trainer (rivals.py), and the encoded ensemble: the models of the halves for choosing know which
picture each of them saw, so that a picture's influence is what the loss gains where it was left out.

  python -m precompute retrain                  trains the halves; its result is committed
  python -m precompute evaluate lds --update    scores every method in minutes; what is done is kept
"""

from collections.abc import Iterator

from jaxtyping import Bool, Float
from torch import Tensor

from attribution.answer.queries import Query
from attribution.files import file_hash, hash_of, load_tensors, save_tensors
from attribution.gradients.methods import METHODS, Method
from precompute.evaluate.baselines import baseline_scores
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.rivals import rival_scores
from precompute.evaluate.statistics import bootstrap_lds, spearman, subset_sums
from precompute.evaluate.studied import Studied, open_studied
from precompute.evaluate.taken import config_of, take_features
from precompute.evaluate.truth.datamodels import (
    OTHER,
    Chosen,
    Truth,
    ceiling,
    choose,
    retraining,
    rows_of_chosen,
)
from precompute.evaluate.truth.kernels import KERNELS

NOISES = ("own", "shared")
MIXED = (
    ("d-trak", "own", 0.25),
    ("trak", "shared", 0.75),
)  # method, noise, share; chosen on validation


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for each method, noise, kernel and set of weights."""
    studied = open_studied(config)
    truth = studied.truth["evaluation"]
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
    found, rows = {}, []
    for method in METHODS.values():
        for noise in NOISES:
            found[method.name, noise] = chosen(studied, method, noise)
    if all(place[:2] in found for place in MIXED):
        found["d-trak + trak", "own + shared"] = mixed(found)
    for (method, noise), some in found.items():
        scored = rows_of_chosen(some, truth, config.seed)
        rows += [{"method": method, "noise": noise} | row | about for row in scored]
    for method, scores in others(studied):
        rows.append(
            {"method": method, "weights": "none"} | figures(scores, truth, config.seed) | about
        )
    return rows


def chosen(studied: Studied, method: Method, noise: str) -> list[Chosen]:
    """Score the evaluation's queries with a method in every way, or read what was scored."""
    truth = file_hash(studied.ground_truth)
    key = hash_of([config_of(method, noise).recorded(), studied.full().fingerprint, truth])
    path = studied.work / f"lds/{method.name}-{noise}-{key}.safetensors"
    if not path.is_file():
        made = choose(take_features(studied, method, noise), studied.truth, kernels_of(method))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(
            path,
            {
                f"{n:02}/{c.kernel}/{c.weights}/{c.damping or 0}": c.scores
                for n, c in enumerate(made)
            },
        )
    found = []
    for name, scores in sorted(load_tensors(path).items()):
        _, kernel, weights, damping = name.split("/")
        found.append(Chosen(kernel, weights, float(damping) or None, scores))
    return found


def kernels_of(method: Method) -> tuple[str, ...]:
    """Say which kernels are tried: TracIn is TRAK without one, and EK-FAC brings its own."""
    if not method.kernel.damped or method.kernel.before_projection:
        return ("I",)
    return ("block", "full") if method.name == "trak" else tuple(KERNELS)


def mixed(found: dict[tuple[str, str], list[Chosen]]) -> list[Chosen]:
    """Mix two methods' scores under the block kernel, each query's divided by their root mean square."""
    parts = [
        {c.weights: c for c in found[method, noise] if c.kernel == "block"}
        for method, noise, _ in MIXED
    ]
    names = [name for name in parts[0] if all(name in part for part in parts)]
    return [
        Chosen("block", name, None, sum(
            share * part[name].scores / part[name].scores.square().mean(1, keepdim=True).sqrt()
            for part, (*_, share) in zip(parts, MIXED, strict=True)
        ))
        for name in names
    ]  # fmt: skip


def others(studied: Studied) -> Iterator[tuple[str, Float[Tensor, "query train"]]]:
    """Score without gradients, with the trainer, and with the models of other halves."""
    asked = [Query(q.image, {}, q.prompt) for q in studied.queries["evaluation"]]
    yield from baseline_scores(studied.full(), studied.study.collection, asked)
    yield from rival_scores(studied)
    known = studied.truth[OTHER]
    yield "encoded ensemble", ensemble_scores(known.masks, known.losses.mean(0))


def figures(scores: Float[Tensor, "query train"], truth: Truth, seed: int) -> dict[str, float]:
    """Give the LDS of scores with its interval."""
    sums = subset_sums(scores.numpy(), truth.masks.numpy(), truth.mean_losses)
    interval = bootstrap_lds(sums, sums, truth.mean_losses, seed)
    return {
        "lds": round(float(spearman(sums, -truth.mean_losses.T).mean()), 4),
        "low": interval["low"],
        "high": interval["high"],
        "chance": 0.0,
    }


def ensemble_scores(
    masks: Bool[Tensor, "model train"], losses: Float[Tensor, "model query"]
) -> Float[Tensor, "query train"]:
    """Give the mean loss of the models that did not see a picture, less that of those that did."""
    seen = masks.float()
    with_it = losses.T @ seen / seen.sum(0).clamp_min(1)
    without = losses.T @ (1 - seen) / (1 - seen).sum(0).clamp_min(1)
    return without - with_it

"""Other domains: how well scores predict the losses of networks trained on random halves.

The linear datamodeling score (LDS, arXiv 2303.14186, eq. 4) of a digit classifier and of a small GPT-2, under
uniform weights of plain gradients (as published), under groups made equal, and under learned weights. Each chooses its
own settings on other queries and other halves, so that learned weights meet their baseline at its best. The ground
truth is committed; without it, this trains some hundreds of small networks.

  python -m precompute evaluate domains --update
"""

import itertools
import time
from pathlib import Path

import numpy as np
import torch

from precompute.domains import digits, docstrings
from precompute.domains.domain import Domain, train
from precompute.domains.halves import HalvesConfig, Truth, ground_truth
from precompute.domains.scores import WEIGHTS, Features, Scorer, Setting, take_features
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.statistics import bootstrap, linear_datamodeling_score, spearman

GROUND_TRUTH = Path("benchmarks/ground_truth")
DAMPINGS = {"tracin": (None,), "trak": (0.01, 0.1, 1.0, 10.0)}  # of the mean diagonal
TOP_KS = (5, 20, 50)
PROJ_DIM = 256
FULL_SEED = 1000  # of the network that is attributed; those of the halves lie below


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for each domain, method and set of weights."""
    texts = docstrings.load(GROUND_TRUTH / "docstrings.safetensors")
    rows = []
    for domain, halves in ((digits.load(), HalvesConfig(seeds=3)), (texts, HalvesConfig(seeds=2))):
        path = GROUND_TRUTH / f"{domain.name}.safetensors"
        truth = ground_truth(domain, halves, path, Path(config.work_dir) / "domains")
        rows += measure_domain(domain, truth, config.seed)
    return rows


def measure_domain(domain: Domain, truth: dict[str, Truth], seed: int) -> list[dict]:
    """Choose settings on the validation halves and queries; give the rows of the others."""
    start = time.process_time()
    network = train(domain, torch.arange(len(domain.train[0])), FULL_SEED)
    training = (time.process_time() - start) / 2  # a half takes half as long
    features = take_features(domain, network, PROJ_DIM)
    reported = truth["evaluation"]
    seeds, halves, queries = reported.losses.shape
    common = {
        "ceiling": ceiling(reported),
        "ceiling_one_seed": ceiling_one_seed(reported),
        "subsets": halves,
        "seeds": seeds,
        "queries": queries,
        "groups": features.train.shape[1],
        "measured_on": f"{queries} held-out {domain.name}, {halves} random halves of "
        f"{len(domain.train[0])} x {seeds} seeds",
    }
    rows = []
    for method in DAMPINGS:
        chosen = choose(features, truth, method)
        equalised = chosen["equalised"][1].mean()
        for weights, (setting, values) in chosen.items():
            gain, each = values - chosen["equalised"][1], np.arange(queries)
            low, high = bootstrap(values, each, seed)
            gain_low, gain_high = bootstrap(gain, each, seed)
            rows.append(
                {
                    "domain": domain.name,
                    "method": method,
                    "weights": weights,
                    "lds": round(values.mean(), 4),
                    "low": low,
                    "high": high,
                    "chance": 0.0,
                    "gain_over_equalised": round(gain.mean(), 4),
                    "gain_low": gain_low,
                    "gain_high": gain_high,
                    "relative_gain": round(gain.mean() / equalised, 4),
                    **vars(setting),
                    **common,
                }
            )
    trainings = sum(purpose.losses.shape[0] * len(purpose.masks) for purpose in truth.values())
    spent = {
        "seconds": round(time.process_time() - start, 1),  # of one core, all rows of the domain
        "training_seconds": round(trainings * training),  # of the ground truth, estimated
    }
    return [row | spent for row in rows]


def choose(
    features: Features, truth: dict[str, Truth], method: str
) -> dict[str, tuple[Setting, np.ndarray]]:
    """Give, for each set of weights, the setting that is best on validation and its LDS on evaluation."""
    best: dict[str, tuple[float, Setting, np.ndarray]] = {}
    for unit_rows, damping in itertools.product((False, True), DAMPINGS[method]):
        scorer = Scorer(features, unit_rows, damping)
        for name in WEIGHTS:
            if name == "uniform" and unit_rows:
                continue  # published methods take gradients as they are
            for top_k in TOP_KS if name == "learned" else (None,):
                weights = scorer.weights(name, top_k)
                found = {
                    purpose: linear_datamodeling_score(
                        scorer.scores(purpose, weights).numpy(),
                        halves.masks.numpy(),
                        halves.losses.mean(0).numpy(),
                    )
                    for purpose, halves in truth.items()
                }
                figure = found["validation"].mean()
                if name not in best or figure > best[name][0]:
                    setting = Setting(unit_rows, damping, top_k)
                    best[name] = (figure, setting, found["evaluation"])
    return {name: kept[1:] for name, kept in best.items()}


def ceiling(truth: Truth) -> float:
    """Rank-correlate each seed's losses with the mean of the other seeds': what retraining itself reaches."""
    losses = truth.losses.numpy()
    figures = [
        spearman(losses[s].T, np.delete(losses, s, 0).mean(0).T).mean() for s in range(len(losses))
    ]
    return round(float(np.mean(figures)), 4)


def ceiling_one_seed(truth: Truth) -> float:
    """Rank-correlate each seed's losses with another seed's."""
    pairs = itertools.combinations(truth.losses.numpy(), 2)
    return round(float(np.mean([spearman(a.T, b.T).mean() for a, b in pairs])), 4)


def table(rows: list[dict]) -> str:
    """Give the rows as Markdown."""
    lines = [
        "| domain | method | weights | LDS | gain over equalised | relative | ceiling |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['domain']} | {row['method']} | {row['weights']} "
            f"| {row['lds']:.3f} [{row['low']:.3f}, {row['high']:.3f}] "
            f"| {row['gain_over_equalised']:+.3f} [{row['gain_low']:+.3f}, {row['gain_high']:+.3f}] "
            f"| {row['relative_gain']:+.0%} | {row['ceiling']:.3f} |"
        )
    return "\n".join(lines)

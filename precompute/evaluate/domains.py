"""Other domains: how well scores predict the losses of networks trained on random halves.

The linear datamodeling score (LDS, arXiv 2303.14186, eq. 4) of a digit classifier and of a small GPT-2, rows at norm
one, with every group once, with groups made equal, and under learned weights. Settings are chosen on
other queries and other halves, so that learned weights meet their baseline at its best. The ground
truth is committed; without it, this trains some hundreds of small networks.

  python -m precompute evaluate domains --update
"""

import time
from pathlib import Path

import torch
from torch import Tensor, nn

from attribution.gradients.features import unit
from attribution.gradients.projector import GradientProjector
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.elsewhere import digits, docstrings
from precompute.evaluate.elsewhere.domain import Domain, Examples, rows_of, train
from precompute.evaluate.elsewhere.halves import HalvesConfig, ground_truth
from precompute.evaluate.truth.datamodels import (
    Features,
    Truth,
    ceiling,
    choose,
    retraining,
    rows_of_chosen,
)

GROUND_TRUTH = Path("benchmarks/ground_truth")
KERNELS = {"tracin": ("I",), "trak": ("block",)}
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
        "retraining": retraining(reported),
        "subsets": halves,
        "seeds": seeds,
        "queries": queries,
        "groups": features.train.shape[1],
        "measured_on": f"{queries} held-out {domain.name}, {halves} random halves of "
        f"{len(domain.train[0])} x {seeds} seeds",
    }
    rows = []
    for method, kernels in KERNELS.items():
        chosen = choose(features, truth, kernels)
        about = {"domain": domain.name, "method": method}
        rows += [about | row | common for row in rows_of_chosen(chosen, reported, seed)]
    trainings = sum(purpose.losses.shape[0] * len(purpose.masks) for purpose in truth.values())
    spent = {
        "seconds": round(time.process_time() - start, 1),  # of one core, all rows of the domain
        "training_seconds": round(trainings * training),  # of the ground truth, estimated
    }
    return [row | spent for row in rows]


def take_features(domain: Domain, network: nn.Module, proj_dim: int) -> Features:
    """Take the loss's gradients: of training examples, of queries without labels and of queries."""
    projector = GradientProjector(network, proj_dim, seed=0, parameters="all")

    def features(examples: Examples) -> Tensor:
        parts = []
        for start in range(0, len(examples[0]), 64):
            batch = rows_of(examples, slice(start, start + 64))
            objective = lambda batch=batch: domain.loss(network, *batch)  # noqa: E731
            parts.append(projector(objective, len(batch[0])))
        return unit(torch.cat(parts))

    queries = {purpose: features(examples) for purpose, examples in domain.queries.items()}
    return Features(features(domain.train), features(domain.unlabelled(network)), queries)

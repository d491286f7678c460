"""Ask how well scores predict the losses of networks trained on random halves (LDS, arXiv 2303.14186, eq. 4).

In: features of training examples and queries, rows at norm one, and the ground truth of two sets of halves. Out: the
scores of each query under each kernel and set of weights: every group once (plain), made equal in scale, learned
without labels, and fitted on the truth of other halves (oracle.py), which shows what there is to gain. Settings are
chosen on `validation` halves and queries, so that learned weights meet their baseline at its best. It does not know
what is trained.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attribution.cache.scoring import weighted
from attribution.cache.weights import FitConfig, fit_weights, take_statistics
from precompute.evaluate.statistics import (
    bootstrap_lds,
    linear_datamodeling_score,
    spearman,
    subset_sums,
)
from precompute.evaluate.truth.kernels import KERNELS, contributions_under
from precompute.evaluate.truth.oracle import fit_oracle

OTHER = "other halves"  # that the evaluation's queries know, too: the oracle's


@dataclass(frozen=True)
class Truth:
    """The halves for one purpose, and the losses of its queries."""

    masks: Bool[Tensor, "half train"]
    losses: Float[Tensor, "seed half query"]

    @property
    def mean_losses(self) -> np.ndarray:
        """Average over seeds, `[half, query]`."""
        return self.losses.mean(0).numpy()


@dataclass(frozen=True)
class Features:
    """Projected gradients of all examples with one network, every group of every row at norm one."""

    train: Float[Tensor, "train group dim"]
    unlabelled: Float[Tensor, "query group dim"]  # weights are fitted on these
    queries: dict[str, Float[Tensor, "query group dim"]]


@dataclass(frozen=True)
class Chosen:
    """The scores of the evaluation's queries, and how they were made."""

    kernel: str
    weights: str
    damping: float | None  # chosen on validation
    scores: Float[Tensor, "query train"]


class Scorer:
    """Contributions of all queries under one kernel."""

    def __init__(self, features: Features, kernel: str, damping: float | None) -> None:
        contribute = contributions_under(features.train, kernel, damping)
        self.damping = damping
        self.queries = {name: contribute(rows) for name, rows in features.queries.items()}
        self.unlabelled = contribute(features.unlabelled)
        self.scales = self.unlabelled.square().mean((0, 2)).sqrt().clamp_min(1e-12)

    @cached_property
    def learned(self) -> Float[Tensor, "group"]:
        """Fit weights on the queries without labels; made for contributions as they are."""

        def passes() -> Iterator[tuple[int, Tensor]]:
            yield 0, self.unlabelled

        found, _ = fit_weights(passes, take_statistics(passes), self.scales, FitConfig())
        return found / self.scales

    def oracle(self, other: Truth) -> Float[Tensor, "group"]:
        """Fit weights on the truth of other halves."""
        parts = self.queries["evaluation"] / self.scales[:, None]
        return fit_oracle(parts, other.masks, other.losses.mean(0)) / self.scales

    def scores(self, purpose: str, weights: Tensor) -> Float[Tensor, "query train"]:
        """Give the scores of one purpose's queries."""
        return weighted(self.queries[purpose], weights)

    def figure(self, truth: dict[str, Truth], weights: Tensor) -> float:
        """Give the mean LDS on validation."""
        halves, scores = truth["validation"], self.scores("validation", weights).numpy()
        return linear_datamodeling_score(scores, halves.masks.numpy(), halves.mean_losses).mean()


def choose(features: Features, truth: dict[str, Truth], kernels: tuple[str, ...]) -> list[Chosen]:
    """Score the evaluation's queries under each kernel and set of weights, at the strength best on validation.

    The strength is chosen for plain and for equalised groups; learned weights and the oracle take over the
    latter's, so that they differ by nothing but the weights.
    """
    found = []
    for kernel in kernels:
        tried = [Scorer(features, kernel, damping) for damping in KERNELS[kernel]]
        plain = max(tried, key=lambda s: s.figure(truth, torch.ones_like(s.scales)))
        best = max(tried, key=lambda s: s.figure(truth, 1 / s.scales))
        options = {
            "plain": (plain, torch.ones_like(plain.scales)),
            "equalised": (best, 1 / best.scales),
            "learned": (best, best.learned),
        }
        if OTHER in truth:
            options["oracle"] = (best, best.oracle(truth[OTHER]))
        found += [
            Chosen(kernel, name, scorer.damping, scorer.scores("evaluation", weights))
            for name, (scorer, weights) in options.items()
        ]
    return found


def retraining(truth: Truth) -> float:
    """Rank-correlate each seed's losses with another seed's: what training once more reaches."""
    pairs = itertools.combinations(truth.losses.numpy(), 2)
    return round(float(np.mean([spearman(a.T, b.T).mean() for a, b in pairs])), 4)


def ceiling(truth: Truth) -> float:
    """Give what exact expected losses would reach against the mean of all seeds.

    The root of the mean's reliability, by Spearman and Brown: with s seeds that correlate by r it is
    s r / (1 + (s - 1) r).
    """
    seeds, r = len(truth.losses), max(0.0, retraining(truth))
    return round(float(np.sqrt(seeds * r / (1 + (seeds - 1) * r))), 4)


def rows_of_chosen(chosen: list[Chosen], truth: Truth, seed: int) -> list[dict]:
    """Give a row for each, with its gain over groups made equal under the same kernel."""
    masks, losses, rows = truth.masks.numpy(), truth.mean_losses, []
    sums = {
        (each.kernel, each.weights): subset_sums(each.scores.numpy(), masks, losses)
        for each in chosen
    }
    for each in chosen:
        own, base = sums[each.kernel, each.weights], sums[each.kernel, "equalised"]
        value, equalised = (spearman(some, -losses.T).mean() for some in (own, base))
        gain = value - equalised
        rows.append(
            {
                "weights": each.weights,
                "kernel": each.kernel,
                "lds": round(float(value), 4),
                "chance": 0.0,
                "gain_over_equalised": round(float(gain), 4),
                **bootstrap_lds(own, base, losses, seed),
                "relative_gain": round(float(gain / equalised), 4) if equalised > 0 else None,
                "damping": each.damping,
            }
        )
    return rows

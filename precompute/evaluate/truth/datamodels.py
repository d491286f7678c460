"""Ask how well scores predict the losses of networks trained on random halves (LDS, arXiv 2303.14186, eq. 4).

In: features of training examples and queries, and the ground truth of two sets of halves. Out: the score of each query under
uniform, equalised and learned weights. Settings are chosen on `validation` halves and queries, so that learned weights
meet their baseline at its best. It does not know what is trained.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attribution.cache.scoring import products, weighted
from attribution.cache.shards import gram_of
from attribution.cache.weights import FitConfig, fit_weights, take_statistics
from attribution.gradients.features import unit
from attribution.gradients.kernel import apply_kernel, fit_kernel
from precompute.evaluate.statistics import (
    bootstrap_lds,
    linear_datamodeling_score,
    spearman,
    subset_sums,
)

TOP_KS = (5, 20, 50)


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
class Setting:
    """What is chosen on validation queries."""

    unit_rows: bool = False  # every group of every row at norm one
    damping: float | None = None  # of the kernel; None: no kernel (TracIn), else TRAK's, by blocks
    top_k: int | None = None  # with which weights are learned


@dataclass(frozen=True)
class Features:
    """Projected gradients of all examples with one network."""

    train: Float[Tensor, "train group dim"]
    unlabelled: Float[Tensor, "query group dim"]  # weights are fitted on these
    queries: dict[str, Float[Tensor, "query group dim"]]


class Scorer:
    """Contributions of all queries under one kernel and one way to treat rows."""

    def __init__(self, features: Features, unit_rows: bool, damping: float | None) -> None:
        scaled = unit if unit_rows else lambda rows: rows
        stored = scaled(features.train).permute(1, 2, 0).contiguous()  # [group, dim, train]
        kernel = None
        if damping is not None:
            kernel = fit_kernel(gram_of(stored), stored.shape[2], damping)

        def contributions(queries: Tensor) -> Float[Tensor, "query group train"]:
            queries = scaled(queries)
            queries = queries if kernel is None else apply_kernel(queries, kernel)
            out = torch.empty(*queries.shape[:2], stored.shape[2])
            products(queries, stored, out)
            return out

        self.queries = {name: contributions(rows) for name, rows in features.queries.items()}
        self.unlabelled = contributions(features.unlabelled)
        self.statistics = take_statistics(self._passes)

    def _passes(self) -> Iterator[tuple[int, Tensor]]:
        yield 0, self.unlabelled

    def weights(self, name: str, top_k: int | None) -> Float[Tensor, "group"]:
        """Give a group's weights: 1, or 1 / scale, or learned / scale."""
        scales = self.statistics.scales
        if name == "uniform":
            return torch.ones_like(scales)
        if name == "equalised":
            return 1 / scales
        learned, _ = fit_weights(self._passes, self.statistics, scales, FitConfig(top_k=top_k))
        return learned / scales

    def scores(self, purpose: str, weights: Tensor) -> Float[Tensor, "query train"]:
        """Give the scores of one purpose's queries."""
        return weighted(self.queries[purpose], weights)


def choose(
    features: Features, truth: dict[str, Truth], dampings: tuple[float | None, ...]
) -> dict[str, tuple[Setting, np.ndarray]]:
    """Give, for each set of weights, the setting that is best on validation and its scores on evaluation.

    Rows and damping are chosen for equalised groups; learned weights take them over and choose k alone, so that
    the two differ by nothing but the weights. Published methods take gradients as they are.
    """
    tried: list[tuple[Setting, str, Scorer]] = []
    for unit_rows, damping in itertools.product((False, True), dampings):
        scorer = Scorer(features, unit_rows, damping)
        names = ("equalised",) if unit_rows else ("uniform", "equalised")
        tried += [(Setting(unit_rows, damping), name, scorer) for name in names]
    best: dict[str, tuple[Setting, Scorer, Tensor]] = {}
    for name in ("uniform", "equalised"):
        best[name] = best_of(
            [(at, scorer, scorer.weights(name, None)) for at, n, scorer in tried if n == name],
            truth,
        )
    at, scorer, _ = best["equalised"]
    options = [(replace(at, top_k=k), scorer, scorer.weights("learned", k)) for k in TOP_KS]
    best["learned"] = best_of(options, truth)
    return {
        name: (at, scorer.scores("evaluation", weights).numpy())
        for name, (at, scorer, weights) in best.items()
    }


def best_of(
    options: list[tuple[Setting, Scorer, Tensor]], truth: dict[str, Truth]
) -> tuple[Setting, Scorer, Tensor]:
    """Give the option whose mean LDS is highest on validation."""
    halves = truth["validation"]

    def figure(option: tuple[Setting, Scorer, Tensor]) -> float:
        _, scorer, weights = option
        scores = scorer.scores("validation", weights).numpy()
        return linear_datamodeling_score(scores, halves.masks.numpy(), halves.mean_losses).mean()

    return max(options, key=figure)


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


def rows_of_chosen(
    chosen: dict[str, tuple[Setting, np.ndarray]], truth: Truth, seed: int
) -> list[dict]:
    """Give a row for each set of weights, with its gain over groups made equal."""
    masks, losses = truth.masks.numpy(), truth.mean_losses
    base = subset_sums(chosen["equalised"][1], masks, losses)
    equalised, rows = spearman(base, -losses.T).mean(), []
    for weights, (setting, scores) in chosen.items():
        sums = subset_sums(scores, masks, losses)
        value = spearman(sums, -losses.T).mean()
        gain = value - equalised
        rows.append(
            {
                "weights": weights,
                "lds": round(float(value), 4),
                "chance": 0.0,
                "gain_over_equalised": round(float(gain), 4),
                **bootstrap_lds(sums, base, losses, seed),
                "relative_gain": round(float(gain / equalised), 4) if equalised > 0 else None,
                **vars(setting),
            }
        )
    return rows

"""Score a domain's training examples against its queries, with the library's calls and no others.

In: a domain and its network, trained on everything. Out: scores `[query, train]` under uniform, equalised and
learned weights. The gradient is that of the loss; it does not know the ground truth.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attribution.features import unit
from attribution.gradients import GradientProjector
from attribution.kernel import apply_kernel, fit_kernel
from attribution.scoring import products, weighted
from attribution.shards import gram_of
from attribution.weights import FitConfig, fit_weights, take_statistics
from precompute.domains.domain import Domain, Examples, rows_of

WEIGHTS = ("uniform", "equalised", "learned")


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


def take_features(domain: Domain, network: nn.Module, proj_dim: int) -> Features:
    """Take the loss's gradients: of training examples, of queries without labels and of queries."""
    projector = GradientProjector(network, proj_dim, seed=0, parameters="all")

    def features(examples: Examples) -> Tensor:
        parts = []
        for start in range(0, len(examples[0]), 64):
            batch = rows_of(examples, slice(start, start + 64))
            objective = lambda batch=batch: domain.loss(network, *batch)  # noqa: E731
            parts.append(projector(objective, len(batch[0])))
        return torch.cat(parts)

    queries = {purpose: features(examples) for purpose, examples in domain.queries.items()}
    return Features(features(domain.train), features(domain.unlabelled(network)), queries)


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

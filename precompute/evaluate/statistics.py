"""Give every figure its chance level and its interval.

In: arrays of per-query figures. Out: numbers. It knows no model and no picture.
"""

import math

import numpy as np

RESAMPLES = 2000


def chance_level(values: list[str], labels: list[dict[str, str]], factor: str) -> float:
    """Give the precision of a random ranking: the mean share of training images with the query's value."""
    column = [label[factor] for label in labels]
    return float(np.mean([column.count(value) / len(column) for value in values]))


def bootstrap(values: np.ndarray, clusters: np.ndarray, seed: int) -> tuple[float, float]:
    """Give a 95 % percentile interval of the mean, resampling whole clusters (combinations)."""
    names, members = np.unique(clusters, return_inverse=True)
    sums, counts = np.bincount(members, values), np.bincount(members)
    draws = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def clopper_pearson(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Give the exact interval of a share (Clopper and Pearson 1934), by bisection of binomial tails."""

    def at_most(limit: int, share: float) -> float:
        ways = [
            math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(limit + 1)
        ]
        return sum(ways)

    def solve(limit: int, tail: float) -> float:  # the share at which P(X <= limit) = tail
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if at_most(limit, middle) > tail else (low, middle)
        return low

    rest = (1 - level) / 2
    low = solve(hits - 1, 1 - rest) if hits else 0.0
    high = solve(hits, rest) if hits < count else 1.0
    return round(low, 4), round(high, 4)

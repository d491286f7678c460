"""Give every figure its chance level and its interval.

In: arrays of per-query figures. Out: numbers. It knows no model and no picture.
"""

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


def bootstrap_ratio(
    values: np.ndarray, reference: np.ndarray, seed: int
) -> tuple[float | None, float | None]:
    """Give a 95 % percentile interval of mean(values) / mean(reference), resampling pairs.

    None where the reference's mean may be zero or of the other sign.
    """
    draws = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    above, below = values[draws].mean(1), reference[draws].mean(1)
    if (below <= 0).any():
        return None, None
    low, high = np.percentile(above / below, [2.5, 97.5])
    return round(float(low), 3), round(float(high), 3)

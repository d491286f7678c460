"""Give every figure its chance level and its interval.

In: arrays of per-query figures. Out: numbers. It knows no model and no picture.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats
from sklearn.metrics import average_precision_score
from torch import Tensor

from attribution.errors import InputError

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


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Give the rank correlation of each row of two arrays; 0 where one of them is constant."""
    ranks = (stats.rankdata(values, axis=1) for values in (first, second))
    first, second = (each - each.mean(1, keepdims=True) for each in ranks)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / np.maximum(norms, 1e-12)


def subset_sums(scores: np.ndarray, masks: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Sum each query's scores over every subset, `[query, subset]`; all zero where all scores are equal.

    In: scores `[query, train]`, masks `[subset, train]`, losses `[subset, query]`, to be compared with.
    """
    if masks.shape != (len(losses), scores.shape[1]) or losses.shape[1] != len(scores):
        raise InputError(
            f"masks are {masks.shape} and losses {losses.shape}; for scores {scores.shape}, [query, train], "
            "give masks [subset, train] and losses [subset, query]"
        )
    if not (np.isfinite(scores).all() and np.isfinite(losses).all()):
        raise InputError("scores or losses hold NaN or infinity; make them again")
    sums = scores.astype(np.float64) @ masks.T.astype(np.float64)
    sums[np.ptp(scores, axis=1) == 0] = 0  # else rounding would be ranked
    return sums


def linear_datamodeling_score(
    scores: np.ndarray, masks: np.ndarray, losses: np.ndarray
) -> np.ndarray:
    """Rank-correlate each query's summed scores of subsets with the losses of networks trained on them.

    In: as in `subset_sums`. Out: `[query]`, positive where a higher sum goes with a lower loss, 0 where all scores
    are equal (LDS, arXiv 2303.14186, eq. 4).
    """
    return spearman(subset_sums(scores, masks, losses), -losses.T)


def bootstrap_lds(
    sums: np.ndarray, base: np.ndarray, losses: np.ndarray, seed: int, resamples: int = 400
) -> dict[str, float]:
    """Give 95 % intervals of the mean LDS and of its gain over `base`, resampling queries and subsets.

    All queries share the subsets, so that resampling queries alone would make intervals too narrow.
    """
    rng, found = np.random.default_rng(seed), []
    for _ in range(resamples):
        queries, subsets = (rng.integers(size, size=size) for size in sums.shape)
        target = -losses.T[queries][:, subsets]
        value, other = (spearman(each[queries][:, subsets], target).mean() for each in (sums, base))
        found.append((value, value - other))
    (low, gain_low), (high, gain_high) = np.percentile(found, [2.5, 97.5], axis=0)
    named = {"low": low, "high": high, "gain_low": gain_low, "gain_high": gain_high}
    return {name: round(float(value), 4) for name, value in named.items()}


def clopper_pearson(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Give the exact interval of a share (Clopper and Pearson 1934)."""
    interval = stats.binomtest(hits, count).proportion_ci(level, "exact")
    return round(interval.low, 4), round(interval.high, 4)


def recall(
    scores: Float[Tensor, "query train"], wanted: Bool[Tensor, "query train"], count: int
) -> np.ndarray:
    """Give the share of wanted rows among the first `count`, of as many as have room there."""
    first = scores.topk(min(count, scores.shape[1]), dim=1).indices
    return (wanted.gather(1, first).sum(1) / wanted.sum(1).clamp(1, count)).numpy()


def average_precision(
    scores: Float[Tensor, "query train"], wanted: Bool[Tensor, "query train"]
) -> np.ndarray:
    """Give the mean, over wanted rows, of the precision of the ranking down to each of them."""
    pairs = zip(wanted.numpy(), scores.numpy(), strict=True)
    return np.array([average_precision_score(*pair) for pair in pairs])


def chance_precision(wanted: int, train: int) -> float:
    """Give the average precision to expect of a random ranking of `train` rows, `wanted` of which count.

    The row at place i counts with chance w/N, and each of the i - 1 before it then with (w - 1)/(N - 1).
    """
    harmonic = sum(1 / place for place in range(1, train + 1))
    return (harmonic + (wanted - 1) / max(train - 1, 1) * (train - harmonic)) / train

"""Give every figure its chance level and its interval.

In: arrays of per-query figures. Out: numbers. It knows no model and no picture.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

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
    ranked = wanted.gather(1, scores.argsort(dim=1, descending=True, stable=True)).double()
    places = torch.arange(1, ranked.shape[1] + 1)
    return ((ranked.cumsum(1) / places * ranked).sum(1) / ranked.sum(1).clamp_min(1)).numpy()


def chance_precision(wanted: int, train: int) -> float:
    """Give the average precision to expect of a random ranking of `train` rows, `wanted` of which count.

    The row at place i counts with chance w/N, and each of the i - 1 before it then with (w - 1)/(N - 1).
    """
    harmonic = sum(1 / place for place in range(1, train + 1))
    return (harmonic + (wanted - 1) / max(train - 1, 1) * (train - harmonic)) / train

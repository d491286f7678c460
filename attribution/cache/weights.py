"""Learn how much each group of parameters counts, without labels.

For queries that the model generated, the best-scored training images should stand out:

    L(w) = E_q [ - mean(top-k of s) / ||s||_2 ] + penalty ||w||^2 / M,   s = sum_j w_j C[q, j, :]
    w = M softmax(v)                                                  (arXiv 2506.05647, eq. 6 and 7)

The norm needs only each query's Gram matrix, ||s||^2 = w^T G_q w with G_q = sum_n C[:, n] C[:, n]^T, and the
top-k only the images that may be in it: so memory does not grow with the training set. In: contributions, in
passes. Out: weights `[group]`, mean one, and their file in the cache's folder. It does not know what a query shows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attribution.cache.scoring import chunks
from attribution.cache.store import Cache
from attribution.described import read_about, read_described, write_described
from attribution.errors import InputError
from attribution.files import Wanted, hash_of, writing

GENERAL = "general"  # the question about the whole picture, which every cache has weights for
FILE = "weights.safetensors"
ADVICE = "run python -m precompute weights"
TOLD = {"settings": object, "fit": {str: object}}
Pass = Callable[[], Iterator[tuple[int, Tensor]]]  # first row, contributions [query, group, row]


@dataclass(frozen=True)
class FitConfig:
    """How weights are fitted."""

    top_k: int = 20
    penalty: float = 0.02
    learning_rate: float = 0.05
    max_steps: int = 1500
    patience: int = 50  # stop after so many steps without a gain of one part in 10,000
    candidates: int = 400  # images that a pass adds to each query's pool
    rounds: int = 6  # passes for candidates, at most


@dataclass(frozen=True)
class Statistics:
    """What fitting needs of all contributions."""

    gram: Float[Tensor, "query group group"]
    train_count: int

    @property
    def scales(self) -> Float[Tensor, "group"]:
        """Give each group's root mean square contribution, by which all groups are made equal."""
        squares = self.gram.diagonal(dim1=1, dim2=2).mean(0) / self.train_count
        return squares.sqrt().clamp_min(1e-12).float()


def take_statistics(passes: Pass) -> Statistics:
    """Sum the Gram matrices in one pass, in float64."""
    gram, count = None, 0
    for _, parts in passes():
        if not torch.isfinite(parts).all():
            raise InputError("the contributions hold NaN or infinity; run the gradients step again")
        here = (parts @ parts.mT).double()
        gram = here if gram is None else gram.add_(here)
        count += parts.shape[2]
    if gram is None:
        raise InputError("there are no contributions to learn from")
    return Statistics(gram, count)


def effective_groups(weights: Float[Tensor, "group"]) -> float:
    """Give (sum w)^2 / sum w^2: how many groups the weights really use."""
    return (weights.sum() ** 2 / weights.square().sum()).item()


@dataclass(frozen=True)
class Fitted:
    """A question's weights, and how fitting went."""

    weights: Float[Tensor, "group"]  # mean one, for contributions divided by the scales
    scales: Float[Tensor, "group"]
    curve: list[float]  # the loss at every step

    @property
    def report(self) -> dict[str, float]:
        """Say what fitting did: how many groups are in use, and the loss before and after."""
        return {
            "effective_groups": round(effective_groups(self.weights), 1),
            "steps": len(self.curve),
            "loss_at_uniform": round(self.curve[0], 4),
            "loss": round(self.curve[-1], 4),
        }


@dataclass(frozen=True)
class Pool:
    """Candidates of each query for its top-k; a row that a query has twice is valid once."""

    rows: Int[Tensor, "query candidate"]
    parts: Float[Tensor, "query group candidate"]
    valid: Bool[Tensor, "query candidate"]

    def joined(self, other: "Pool") -> "Pool":
        """Put two pools together."""
        known = (other.rows[:, :, None] == self.rows[:, None]).any(2)
        return Pool(
            torch.cat([self.rows, other.rows], 1),
            torch.cat([self.parts, other.parts], 2),
            torch.cat([self.valid, ~known], 1),
        )

    def holds_first(self, other: "Pool", count: int) -> bool:
        """Tell whether the first rows of another pool are all in this one."""
        return bool((other.rows[:, :count, None] == self.rows[:, None]).any(2).all())


def take_best(passes: Pass, weights: Float[Tensor, "group"], count: int) -> Pool:
    """Find each query's best rows under these weights, best first, in one pass."""
    pool = None
    for start, parts in passes():
        rows = torch.arange(start, start + parts.shape[2]).expand(len(parts), -1)
        if pool is not None:
            rows, parts = torch.cat([pool.rows, rows], 1), torch.cat([pool.parts, parts], 2)
        order = (weights @ parts).topk(min(count, rows.shape[1]), dim=1).indices
        chosen = order[:, None].expand(-1, parts.shape[1], -1)
        valid = torch.ones_like(order, dtype=torch.bool)
        pool = Pool(rows.gather(1, order), parts.gather(2, chosen), valid)
    return pool


def fit_queries(
    kernelised: Float[Tensor, "query group dim"],
    cache: Cache,
    config: FitConfig,
    scales: Float[Tensor, "group"] | None = None,
    on_pass: Callable[[], None] | None = None,
    on_step: Callable[[], None] | None = None,
) -> Fitted:
    """Fit weights for queries on all of a cache; the scales are the queries' own unless given.

    `on_pass` is told of every pass over the cache: one, and one for each round at most; `on_step` of every step down.
    """

    def passes() -> Iterator[tuple[int, Tensor]]:
        yield from chunks(kernelised, cache)
        if on_pass:
            on_pass()

    statistics = take_statistics(passes)
    scales = statistics.scales if scales is None else scales
    weights, curve = fit_weights(passes, statistics, scales, config, on_step)
    return Fitted(weights, scales, curve)


def fit_weights(
    passes: Pass,
    statistics: Statistics,
    scales: Float[Tensor, "group"],
    config: FitConfig,
    on_step: Callable[[], None] | None = None,
) -> tuple[Float[Tensor, "group"], list[float]]:
    """Minimise the loss on contributions divided by `scales`; give weights and the loss curve.

    Candidates are the best images under equal weights; then under the weights found with them, until the
    best under those are candidates already. Each round starts from equal weights.
    """
    if statistics.train_count <= config.top_k:
        raise InputError(
            f"{statistics.train_count} training images are too few for top_k = {config.top_k}; "
            "lower top_k"
        )
    if not statistics.gram.any():
        raise InputError(
            "no query contributes anything, so that there is nothing to weight; ask other questions"
        )
    gram = (statistics.gram / (scales[:, None] * scales).double()).float()
    weights, curve, pool = torch.ones(len(scales)), [], None
    count = max(config.candidates, config.top_k)
    for _ in range(config.rounds):
        best = take_best(passes, weights / scales, count)
        if pool is not None and pool.holds_first(best, config.top_k):
            break
        pool = best if pool is None else pool.joined(best)
        weights, curve = minimise(pool, scales, gram, statistics.train_count, config, on_step)
    return weights, curve


def minimise(
    pool: Pool,
    scales: Float[Tensor, "group"],
    gram: Float[Tensor, "query group group"],
    train_count: int,
    config: FitConfig,
    on_step: Callable[[], None] | None = None,
) -> tuple[Float[Tensor, "group"], list[float]]:
    """Minimise the loss from uniform weights until it stands still, with the top-k among candidates."""
    parts, groups = pool.parts / scales[:, None], len(scales)
    logits = torch.zeros(groups, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=config.learning_rate)
    curve: list[float] = []
    best, best_step = float("inf"), 0
    for step in range(config.max_steps):
        if on_step:
            on_step()
        weights = groups * logits.softmax(0)
        with torch.no_grad():
            scores = (weights @ parts).masked_fill(~pool.valid, -torch.inf)
            chosen = scores.topk(config.top_k, dim=1).indices  # afresh at each step
            picked = parts.gather(2, chosen[:, None].expand(-1, groups, -1)).mean(2)
        norm = torch.einsum("g,qgh,h->q", weights, gram, weights).clamp_min(1e-12).sqrt()
        gain = (picked @ weights / norm).mean() * train_count**0.5  # mean top-k score in rms units
        loss = -gain + config.penalty * weights.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
        if curve[-1] < best - 1e-4 * abs(best if best < float("inf") else 1.0):
            best, best_step = curve[-1], step
        elif step - best_step >= config.patience:
            break
    return (groups * logits.softmax(0)).detach(), curve


def write_weights(cache: Cache, fitted: dict[str, Fitted], settings: dict) -> None:
    """Write `weights.safetensors`; all share the scales of the whole picture's."""
    tensors = {"scales": fitted[GENERAL].scales}
    tensors |= {name: each.weights for name, each in fitted.items()}
    fit = {name: each.report for name, each in fitted.items()}
    with writing(cache.folder):
        write_described(cache.folder / FILE, tensors, belongs_to(cache), settings=settings, fit=fit)


def read_weights(cache: Cache) -> dict[str, Float[Tensor, "group"]]:
    """Read the learned weights of a cache, each divided by the groups' scales, and `equalised` ones."""
    path = cache.folder / FILE
    about = read_about(path, belongs_to(cache), TOLD, ADVICE)
    if GENERAL not in about["fit"] or not {"scales", "equalised"}.isdisjoint(about["fit"]):
        raise InputError(f"{path} is damaged: its questions cannot be so; {ADVICE}")
    each = Wanted(torch.float32, (len(cache.groups),), 0.0)
    wanted = dict.fromkeys(about["fit"], each) | {"scales": replace(each, low=1e-30)}
    tensors = read_described(path, about, wanted, ADVICE)
    scales = tensors.pop("scales")
    return {"equalised": 1 / scales} | {name: weights / scales for name, weights in tensors.items()}


def belongs_to(cache: Cache) -> dict:
    """Say what weights depend on: images may come and go, model, features and method may not."""
    kept = {key: cache.header[key] for key in ("method", "damping", "features", "groups")}
    kept["groups"] = hash_of(kept["groups"])
    return kept | {"model": cache.header["fingerprints"]["model"]}


def settings_of(cache: Cache) -> dict:
    """Read what a cache's weights were learned with."""
    settings = read_about(cache.folder / FILE, belongs_to(cache), TOLD, ADVICE)["settings"]
    return settings if isinstance(settings, dict) else {}

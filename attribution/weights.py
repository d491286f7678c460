"""Learn how much each group of parameters counts, without labels.

For queries that the model generated, the best-scored training images should stand out:

    L(w) = E_q [ - mean(top-k of s) / ||s||_2 ] + penalty ||w||^2 / M,   s = sum_j w_j C[q, j, :]
    w = M softmax(v)                                                  (arXiv 2506.05647, eq. 6 and 7)

In: contributions of the queries. Out: weights `[group]`, mean one. It does not know what a query shows.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from attribution.errors import InputError


@dataclass(frozen=True)
class FitConfig:
    """How weights are fitted."""

    top_k: int = 20
    penalty: float = 0.02
    learning_rate: float = 0.05
    max_steps: int = 1500
    patience: int = 50  # stop after so many steps without a gain of one part in 10,000


def scales(parts: Float[Tensor, "query group train"]) -> Float[Tensor, "group"]:
    """Give each group's root mean square contribution, by which all groups are made equal."""
    return parts.square().mean((0, 2)).sqrt().clamp_min(1e-12)


def effective_groups(weights: Float[Tensor, "group"]) -> float:
    """Give (sum w)^2 / sum w^2: how many groups the weights really use."""
    return (weights.sum() ** 2 / weights.square().sum()).item()


def fit_weights(
    parts: Float[Tensor, "query group train"], config: FitConfig
) -> tuple[Float[Tensor, "group"], list[float]]:
    """Minimise the loss from uniform weights until it stands still; give weights and the loss curve.

    `parts` are contributions already divided by their `scales`. The norm comes from each query's Gram
    matrix, ||s||^2 = w^T G_q w.
    """
    _, groups, train = parts.shape
    if train <= config.top_k:
        raise InputError(
            f"{train} training images are too few for top_k = {config.top_k}; lower top_k"
        )
    if not torch.isfinite(parts).all():
        raise InputError("the contributions hold NaN or infinity; run the gradients step again")
    gram = parts @ parts.transpose(1, 2)  # [query, group, group]
    logits = torch.zeros(groups, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=config.learning_rate)
    curve: list[float] = []
    best, best_step = float("inf"), 0
    for step in range(config.max_steps):
        weights = groups * logits.softmax(0)
        with torch.no_grad():
            chosen = (
                (weights @ parts).topk(config.top_k, dim=1).indices
            )  # [query, k], afresh each step
            picked = torch.stack([p[:, c].mean(1) for p, c in zip(parts, chosen, strict=True)])
        norm = torch.einsum("g,qgh,h->q", weights, gram, weights).clamp_min(1e-12).sqrt()
        gain = (picked @ weights / norm).mean() * train**0.5  # mean top-k score in rms units
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

"""Ask how much weights could gain at most: fit them on the truth itself, as it is on other halves.

    L(v) = - mean_q corr_h( sum_j w_j S[q, h, j], rank of -loss[h, q] ) + penalty mean(v^2),   w = M softmax(v)

S are each group's contributions, summed over the examples in a half. What such weights gain over equal ones on halves
that they were not fitted on is the headroom of any rule that learns weights. In: contributions divided by the
groups' scales, masks, losses. Out: weights, mean one.
"""

import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor

PENALTIES = (0.01, 0.1, 1.0, 10.0)
FOLDS = 4  # of the halves, on which the penalty is chosen
STEPS = 150
LEARNING_RATE = 0.05


def fit_oracle(
    parts: Float[Tensor, "query group train"],
    masks: Bool[Tensor, "half train"],
    losses: Float[Tensor, "half query"],
) -> Float[Tensor, "group"]:
    """Fit weights on some halves; the penalty is the one that serves halves best that are left out."""
    sums = (parts @ masks.T.float()).transpose(1, 2)  # [query, half, group]
    fold = torch.arange(len(masks)) % min(FOLDS, len(masks))

    def left_out(penalty: float) -> float:
        found = []
        for number in range(int(fold.max()) + 1):
            out = fold == number
            weights = _fit(sums[:, ~out], losses[~out], penalty)
            found.append(_agreement(sums[:, out], losses[out], weights).mean())
        return float(torch.stack(found).mean())

    return _fit(sums, losses, max(PENALTIES, key=left_out))


def _fit(sums: Tensor, losses: Tensor, penalty: float) -> Float[Tensor, "group"]:
    groups = sums.shape[2]
    logits = torch.zeros(groups, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=LEARNING_RATE)
    for _ in range(STEPS):
        agreement = _agreement(sums, losses, groups * logits.softmax(0))
        loss = -agreement.mean() + penalty * logits.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (groups * logits.softmax(0)).detach()


def _agreement(
    sums: Float[Tensor, "query half group"],
    losses: Float[Tensor, "half query"],
    weights: Float[Tensor, "group"],
) -> Float[Tensor, "query"]:
    """Correlate weighted sums with the ranks of what the halves gain."""
    ranks = torch.from_numpy(stats.rankdata(-losses.T.numpy(), axis=1)).float()
    scores = sums @ weights
    one, other = (each - each.mean(1, keepdim=True) for each in (scores, ranks))
    return (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1)).clamp_min(1e-12)

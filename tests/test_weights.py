"""Learned weights recover a planted signal, and rows of huge norm do not capture them."""

import pytest
import torch

from attribution.cache.scoring import top, weighted
from attribution.cache.weights import (
    FitConfig,
    effective_groups,
    fit_weights,
    take_best,
    take_statistics,
)
from attribution.errors import InputError
from attribution.gradients.features import unit
from attribution.gradients.kernel import apply_kernel, fit_kernel

QUERIES, GROUPS, TRAIN, DIM, CLASSES = 24, 12, 300, 16, 10
SIGNAL = (2, 7)  # the groups that know a row's class


def planted(huge_rows=0):
    """Draw features in which two groups carry a class and ten carry noise of a larger scale."""
    generator = torch.Generator().manual_seed(3)

    def rows(count, kinds):
        features = torch.randn(count, GROUPS, DIM, generator=generator) * 5
        for group in SIGNAL:
            centre = torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(group))
            features[:, group] = centre[kinds] + 0.4 * torch.randn(count, DIM, generator=generator)
        return features

    train_kinds, query_kinds = torch.arange(TRAIN) % CLASSES, torch.arange(QUERIES) % CLASSES
    train, queries = rows(TRAIN, train_kinds), rows(QUERIES, query_kinds)
    if huge_rows:  # of no class, and with one direction that every query shares
        train[:huge_rows, 0] = 1000 * torch.ones(DIM)
        queries[:, 0] += 2
    return train, queries, train_kinds, query_kinds


def precision(parts, weights, train_kinds, query_kinds):
    places = top(weighted(parts, weights), 10)
    return (train_kinds[places] == query_kinds[:, None]).float().mean().item()


def contributions(queries, train):
    return torch.einsum("qgd,ngd->qgn", queries, train)


def in_passes(parts, rows=37):
    """Give contributions as the cache does, some rows at a time."""
    return lambda: ((i, parts[..., i : i + rows]) for i in range(0, parts.shape[2], rows))


def fit(parts, config):
    statistics = take_statistics(in_passes(parts))
    weights, curve = fit_weights(in_passes(parts), statistics, statistics.scales, config)
    return 1 / statistics.scales, weights, curve


def fitted(train, queries):
    parts = contributions(unit(queries), unit(train))
    return parts, *fit(parts, FitConfig(top_k=10))


def direct_fit(parts, config):
    """Fit on all contributions at once, in float64, with the norm summed over all images."""
    parts = parts.double()
    parts = parts / parts.square().mean((0, 2)).sqrt()[:, None]
    logits = torch.zeros(parts.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=config.learning_rate)
    best, best_step = float("inf"), 0
    for step in range(config.max_steps):
        weights = parts.shape[1] * logits.double().softmax(0)
        scores = weights @ parts
        gain = (scores.topk(config.top_k, 1).values.mean(1) / scores.norm(dim=1)).mean()
        loss = -gain * parts.shape[2] ** 0.5 + config.penalty * weights.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < best - 1e-4 * abs(best if best < float("inf") else 1.0):
            best, best_step = loss.item(), step
        elif step - best_step >= config.patience:
            break
    return (parts.shape[1] * logits.softmax(0)).detach()


@pytest.mark.parametrize("candidates", [60, 1000])
def test_gram_and_candidates_give_the_direct_fits_weights(candidates):
    train, queries, *_ = planted()
    parts = contributions(unit(queries), unit(train))
    config = FitConfig(top_k=10, candidates=candidates, rounds=20)
    _, weights, _ = fit(parts, config)
    assert (weights - direct_fit(parts, config)).abs().max() <= 1e-3


def test_memory_for_fitting_does_not_grow_with_the_images():
    generator = torch.Generator().manual_seed(0)
    held = {}
    for rows in (500, 4000):
        parts = torch.randn(3, 4, rows, generator=generator)
        statistics = take_statistics(in_passes(parts))
        pool = take_best(in_passes(parts), torch.ones(4), 50)
        held[rows] = [t.shape for t in (statistics.gram, pool.rows, pool.parts)]
        want = parts.sum(1).topk(50, 1).indices
        assert torch.equal(pool.rows, want)
    assert held[500] == held[4000]


def test_fit_recovers_the_planted_groups_and_beats_equalised_weights():
    train, queries, train_kinds, query_kinds = planted()
    parts, equal, weights, curve = fitted(train, queries)
    assert set(weights.topk(2).indices.tolist()) == set(SIGNAL)
    assert curve[-1] < curve[0]
    before = precision(parts, equal, train_kinds, query_kinds)
    after = precision(parts, equal * weights, train_kinds, query_kinds)
    assert after > 0.95 > before + 0.1
    assert 1 <= effective_groups(weights) < GROUPS * 2 / 3


def test_ten_rows_of_huge_norm_do_not_capture_the_fit():
    train, queries, train_kinds, query_kinds = planted(huge_rows=10)
    parts, equal, weights, _ = fitted(train, queries)
    assert set(weights.topk(2).indices.tolist()) == set(SIGNAL)
    assert precision(parts, equal * weights, train_kinds, query_kinds) > 0.95

    raw = contributions(
        queries, train
    )  # the trap, without normalised rows: they take every first place
    _, raw_weights, _ = fit(raw, FitConfig(top_k=10))
    assert raw_weights[0] == raw_weights.max()


def test_weights_are_positive_with_mean_one():
    _, _, weights, _ = fitted(*planted()[:2])
    assert (weights >= 0).all()
    assert weights.mean().item() == pytest.approx(1, abs=1e-4)


def test_too_few_images_and_nan_are_refused():
    parts = torch.randn(2, 3, 5)
    with pytest.raises(InputError, match="5 training images are too few"):
        fit(parts, FitConfig(top_k=10))
    parts = torch.full((2, 3, 50), float("nan"))
    with pytest.raises(InputError, match="NaN"):
        fit(parts, FitConfig(top_k=10))
    with pytest.raises(InputError, match="no query contributes anything"):
        fit(torch.zeros(2, 3, 50), FitConfig(top_k=10))


def test_kernel_is_the_damped_inverse_and_may_stand_on_either_side():
    generator = torch.Generator().manual_seed(0)
    train, queries = (
        torch.randn(40, 3, 5, generator=generator),
        torch.randn(4, 3, 5, generator=generator),
    )
    wide = train.transpose(0, 1).double()
    kernel = fit_kernel(wide.mT @ wide, len(train), damping=0.5)
    for group in range(3):
        phi = train[:, group].double()
        moment = phi.T @ phi / len(phi)
        mean = moment.diagonal().mean()
        want = torch.linalg.inv(moment + 0.5 * mean * torch.eye(5))
        assert torch.allclose(kernel[group].double(), want, atol=1e-5)
    left = contributions(apply_kernel(queries, kernel), train)
    right = contributions(queries, apply_kernel(train, kernel))
    assert torch.allclose(left, right, atol=1e-4)


def test_weighted_scores_are_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    train, queries = (
        torch.randn(6, 3, 4, generator=generator),
        torch.randn(2, 3, 4, generator=generator),
    )
    weights = torch.tensor([0.5, 2.0, 0.0])
    scores = weighted(contributions(queries, train), weights)
    for q in range(2):
        for n in range(6):
            want = sum(weights[j] * queries[q, j] @ train[n, j] for j in range(3))
            assert scores[q, n].item() == pytest.approx(want.item(), abs=1e-4)

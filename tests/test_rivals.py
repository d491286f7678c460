"""A training's way back is the product of its steps' matrices, and a group's pictures share what it is worth."""

from types import SimpleNamespace

import pytest
import torch

from precompute.evaluate import rivals
from precompute.evaluate.truth.trajectory import Trajectory, value_embedding

STEPS, ROWS, LAYERS, DIM, TRAIN, QUERIES = 4, 3, 2, 3, 5, 2


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def trajectory():
    rows = torch.tensor([[0, 1, 2], [3, 4, 0], [1, 1, 3], [2, 4, 0]])
    rates = drawn(STEPS, LAYERS, seed=1).abs()
    return Trajectory(rows, drawn(STEPS, ROWS, LAYERS, DIM).float(), rates.float())


def by_matrices(trajectory, queries, step_matrix):
    """Carry each query back by whole matrices, in float64."""
    scores, size = torch.zeros(QUERIES, TRAIN, dtype=torch.float64), LAYERS * DIM
    carried, identity = queries.flatten(1).double(), torch.eye(size, dtype=torch.float64)
    for step in reversed(range(STEPS)):
        seen = trajectory.gradients[step].flatten(1).double()
        rate = trajectory.rates[step].double().repeat_interleave(DIM).diag()
        carried = carried @ step_matrix(identity, seen.T @ seen / ROWS @ rate).T
        for row, gradient in zip(trajectory.rows[step], seen, strict=True):
            scores[:, row] += carried @ rate @ gradient / ROWS
    return scores


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_value_embedding_is_the_product_of_the_steps_inverse_matrices(trajectory, strength):
    queries = drawn(QUERIES, LAYERS, DIM, seed=2).float()
    want = by_matrices(trajectory, queries, lambda one, h: torch.linalg.inv(one + strength * h))
    got = value_embedding(trajectory, queries, TRAIN, strength)
    assert torch.allclose(got.double(), want, atol=1e-4)
    assert not got.isclose(torch.zeros(())).any()


def test_at_small_rates_it_is_the_papers_product(trajectory):
    small = Trajectory(trajectory.rows, trajectory.gradients, trajectory.rates * 1e-3)
    queries = drawn(QUERIES, LAYERS, DIM, seed=2).float()
    want = by_matrices(small, queries, lambda one, h: one - h)
    got = value_embedding(small, queries, TRAIN).double()
    plain = value_embedding(small, queries, TRAIN, 0.0).double()
    assert (got - want).norm() < 0.02 * (plain - want).norm()


def test_a_groups_pictures_share_the_rise_of_the_loss_that_its_unlearning_brings(monkeypatch):
    rises = {(0, 2): torch.tensor([1.0, 4.0]), (1,): torch.tensor([-3.0, 0.5])}
    labels = [{"artist": name} for name in "aba"]
    collection = SimpleNamespace(labels=labels)
    study = SimpleNamespace(
        collection=collection, losses=lambda unet, images, prompts: 7.0 + rises.get(unet, 0.0)
    )
    asked = [SimpleNamespace(image=None, prompt="")] * 2
    studied = SimpleNamespace(
        study=study, queries={"evaluation": asked}, denoiser=(), full=lambda: None
    )
    monkeypatch.setattr(
        rivals, "unlearn", lambda model, some, rows, config: SimpleNamespace(denoiser=tuple(rows))
    )
    assert rivals.unlearned(studied).tolist() == [[0.5, -3.0, 0.5], [2.0, 0.5, 2.0]]

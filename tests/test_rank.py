"""Factors keep what is of their rank, and no more; a sketch keeps cosines on average."""

import torch

from benchmarks.rank import cosines, factored, row_of, sketched


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_gradients_of_rank_one_are_kept_whole_by_factors_of_rank_one():
    low = drawn(6, 8, 1) @ drawn(6, 1, 8, seed=1)
    exact, own = cosines(low.flatten(1)), torch.Generator().manual_seed(2)
    assert torch.allclose(factored(low, 16, 1, own), exact, atol=1e-5)
    full = drawn(6, 8, 8)
    assert not torch.allclose(factored(full, 16, 1, own), cosines(full.flatten(1)), atol=0.05)


def test_a_sketch_of_more_numbers_errs_less():
    full, own = drawn(20, 30, 30), torch.Generator().manual_seed(2)
    exact = cosines(full.flatten(1))
    errors = [(sketched(full, n, own) - exact).square().mean() for n in (4, 64, 1024)]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


def test_exact_cosines_agree_with_themselves():
    exact = drawn(3, 4, 40)
    row = row_of("sketch", 8, exact, exact, 0)
    assert (row["cosine_error"], row["list_agreement"], row["recall_at_10"]) == (0, 1, 1)
    assert row["chance"] == 0.25

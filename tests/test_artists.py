"""Whose absence hurts is compared with who has the largest share; ties and unsure judges do not count as right."""

import pytest
import torch

from attribution.answer.shares import portions
from attribution.answer.similarity import texture_scores
from precompute.evaluate.artists import portioned, row_of


def test_an_artist_who_is_missed_most_and_comes_first_is_a_hit():
    truth = torch.tensor([[3.0, 1, 0], [0, 1, 3], [3, 1, 0], [0, 3, 1]]).double()
    right = row_of("right", truth * 2, truth, 0)
    assert (right["top_1"], right["ndcg_at_3"]) == (1, 1)
    wrong = row_of("wrong", -truth, truth, 0)
    assert wrong["top_1"] == 0
    assert wrong["ndcg_at_3"] < right["ndcg_chance"] < 1
    assert right["chance"] == pytest.approx(1 / 3, abs=1e-4)


def test_equal_shares_are_no_better_than_chance():
    truth = torch.eye(4).double()
    nothing = row_of("nothing", torch.zeros(4, 4), truth, 0)
    assert nothing["top_1"] == nothing["chance"] == 0.25
    assert nothing["ndcg_at_3"] == nothing["ndcg_chance"]


def test_images_give_to_their_own_artist():
    scores = torch.tensor([[9.0, 0, 0, 0, 0, 0, 0, 0, 0, 0]])
    owned = torch.zeros(2, 10)
    owned[0, :1], owned[1, 1:] = 1, 1
    assert portioned(scores, owned.double(), portions).tolist() == [[1, 0]]
    assert portioned(scores, owned.double(), lambda row: row).tolist() == [[9, 0]]


def test_textures_are_alike_wherever_they_lie():
    draw = torch.Generator().manual_seed(0)
    stripes = (torch.arange(64) % 6 < 3).float()[None, None, :].expand(3, 64, 64)
    noise = torch.rand(3, 64, 64, generator=draw)
    asked = torch.stack([stripes.roll(2, 2), noise.flip(2)])
    scores = texture_scores(asked, torch.stack([stripes, stripes.mT, noise]))
    assert scores.argmax(1).tolist() == [0, 2]
    assert scores[0, 0] > scores[0, 1] + 0.2

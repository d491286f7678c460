"""What needs no gradient equals a plain loop over pictures and patches."""

import pytest
import torch

from attribution.answer.nda import nda_scores
from attribution.answer.similarity import caption_scores, latent_scores, pixel_scores
from attribution.errors import InputError

SIGNAL = torch.tensor([0.99, 0.5, 0.1])


def pictures(count, seed):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_shares_are_a_plain_loop_over_patches():
    queries, train = pictures(2, 0), pictures(5, 1)
    got = nda_scores(queries, train, SIGNAL, patch=4)
    places = [(y, x) for y in (0, 4) for x in (0, 4)]

    def cut(image, place):
        y, x = place
        return image[:, y : y + 4, x : x + 4].double()

    want = torch.zeros(2, 5, dtype=torch.float64)
    for q in range(2):
        for signal in SIGNAL.double():
            for place in places:
                exponents = torch.stack(
                    [
                        -(signal.sqrt() * (cut(queries[q], place) - cut(train[n], p)))
                        .square()
                        .sum()
                        / (2 * (1 - signal))
                        for n in range(5)
                        for p in places
                    ]
                )
                want[q] += exponents.softmax(0).view(5, 4).sum(1) / (len(SIGNAL) * len(places))
    assert torch.allclose(got.double(), want, atol=1e-4)
    assert torch.allclose(got.sum(1), torch.ones(2), atol=1e-5)


def test_a_shifted_copy_is_found_by_patches_and_not_by_pixels():
    train = pictures(6, 1)
    train[0] = 0  # plain grey is nearer to a picture than another picture, pixel by pixel
    query = train[3:4].roll(4, dims=3)
    assert nda_scores(query, train, SIGNAL, patch=4).argmax() == 3
    assert pixel_scores(train[3:4], train).argmax() == 3
    assert pixel_scores(query, train).argmax() == 0


def test_patches_must_divide_the_picture():
    with pytest.raises(InputError, match="do not divide into patches of 3"):
        nda_scores(pictures(1, 0), pictures(2, 1), SIGNAL, patch=3)


def test_likeness_is_distance_cosine_and_shared_words():
    queries, train = pictures(2, 0), pictures(5, 1)
    distance, cosine = pixel_scores(queries, train), latent_scores(queries, train)
    for q in range(2):
        for n in range(5):
            assert distance[q, n].item() == pytest.approx(
                -(queries[q] - train[n]).square().sum().item(), abs=1e-3
            )
            want = torch.nn.functional.cosine_similarity(
                queries[q].flatten(), train[n].flatten(), dim=0
            )
            assert cosine[q, n].item() == pytest.approx(want.item(), abs=1e-5)
    assert caption_scores(["a cat", ""], ["A cat.", "a dog", ""]).tolist() == [
        [1, pytest.approx(1 / 3), 0],
        [0, 0, 0],
    ]

"""The same noise repeats an answer exactly, other noise does not, and what stays is counted."""

import pytest
import torch

from attribution.answer.answer import Answer
from attribution.looks.stability import Stability, stability


@pytest.fixture(scope="module")
def picture(attributor):
    return attributor.collection.image(3)


@pytest.fixture(scope="module")
def answer(attributor, picture):
    return attributor.attribute(picture, "a woodcut of a cat at night")


def test_the_same_noise_repeats_the_answer_and_other_noise_does_not(attributor, picture, answer):
    own = attributor.extractor.config.seed
    same, other = stability(attributor, picture, answer, seeds=(own, own + 1)).repeats
    assert same.phrases == other.phrases == answer.phrases
    for name, scores in answer.scores.items():
        assert torch.equal(same.scores[name], scores)
        assert not torch.allclose(other.scores[name], scores, atol=1e-2)
    assert attributor.extractor.noise_seed == own


def test_what_stays_is_a_share_of_repeats(attributor):
    rows = torch.tensor([[5.0, 4, 3, 2, 1], [5, 1, 2, 3, 4]])
    collection = attributor.collection
    repeats = Stability([Answer({"general": r, "style": -r}, {}, collection) for r in rows])
    assert repeats.stays(1).tolist() == [1, 0.5, 0, 0, 0.5]
    assert repeats.stays(1, style=1).tolist() == [0, 0.5, 0.5, 0.5, 0.5]
    assert repeats.stays(9).tolist() == [1] * 5


def test_repeats_can_be_stopped_between_seeds(attributor, picture, answer):
    told = []

    def stop(done, total):
        told.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stability(attributor, picture, answer, seeds=(1, 2, 3), on_step=stop)
    assert told == [(1, 3), (2, 3)]

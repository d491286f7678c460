"""The same noise repeats an answer exactly, other noise does not; shared noise is halved; what stays is counted."""

import pytest
import torch
from conftest import built

from attribution.answer.answer import Answer
from attribution.answer.questions import query_features
from attribution.errors import InputError
from attribution.gradients.methods import METHODS, FeatureConfig
from attribution.looks.stability import Stability, half, repeat, stability
from attribution.models.encoded import Encoded


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


@pytest.mark.slow
def test_under_shared_noise_a_repeat_keeps_half_of_the_timesteps_and_their_draws(
    small_model, small_collection, picture, tmp_path
):
    assert METHODS["trak"].each_timestep == "paired"
    attributor = built(
        small_model, small_collection, tmp_path, method="trak", timesteps=4, proj_dim=3
    )
    asked, seen = {"general": ["a cat"]}, Encoded(attributor.model, [picture])
    whole = query_features(attributor.extractor, seen, asked)["general"]
    ask = repeat(attributor.extractor, seen, asked)
    first, again, other = (ask(seed)["general"] for seed in (1, 1, 3))
    assert torch.equal(first, again)
    steps = [f.unflatten(1, (2, -1)).unflatten(3, (2, 3)) for f in (whole, first, other)]
    kept = [(f != 0).any((0, 2, 4)) for f in steps]  # [range, step in it]
    assert [int(k.sum()) for k in kept] == [4, 2, 2]
    assert not torch.equal(kept[1], kept[2])
    for k, f in zip(kept[1:], steps[1:], strict=True):
        assert torch.equal(f, steps[0] * k[None, :, None, :, None])
    answer = attributor.attribute(picture, "a cat")
    found = stability(attributor, picture, answer, seeds=(1, 3))
    assert len(found.repeats) == 2
    assert not torch.allclose(*(each.scores["general"] for each in found.repeats))


def test_one_timestep_has_no_halves():
    with pytest.raises(InputError, match="take more timesteps"):
        half(FeatureConfig("denoising_loss", timesteps=1, ranges=1, each_timestep="paired"), 0)


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

"""Where a model reads no words, a picture's evidence is how much better it is known as it is than told otherwise."""

import numpy as np
import pytest
import torch
from families import saved
from PIL import Image, ImageOps

from attribution.answer.calibration import (
    Calibration,
    calibrated_for,
    evidence,
    read_calibration,
    write_calibration,
)
from attribution.answer.wordless import CHANGES, known_as_it_is, shuffled
from attribution.errors import InputError
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.seeds import generator

STEPS, ROWS = 60, 8


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return DiffusionModel.from_pretrained(saved("ddpm", tmp_path_factory.mktemp("ddpm")))


@pytest.fixture(scope="module")
def picture():
    """A picture that is another when it is turned: bright above, red on the left."""
    y, x = np.mgrid[:16, :16] / 15
    return Image.fromarray(np.uint8(255 * np.stack([1 - x, 1 - y, 0 * x + 0.2], -1)))


@pytest.fixture(scope="module")
def taught(model, picture):
    """The model, trained on the picture alone."""
    model.denoiser.requires_grad_(True)
    optimizer = torch.optim.Adam(model.denoiser.parameters(), 3e-3)
    clean = model.latents([picture]).expand(ROWS, -1, -1, -1)
    for step in range(STEPS):
        draw = generator("taught", step)
        times = torch.randint(model.num_timesteps, (ROWS,), generator=draw)
        noise = torch.randn(clean.shape, generator=draw)
        noisy = model.schedule.add_noise(clean, noise, times)
        predicted = model.predict(noisy, times, model.conditions([""] * ROWS))
        loss = (predicted - model.schedule.target(clean, noise, times)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.denoiser.requires_grad_(False)
    return model


def test_a_picture_that_was_learned_has_evidence_and_told_otherwise_it_has_less(taught, picture):
    own = known_as_it_is(Encoded(taught, [picture]))
    assert own > 0.05
    for change in (ImageOps.flip, ImageOps.invert):
        assert known_as_it_is(Encoded(taught, [change(picture)])) < own - 0.05


def test_it_is_the_evidence_whatever_words_are_given(taught, picture):
    own = known_as_it_is(Encoded(taught, [picture]))
    for words in ({"general": ""}, {"general": "a cat"}):
        assert evidence(Encoded(taught, [picture]), words) == {"general": pytest.approx(own)}


def test_every_change_keeps_the_pixels_and_is_the_same_again(picture):
    for change in CHANGES:
        once = change(picture)
        assert once.size == picture.size
        assert once.tobytes() == change(picture).tobytes() != picture.tobytes()
    assert sorted(shuffled(picture).getdata()) == sorted(picture.getdata())


def test_a_calibration_by_words_is_refused(model, tmp_path):
    null = Calibration(torch.zeros(19), {})
    by_words = {k: v for k, v in calibrated_for(model, {}).items() if k != "evidence"}
    write_calibration(tmp_path, null, by_words, {})
    with pytest.raises(InputError, match="another evidence"):
        read_calibration(tmp_path, calibrated_for(model, {}))

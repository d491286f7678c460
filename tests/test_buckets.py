"""Pictures of several shapes in one collection: each is seen at the nearest size, as if the model had that size alone."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from families import exact, saved
from PIL import Image

from attribution.attributor import Attributor
from attribution.cache.site import CacheConfig, Site
from attribution.errors import InputError
from attribution.gradients.features import FeatureConfig, FeatureExtractor
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.pictures.check import check_collection
from attribution.pictures.collection import load_collection
from attribution.pictures.size import cut_off, sizes_of, written
from attribution.report.report import make_report
from precompute.__main__ import main
from precompute.unrelated import draw_unrelated

SIZES = sizes_of("16,24x16,16x24")
SHAPES = [(46, 40), (60, 40), (90, 40), (20, 40), (40, 40), (16, 24)]  # of pictures
SEEN = [SIZES[place] for place in (0, 1, 1, 2, 0, 2)]
PROMPTS = ["a cat", "a dog", "a red bird", "a cat", "", "a dog"]
OWN = FeatureConfig(timesteps=4, ranges=2, proj_dim=8)
SHARED = FeatureConfig("denoising_loss", 4, 2, 8, each_timestep="paired")


def picture(size, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


PICTURES = [picture(size, place) for place, size in enumerate(SHAPES)]


def collected(images):
    images.mkdir()
    for row, (each, words) in enumerate(zip(PICTURES, PROMPTS, strict=True)):
        each.save(images / f"{row}.png")
        (images / f"{row}.txt").write_text(words)
    return images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved("sd", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder):
    return DiffusionModel.from_pretrained(folder, size=SIZES[0], more_sizes=SIZES[1:])


def test_each_picture_has_the_features_that_a_model_of_its_size_alone_gives(folder, model):
    assert [model.size_for(each) for each in PICTURES] == SEEN
    found = FeatureExtractor(model, OWN)(PICTURES, PROMPTS, 4)
    for size in SIZES[1:2]:
        rows = [row for row, seen in enumerate(SEEN) if seen == size]
        alone = FeatureExtractor(DiffusionModel.from_pretrained(folder, size=size), OWN)
        want = alone([PICTURES[row] for row in rows], [PROMPTS[row] for row in rows], 4)
        assert torch.equal(found[rows], want)


@pytest.mark.parametrize("config", [OWN, SHARED], ids=["own", "shared"])
def test_features_are_exact_and_know_no_order_and_no_batch(model, config):
    extractor = FeatureExtractor(model, config)
    found = extractor(PICTURES, PROMPTS, 4)
    backwards = extractor(PICTURES[::-1], PROMPTS[::-1], 1).flip(0)
    assert torch.allclose(found, backwards, rtol=1e-3, atol=1e-5 * float(found.abs().max()))
    if config is OWN:
        for row in (1, 3):
            want = exact(extractor, PICTURES[row], PROMPTS[row]).flatten()
            assert torch.cosine_similarity(found[row].flatten(), want, 0) > 1 - 1e-6


def test_shared_noise_is_shared_by_all_sizes_where_both_have_latents(model):
    seen, steps = Encoded(model, PICTURES), torch.tensor([3, 700])
    square, wide, tall = (seen.at([row]).noise(0, steps, shared=True) for row in (0, 1, 3))
    assert [each.shape[2:] for each in (square, wide, tall)] == [(8, 8), (8, 12), (12, 8)]
    assert torch.equal(square, wide[..., :8])
    assert torch.equal(square, tall[..., :8, :])
    assert not torch.equal(square[0], square[1])
    own = [seen.at([row]).noise(0, steps) for row in (1, 2)]
    assert not torch.equal(*own)


def test_two_pictures_of_the_same_bytes_and_other_shapes_have_noise_of_their_own_shape(model):
    plain = [Image.new("RGB", size) for size in SIZES[1:]]
    seen, steps = Encoded(model, plain), torch.tensor([3])
    assert [seen.at([row]).noise(0, steps).shape[2:] for row in (0, 1)] == [(8, 12), (12, 8)]


def test_sizes_are_written_as_they_are_read_and_count(folder, model):
    assert written(*SIZES) == "16,24x16,16x24"
    alone = DiffusionModel.from_pretrained(folder, size=SIZES[0])
    assert model.size == alone.size
    assert model.fingerprint != alone.fingerprint
    for wrong, message in (("16,32", "two sizes of one shape"), ("16,24x16,", "resolution is"),
                           (",".join(f"{n}x999" for n in range(1, 99)), "at most 64")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            sizes_of(wrong)
    with pytest.raises(InputError, match="resolution is 30x16; it must be a multiple of"):
        DiffusionModel.from_pretrained(folder, size=(16, 16), more_sizes=((30, 16),))
    images, _ = draw_unrelated(60, 0, *SIZES)
    assert {image.size for image in images} == {*SIZES}


def test_a_cache_keeps_the_collections_order(model, tmp_path):
    config = CacheConfig(timesteps=2, proj_dim=4, batch_size=4)
    collection, told = load_collection(collected(tmp_path / "images")), []
    site = Site.of(model, collection, tmp_path / "cache", config)
    found = site.features([5, 0, 3, 1], told.append)
    assert told == [2, 1, 1]
    pictures, prompts = [PICTURES[i] for i in (5, 0, 3, 1)], [PROMPTS[i] for i in (5, 0, 3, 1)]
    want = FeatureExtractor(model, config.features())(pictures, prompts, 1)
    assert torch.allclose(found, want, rtol=1e-3, atol=1e-5 * float(want.abs().max()))


def test_pictures_of_which_much_is_cut_off_are_named_before_the_work(model, folder, tmp_path):
    collection = load_collection(collected(tmp_path / "images"))
    single = DiffusionModel.from_pretrained(folder, size=(16, 16))
    alone, several = (
        check_collection(collection, size_for=each.size_for).cropped for each in (single, model)
    )
    assert alone == ["1.png", "2.png", "3.png", "5.png"]
    assert several == ["2.png"]
    assert cut_off((60, 40), (16, 16)) == pytest.approx(1 / 3)
    assert cut_off((30, 40), (60, 80)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["d-trak", "ekfac"])
def test_a_collection_of_several_shapes_goes_through_every_step(method, folder, tmp_path, capsys):
    images, cache = collected(tmp_path / "images"), tmp_path / "cache"
    names = ["--pretrained_model_name_or_path", str(folder), "--train_data_dir", str(images)]
    there = ["--cache_dir", str(cache)]
    made = ["--output_dir", str(cache), "--timesteps", "2", "--proj_dim", "4", "--method", method]
    assert main(["gradients", *names, *made, "--resolution", "16,24x16,16x24"]) == 0
    warned = "favours pictures of a query's own size" in capsys.readouterr().err
    assert warned == (method == "ekfac")
    assert main(["weights", *names, *there, "--queries", "2", "--top_k", "2"]) == 0
    assert main(["calibrate", *names, *there, "--unrelated", "19", "--lists", "0"]) == 0
    assert main(["likeness", *names, *there]) == 0
    attributor = Attributor.from_pretrained(folder, cache, images)
    assert attributor.model.sizes == SIZES
    for row in (1, 3):
        image = attributor.collection.image(row)
        answer = attributor.attribute(image, PROMPTS[row])
        assert answer.rank(1)[0].index == row
        assert attributor.alike(image).argmax() == row
        assert attributor.copies(image)[0].row == row
        if method != "ekfac":
            shape = (8, 12) if row == 1 else (12, 8)
            assert attributor.regions(image, answer).map(row).shape == shape
        report = make_report(attributor, image, answer, prompt=PROMPTS[row], date=datetime.now(UTC))
        (tmp_path / "report.json").write_text(json.dumps(report))
        assert main(["verify", str(tmp_path / "report.json"), *names, *there]) == 0

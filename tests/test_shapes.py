"""Pictures that are not square: every family's gradients are exact, drawings have the shape, maps lie as the picture does."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from families import FAMILIES, exact, prompts_of, saved
from PIL import Image
from test_families import CONFIG, shapes_of
from worlds import WORLDS

from attribution.answer.thumbnails import views
from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.grid import Grid, cell_parts
from attribution.looks.regions import GRID, blend, cell_features
from attribution.looks.unlearning import UnlearnConfig, what_if
from attribution.models.diffusion import DiffusionModel
from attribution.models.network import sides
from attribution.page.hall import load
from attribution.page.settings import Settings
from attribution.pictures.collection import cropped, to_pixels
from attribution.pictures.size import size_of, written
from attribution.report.report import make_report
from precompute.__main__ import main
from precompute.unrelated import draw_unrelated

OWN_SHAPE = ("dit", "ddpm", "ddpm v")  # which draw no other
FAST = ("sd", "sdxl", "sd3", "flux dev")
EVERY = [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in FAMILIES if n not in OWN_SHAPE]  # fmt: skip
SIZES = {"sana": (64, 32), "lumina": (32, 16)}  # which draw in steps of 32 and 16 pixels


@pytest.fixture(scope="module", params=EVERY)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name, tmp_path_factory):
    folder = saved(name, tmp_path_factory.mktemp("model"))
    return DiffusionModel.from_pretrained(folder, size=SIZES.get(name, (24, 16)))


def pictures(count=2):
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (40, 50, 3), np.uint8)) for _ in range(count)]


def test_features_are_exact_gradients(name, model):
    extractor = FeatureExtractor(model, CONFIG)
    found = extractor(pictures(), prompts_of(name)[:2], 2)
    _, height, width = model.latent_shape
    assert height < width
    for place, image in enumerate(pictures()):
        want = exact(extractor, image, prompts_of(name)[place])
        assert want.norm() > 0
        assert torch.cosine_similarity(found[place].flatten(), want.flatten(), 0) > 1 - 1e-6


def test_a_drawing_has_the_shape(name, model):
    if name == "pixart told sizes":
        pytest.skip("the pipeline tells sizes to networks of 1024 pixels alone")
    [drawn] = model.generate(prompts_of(name)[:1], [3], 2)
    assert drawn.size == model.size == SIZES.get(name, (24, 16))


def test_placed_layers_lie_as_the_picture_does(name, model):
    if not model.family.maps:
        pytest.skip("no maps")
    _, height, width = model.latent_shape
    latents = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    other = latents.clone()
    other[:, :, -1, 0] += 1  # the lower left corner
    found, moved = (shapes_of(model, each, prompts_of(name)[1]) for each in (latents, other))
    first = next(layer for layer in found if layer.endswith((".to_q", "conv_in")))
    moved = (moved[first] - found[first]).abs()
    moved = moved.sum(-1)[0] if moved.dim() == 3 else moved.sum(1)[0].flatten()
    layout = sides((len(moved),), (height, width))
    assert layout[0] < layout[1]
    moved = moved.view(layout)
    reach = 2 if first.endswith("conv_in") else 1
    assert moved[-1, 0] > 0
    assert moved[:-reach].sum() == moved[:, reach:].sum() == 0


def test_the_shares_of_a_map_sum_to_the_features_and_few_are_elsewhere(name, model):
    if not model.family.maps:
        pytest.skip("no maps")
    extractor, [image] = FeatureExtractor(model, CONFIG), pictures(1)
    cells = cell_features(extractor, image, [prompts_of(name)[1]])[0]
    grid = Grid.over(*model.latent_shape[1:], GRID)
    assert cells.shape[1] == grid.rows * grid.columns + 1
    want = extractor([image], [prompts_of(name)[1]])[0]
    whole = torch.cosine_similarity(cells.sum(1), want, 1)[want.norm(dim=1) > 1e-5 * want.norm()]
    assert whole.min() > 1 - 1e-4
    placed = cells[:, :-1].flatten(1).any(1)
    assert placed.any()


def test_positions_of_other_shapes_are_known_by_their_number():
    picture = (6, 9)
    for layout in ((6, 9), (54,)):
        assert sides(layout, picture) == (6, 9)
    assert sides((15,), picture) == (3, 5)  # halved, as a convolution of stride two does
    assert (
        sides((49,), picture) is None
    )  # a square number is no sign of a picture that is not square
    assert sides((49,), (8, 8)) == (7, 7)
    grid = Grid.over(6, 9, 4)
    assert (grid.rows, grid.columns) == (3, 4)
    share = cell_parts((54,), grid)
    assert torch.allclose(share.sum(0), torch.ones(54))
    assert share[0].nonzero().flatten().tolist() == [0, 1, 2, 9, 10, 11]
    assert Grid.over(128, 64, 16)[:2] == (16, 8)
    assert Grid.over(8, 8, 16)[:2] == (8, 8)


def test_pictures_are_cut_in_their_middle():
    image = Image.new("RGB", (60, 60), "black")
    image.paste("white", (0, 20, 60, 40))
    pixels = to_pixels([image], (30, 10))
    assert pixels.shape == (1, 3, 10, 30)
    assert pixels.min() > 0.5
    assert cropped(image, (60, 60)) is image
    assert [each.size for each in views(image, (3, 1))] == [(60, 60), (60, 20)]
    assert len(views(image.resize((60, 20)), (3, 1))) == 1
    warm = torch.zeros(2, 6)
    warm[0, 5] = 1
    drawn = np.asarray(blend(image, warm, (30, 10))).astype(int)
    assert drawn.shape == (20, 60, 3)
    assert np.ptp(drawn, axis=2)[0, -1] > 50 > np.ptp(drawn, axis=2)[-1, 0]
    images, _ = draw_unrelated(16, 1, (48, 32))
    assert {image.size for image in images} == {(48, 32)}


def test_sizes_are_read_as_they_are_written():
    assert (size_of("512"), size_of(512), size_of("768x512")) == ((512, 512),) * 2 + ((768, 512),)
    assert [written(size_of(each)) for each in ("512", "768x512")] == [512, "768x512"]
    for wrong in ("", "0", "12x", "x12", "1x2x3", "-5", "12x0", "999999", "١٢", 0):
        with pytest.raises(InputError, match="768x512"):
            size_of(wrong)


@pytest.mark.parametrize("family", ["dit", "ddpm"])
def test_families_of_one_shape_refuse_another(family, tmp_path):
    folder = saved(family, tmp_path / "model")
    with pytest.raises(InputError, match="network's own shape alone; give one number"):
        DiffusionModel.from_pretrained(folder, size=(32, 16))
    with pytest.raises(InputError, match="resolution is 30x16; it must be a multiple of"):
        DiffusionModel.from_pretrained(folder, size=(30, 16))
    assert DiffusionModel.from_pretrained(folder, size=(32, 32)).size == (32, 32)


@pytest.mark.parametrize("family", ["sd", "ddpm", "sdxl"])
def test_a_network_of_another_shape_says_so_itself(family, tmp_path):
    folder = saved(family, tmp_path / "model")
    config = folder / "unet/config.json"
    sizes = {"ddpm": [8, 16]}.get(family, [8, 12])
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": sizes}))
    model = DiffusionModel.from_pretrained(folder)
    assert model.size == {"ddpm": (16, 8)}.get(family, (24, 16))
    [drawn] = model.generate(["" if family == "ddpm" else "a cat"], [1], 2)
    assert drawn.size == model.size
    assert FeatureExtractor(model, CONFIG)([drawn], [""]).isfinite().all()


def test_a_wide_model_goes_through_every_step_and_to_the_page(tmp_path):
    folder, images = WORLDS["concepts"](tmp_path)
    cache = tmp_path / "cache"
    names = ["--pretrained_model_name_or_path", str(folder), "--train_data_dir", str(images)]
    there = ["--cache_dir", str(cache)]
    made = ["--output_dir", str(cache), "--timesteps", "2", "--proj_dim", "4"]
    assert main(["gradients", *names, *made, "--resolution", "24x16"]) == 0
    assert main(["weights", *names, *there, "--queries", "2", "--top_k", "2"]) == 0
    few = ["--unrelated", "19", "--draws", "19", "--lists", "20"]
    assert main(["calibrate", *names, *there, *few]) == 0
    assert main(["likeness", *names, *there]) == 0
    shown = ["--output_dir", str(cache / "examples"), "--known", "1"]
    assert main(["examples", *names, *there, *shown]) == 0

    attributor = Attributor.from_pretrained(folder, cache, images)
    assert attributor.model.size == (24, 16)
    image, caption = attributor.collection.image(1), attributor.collection.captions[1]
    answer = attributor.attribute(image, caption)
    assert answer.rank(1)[0].index == 1
    assert attributor.regions(image, answer).map(1).shape == (8, 12)
    report = make_report(attributor, image, answer, prompt=caption, date=datetime.now(UTC))
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert main(["verify", str(tmp_path / "report.json"), *names, *there]) == 0

    desk = load(Settings(cache=(str(cache),))).desk
    assert {example.image.size for example in desk.examples} == {(24, 16)}
    drawn = desk.attributor.model.generate([caption], [5], 2)[0]
    assert drawn.size == (24, 16)
    scores, few = answer.scores["general"], UnlearnConfig(steps=1, batch_size=1)
    rows = scores.topk(10).indices.tolist()
    told = what_if(attributor.model, attributor.collection, caption, rows, scores, 5, config=few)
    assert {each.image.size for each in (told.before, told.after, *told.controls)} == {(24, 16)}

"""Maps sum to the scores, a cell's share is what that cell alone would give, and halves are told apart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_gradients import DIM, NETWORKS, ROWS
from torch import nn

from attribution.answer.answer import standardise
from attribution.cache.scoring import weighted
from attribution.cache.search import Exact
from attribution.errors import InputError
from attribution.gradients.features import unit
from attribution.gradients.grid import Grid, cell_parts
from attribution.gradients.kernel import apply_kernel
from attribution.gradients.projector import GradientProjector
from attribution.looks.regions import Cells, blend, cell_features, grid_of
from attribution.pictures.collection import load_collection
from precompute import tables
from precompute.__main__ import main
from precompute.evaluate.regions import composites, join, judge, maps_of, row_of

ASSETS = Path(__file__).parents[1] / "assets"
EVERY = list(range(30))
SQUARE, FINER = Grid(4, 4, 4, 4), Grid(8, 8, 8, 8)


@pytest.mark.parametrize("parameters", ["weights", "all"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_shares_of_all_cells_sum_to_the_feature(kind, parameters):
    torch.manual_seed(0)
    build, shape = NETWORKS[kind]
    network, inputs = build(), torch.randn(2 * ROWS, *shape)
    projector = GradientProjector(network, DIM, seed=1, parameters=parameters)

    def objective():
        return network(inputs).square().flatten(1).sum(1)

    want, cells = projector(objective, 2), projector(objective, 2, grid=SQUARE)
    assert cells.shape == (2, len(projector.layers), 4 * 4 + 1, DIM)
    assert (cells.sum(2) - want).abs().max() <= 2e-5 * want.abs().max()


LAYERS = {
    "convolution": (lambda: nn.Conv2d(4, 8, 3, padding=1), (4, 4, 4)),
    "grouped": (lambda: nn.Conv2d(4, 8, 3, groups=2, padding=1), (4, 4, 4)),
    "strided": (lambda: nn.Conv2d(4, 8, 3, stride=2, padding=1), (4, 8, 8)),
    "folded": (lambda: nn.Conv2d(100, 140, 3, padding=1), (100, 4, 4)),
    "tokens": (lambda: nn.Linear(10, 14), (16, 10)),
    "narrow tokens": (lambda: nn.Linear(600, 64), (16, 600)),
    "group norm": (lambda: nn.GroupNorm(2, 8), (8, 4, 4)),
    "layer norm": (lambda: nn.LayerNorm(8), (16, 8)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_cells_share_is_the_whole_feature_of_an_objective_that_reads_this_cell_alone(kind):
    torch.manual_seed(0)
    build, shape = LAYERS[kind]
    layer, inputs = build(), torch.randn(2 * ROWS, *shape)
    projector = GradientProjector(layer, DIM, seed=1, parameters="all")

    def read(cell):
        energy = layer(inputs).square()  # a 4 x 4 grid of positions
        energy = energy.sum(1).flatten(1) if energy.ndim == 4 else energy.sum(2)
        return energy.sum(1) if cell is None else energy[:, cell]

    cells = projector(lambda: read(None), 2, grid=SQUARE)
    for cell in (0, 6, 15):
        want = projector(lambda cell=cell: read(cell), 2)
        assert (cells[:, :, cell] - want).abs().max() <= 2e-5 * want.abs().max()
    assert not cells[:, :, -1].any()


@pytest.mark.parametrize("layout", [(4, 4), (16, 16), (3, 5), (16,), (7,), (1,), ()])
def test_what_is_shared_out_keeps_its_sum(layout):
    share = cell_parts(layout, FINER)
    assert share.shape == (65, int(np.prod(layout)))
    assert torch.allclose(share.sum(0), torch.ones(share.shape[1]))
    placed = layout in ((4, 4), (16, 16), (3, 5), (16,))
    assert bool(share[-1].any()) != placed


def test_coarse_positions_cover_the_cells_under_them():
    share = cell_parts((4, 4), FINER)
    lit = share[:64, 5].view(8, 8).nonzero().tolist()  # the second row's second position
    assert lit == [[2, 2], [2, 3], [3, 2], [3, 3]]
    assert torch.equal(cell_parts((16,), FINER), share)


def test_a_map_and_what_is_elsewhere_sum_to_the_score(attributor):
    image = attributor.collection.image(3)
    answer = attributor.attribute(image, "a woodcut of a cat in the city")
    whole = replace(answer, phrases={"general": answer.phrases["general"]})
    found = attributor.regions(image, whole).heats(EVERY)["general"]
    assert found.map.shape == (30, 8, 8)
    total = found.map.sum((1, 2)) + found.elsewhere
    assert torch.allclose(total, answer.scores["general"], atol=1e-4)

    passes = unit(attributor.extractor([image] * 2, [answer.phrases["style"], ""]))
    asked = apply_kernel(passes.mean(0, keepdim=True), attributor.cache.kernel)
    parts = attributor.contributions(asked)
    want = standardise(weighted(parts, attributor.weights["style"]))[0]
    found = attributor.regions(image, answer).heats(EVERY)["style"]
    assert torch.allclose(found.map.sum((1, 2)) + found.elsewhere, want, atol=1e-4)


def test_maps_mix_as_scores_do(attributor):
    image = attributor.collection.image(3)
    regions = attributor.regions(image, attributor.attribute(image, "a woodcut of a cat at night"))
    subject, style, background = (h.map[0] for h in regions.heats([5]).values())
    assert torch.equal(regions.map(5, style=2), style)
    assert torch.allclose(regions.map(5, subject=1, style=3), 0.25 * subject + 0.75 * style)
    whole = (subject + style + background) / 3
    assert torch.allclose(regions.map(5), whole, atol=1e-6)
    assert torch.allclose(regions.map(5, general=1, style=0), whole, atol=1e-6)
    with pytest.raises(InputError, match="no map for this mix"):
        regions.map(5, mood=1)


def test_layers_that_see_no_positions_and_noisy_timesteps_have_no_cell(attributor):
    cells = cell_features(attributor.extractor, attributor.collection.image(0), ["a cat"])[0]
    placed = cells[:, :-1].flatten(1).any(1)
    for group, has_place in zip(attributor.extractor.groups, placed.tolist(), strict=True):
        blind = "time_emb" in group or "attn2.to_k" in group or "attn2.to_v" in group
        assert has_place == (group.startswith("0:") and not blind), group


def test_maps_are_those_of_all_shares_of_all_images_standardised(attributor):
    cache, image = attributor.cache, attributor.collection.image(0)
    grid = grid_of(attributor.extractor, image)
    features = cell_features(attributor.extractor, image, ["a cat"])[0]
    weights, train = attributor.weights["style"], cache.features()
    asked = apply_kernel(features.transpose(0, 1), cache.kernel) * weights[:, None]
    shares = torch.einsum("cgd,ngd->cn", asked.double(), train.double())
    shares = shares - shares.mean(1, keepdim=True)  # what all images share is no evidence for one
    shares = shares / shares.sum(0).std(correction=0)
    maps = shares[:-1].T.reshape(-1, grid.rows, grid.columns)
    padded = np.pad(maps.numpy(), ((0, 0), (1, 1), (1, 1)), mode="edge")
    along = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    smooth = (along[..., :-2] + 2 * along[..., 1:-1] + along[..., 2:]) / 4

    cells = Cells.of(features, weights, cache.kernel, Exact(cache), grid)
    found = cells.heat(train - attributor.mean_feature)
    assert np.abs(found.map.numpy() - smooth).max() < 1e-4
    assert (found.elsewhere - shares[-1]).abs().max() < 1e-4
    assert cells.asked.numel() < asked[:-1].numel()  # groups that see no positions are not kept


def test_what_is_kept_of_a_picture_does_not_grow_with_the_collection(attributor):
    image = attributor.collection.image(3)
    regions = attributor.regions(image, attributor.attribute(image, "a cat"))
    for cells in regions.cells.values():
        kept = cells.asked.untyped_storage().nbytes() + cells.elsewhere.untyped_storage().nbytes()
        assert kept <= 4 * 65 * attributor.cache.kernel[..., 0].numel()


def test_a_blend_is_lightest_where_the_heat_is_and_grey_where_there_is_none():
    image = Image.new("RGB", (60, 40), (90, 30, 30))
    warm = torch.full((8, 8), -1.0)
    warm[1, 6] = 3
    drawn = np.asarray(blend(image, warm, (64, 64))).astype(int)
    assert drawn.shape == (40, 40, 3)
    row, column = np.unravel_index(drawn.sum(2).argmax(), (40, 40))
    assert (row // 5, column // 5) == (1, 6)
    assert np.ptp(drawn[:, :20], axis=2).max() == 0
    blank = np.asarray(blend(image, -torch.ones(8, 8), (64, 64)))
    assert np.ptp(blank, axis=2).max() == 0


def test_composites_join_images_that_differ_and_purposes_share_none():
    collection = load_collection(ASSETS / "collection")
    found = composites(collection, 40, 0, "evaluation")
    for one in found:
        first, second = (collection.labels[row] for row in one.rows)
        assert all(first[c] != second[c] for c in collection.concepts)
    for one in found[:2]:
        pixels = np.asarray(one.image)
        for which, row in enumerate(one.rows):
            own = one.half(which, 64, 64).numpy()
            assert (pixels[own] == np.asarray(collection.image(row))[own]).all()
    assert {one.stacked for one in found} == {False, True}
    others = composites(collection, 40, 1, "validation")
    assert not {r for one in found for r in one.rows} & {r for one in others for r in one.rows}


@pytest.mark.parametrize("stacked", [False, True])
def test_a_map_is_judged_by_its_peak_and_its_evidence(attributor, stacked):
    one = join(attributor.collection, (0, 1), stacked)
    right = torch.stack([one.half(which, 8, 8).float() for which in (0, 1)])
    assert judge(one, right) == (1, 1)
    assert judge(one, right.flip(0)) == (0, 0)
    assert judge(one, right[[0, 0]]) == (0.5, 0.5)


def test_every_kind_of_map_has_a_line(attributor):
    maps = maps_of(attributor, join(attributor.collection, (0, 1), stacked=True))
    concepts = ("subject", "style", "background")
    drawn = {(name, "drawn") for name in ("general", *concepts, "all concepts")}
    assert set(maps) == drawn | {(name, "of the difference") for name in concepts}
    values = np.array([[1.0, 0.75], [0.5, 0.25]])
    row = row_of("d-trak", "style", "drawn", values, seed=0)
    assert row["low"] <= row["pointing_accuracy"] == 0.75 <= row["high"]
    assert "| d-trak | style | drawn | 0.750" in tables.regions([row])


def test_a_collection_with_too_few_images_that_differ_is_refused(attributor, small_model, capsys):
    names = ["--pretrained_model_name_or_path", str(small_model)]
    names += ["--train_data_dir", str(attributor.collection.folder)]
    names += ["--cache_dir", str(attributor.cache.folder)]
    assert main(["evaluate", "regions", *names]) == 2
    assert "composites of images that differ in every concept" in capsys.readouterr().err

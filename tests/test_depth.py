"""The parts of all layers sum to the score, each is its group's own, and layers come in the network's order."""

import pytest
import torch

from attribution.errors import InputError
from attribution.looks.depth import Depth, by_block, depth, every_depth
from attribution.models.network import UNET, block_of

MIXES = [{}, {"subject": 1}, {"style": 2, "general": 1}, {"background": 0.3, "subject": 1.2}]


@pytest.fixture(scope="module")
def answer(attributor):
    return attributor.attribute(attributor.collection.image(3), "a woodcut of a cat at night")


@pytest.mark.parametrize("amounts", MIXES)
def test_the_parts_sum_to_the_score(attributor, answer, amounts):
    scores = answer.mix(**(amounts or {"general": 1}))
    for row in (0, 3, 17, int(scores.argmin()), int(scores.abs().argmin())):
        found = depth(attributor, answer, row, **amounts)
        assert float(found.parts.sum()) == pytest.approx(float(scores[row]), abs=1e-4)
        blocks = by_block(found)
        assert float(sum(blocks.values()).sum()) == pytest.approx(float(scores[row]), abs=1e-4)


def test_a_part_is_what_its_group_alone_says(attributor, answer):
    contributions = attributor.contributions(answer.asked["style"][None])[0].double()
    own = contributions * answer.weights["style"][:, None]
    spread = own.sum(0).std(correction=0)
    wanted = (own - own.mean(1, keepdim=True)) / spread
    found = depth(attributor, answer, 11, style=1)
    for number, parts in enumerate(found.parts):
        for layer, part in zip(found.layers, parts, strict=True):
            group = attributor.cache.groups.index(f"{number}:{layer}")
            assert float(part) == pytest.approx(float(wanted[group, 11]), abs=1e-5)


def test_layers_come_in_the_order_of_the_network(attributor, answer):
    found = depth(attributor, answer, 0)
    assert sorted(found.layers) == sorted(attributor.extractor.projector.layers)
    assert list(by_block(found)) == [
        "conv_in", "time_embedding", "down_blocks.0", "down_blocks.1", "mid_block",
        "up_blocks.0", "up_blocks.1", "conv_out",
    ]  # fmt: skip
    unknown = ["h.0.attn", "h.1.attn"]
    assert UNET.in_order(unknown) == [0, 1]
    assert [block_of(layer) for layer in ("conv_in", "mid_block.resnets.0.conv1", "h.1.attn")] == [
        "conv_in", "mid_block", "h.1",
    ]  # fmt: skip


def test_a_block_has_the_sum_of_its_layers_in_each_range():
    layers = ["conv_in", "down_blocks.0.a", "down_blocks.0.b.1", "down_blocks.1.a"]
    found = by_block(Depth(layers, torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])))
    assert {name: parts.tolist() for name, parts in found.items()} == {
        "conv_in": [1, 5], "down_blocks.0": [5, 13], "down_blocks.1": [4, 8],
    }  # fmt: skip


def test_one_row_is_read_as_all_rows_are(backwards):
    every = backwards.cache.features()
    for place in (0, 7, 8, 29):  # at the edges of shards of eight
        assert torch.equal(backwards.cache.feature(place), every[place])
        row = backwards.collection.rows.index(backwards.cache.rows[place])
        assert torch.equal(backwards.feature(row), every[place])
    assert torch.allclose(backwards.mean_feature, every.mean(0), atol=1e-6)


def test_an_unknown_question_has_no_depth(attributor, answer):
    with pytest.raises(InputError, match="no scores for mood"):
        depth(attributor, answer, 0, mood=1)


def test_all_rows_at_once_are_what_each_is_alone(attributor, answer):
    blocks, found = every_depth(attributor, answer)
    assert list(found) == list(answer.scores)
    for name, parts in found.items():
        assert torch.allclose(parts.sum((0, 1)), answer.scores[name], atol=1e-4)
        for row in (0, 3, 17):
            alone = by_block(depth(attributor, answer, row, **{name: 1}))
            assert list(alone) == blocks
            assert torch.allclose(torch.stack([*alone.values()], 1), parts[..., row], atol=1e-4)


def test_an_answer_is_the_weighted_contributions_and_keeps_none(attributor, answer, monkeypatch):
    parts = attributor.contributions(torch.stack(list(answer.asked.values()))).double()
    for (name, found), part in zip(answer.scores.items(), parts, strict=True):
        scores = answer.weights[name].double() @ part
        wanted = (scores - scores.mean()) / scores.std(correction=0)
        assert torch.allclose(found.double(), wanted, atol=1e-5), name
    monkeypatch.setattr("attribution.attributor.contributions", lambda *_: pytest.fail("kept"))
    again = attributor.scores(answer.asked, answer.weights)
    assert all(torch.equal(again[name], answer.scores[name]) for name in again)

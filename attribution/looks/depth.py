"""Say which layers, at which noise levels, spoke for one training image.

A mix's score is a sum over groups, so each group has its share of how far an image n stands above the average one:

    part_j(n) = sum_c a_c w_cj <K_j q_cj, g_j(n) - mean_m g_j(m)> / spread_c

and the parts sum to the image's standardised score. In: an answer, a row of the collection. Out: a `Depth`. Only that
row and the answer's best ones are read from the cache; `every_depth` tells of all rows by one pass over it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from attribution.answer.answer import Answer
from attribution.attributor import Attributor
from attribution.models.network import block_of


@dataclass(frozen=True)
class Depth:
    """What each layer adds to a training image's score, in standard deviations above the average image."""

    layers: list[str]  # in the order in which a picture passes them
    parts: Float[Tensor, "range layer"]  # range 0 holds the least noise; their sum is the score


def depth(attributor: Attributor, answer: Answer, row: int, /, **amounts: float | int) -> Depth:
    """Share one training image's score in a mix among ranges of noise and layers."""
    shares = answer.shares(**amounts).items()  # refuses amounts that make no mix
    parts = sum(question_parts(attributor, answer, name, row) * share for name, share in shares)
    ranges = attributor.extractor.config.ranges
    layers = attributor.extractor.projector.layers
    order = attributor.model.family.anatomy.in_order(layers)
    return Depth([layers[i] for i in order], parts.view(ranges, -1)[:, order])


def question_parts(
    attributor: Attributor, answer: Answer, name: str, row: int
) -> Float[Tensor, "group"]:
    """Give every group's part of a training image's score for one question."""
    asked = answer.asked[name] * answer.weights[name][:, None]

    def centred(row: int) -> Tensor:
        return (asked * (attributor.feature(row) - attributor.mean_feature)).sum(1)

    # The spread follows from any image whose score is known, best from one far above the average.
    [best], [score] = answer.first(1, **{name: 1})
    return centred(row) * (score / centred(int(best)).sum())


def by_block(depth: Depth) -> dict[str, Float[Tensor, "range"]]:
    """Sum the parts of each block's layers, blocks in order."""
    blocks = [block_of(layer) for layer in depth.layers]
    return {
        block: depth.parts[:, [other == block for other in blocks]].sum(1)
        for block in dict.fromkeys(blocks)
    }


def every_depth(
    attributor: Attributor, answer: Answer
) -> tuple[list[str], dict[str, Float[Tensor, "range block train"]]]:
    """Give the blocks, and for each question what they add to every training image's score."""
    asked = torch.stack([answer.asked[n] * answer.weights[n][:, None] for n in answer.asked])
    found = attributor.contributions(asked)
    found -= found.mean(2, keepdim=True)
    found /= found.sum(1).square().mean(1).sqrt()[:, None, None]
    layers, ranges = attributor.extractor.projector.layers, attributor.extractor.config.ranges
    order = attributor.model.family.anatomy.in_order(layers)
    blocks = list(dict.fromkeys(block_of(layers[i]) for i in order))
    place = torch.tensor([blocks.index(block_of(layer)) for layer in layers])
    by_layer = found.unflatten(1, (ranges, -1))  # [question, range, layer, train]
    parts = torch.zeros(*by_layer.shape[:2], len(blocks), by_layer.shape[3])
    return blocks, dict(zip(answer.asked, parts.index_add_(2, place, by_layer), strict=True))

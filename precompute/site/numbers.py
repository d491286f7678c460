"""Write an example's numbers so that a browser can mix them: as small as they can be and still be the server's.

A mix's score is linear in the questions' scores, so those are all that sliders need. They stay as they are: rounded to 16
bits, a row would now and then cross the line between what stands out and what does not, and an interval jump. One
little-endian file holds

    scores    float32 [question, train]
    likeness  uint16 [train]                         places by plain likeness, from 1; all zero where nobody knows
    kept      uint16 [kept]                          the rows that `parts` tells of
    parts     int8 [kept, question, range, block]    contributions, in steps of their own for every question

Kept are rows that score above LEVEL for a question. A mix is convex, so what does so in a mix is among them. In: an attributor
and an example. Out: bytes, and the steps that JSON tells.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attribution.answer.likeness import ranks
from attribution.answer.shares import LEVEL, RESAMPLES
from attribution.attributor import Attributor
from attribution.cache.scoring import top
from attribution.looks.depth import every_depth
from attribution.looks.examples import Example
from attribution.seeds import generator

MOST_ROWS = 2**16 - 1  # that 16 bits can count
FIRST = 24  # of each question are kept, whether they stand out or not
MOST_ABOVE = 5  # at most one score in five lies two standard deviations above the mean (Cantelli)


@dataclass(frozen=True)
class Numbers:
    """An example's numbers as bytes, and how to read them."""

    data: bytes
    steps: dict[str, float]  # question -> what one step of its parts is worth
    kept: int
    blocks: list[str]
    ranges: int


def numbers_of(attributor: Attributor, example: Example, questions: list[str]) -> Numbers:
    """Write an example's numbers; a question that it was not asked is all zero."""
    answer, count = example.answer, len(attributor.collection)
    blocks, found = every_depth(attributor, answer)
    ranges = attributor.extractor.config.ranges
    nothing = torch.zeros(count), torch.zeros(ranges, len(blocks), count)
    scores = torch.stack([answer.scores.get(name, nothing[0]) for name in questions])
    parts = torch.stack([found.get(name, nothing[1]) for name in questions])
    kept = kept_rows(scores)
    codes, steps = coded(parts[..., kept])
    likeness = np.zeros(count)
    if attributor.look_alikes:
        likeness = ranks(attributor.alike(example.image)).numpy()
    pieces = (
        scores.numpy().astype("<f4"),
        likeness.astype("<u2"),
        kept.numpy().astype("<u2"),
        np.moveaxis(codes, -1, 0),
    )
    return Numbers(
        b"".join(piece.tobytes() for piece in pieces),
        dict(zip(questions, steps, strict=True)),
        len(kept), blocks, ranges,
    )  # fmt: skip


def kept_rows(scores: Float[Tensor, "question train"]) -> Int[Tensor, "kept"]:
    """Choose the rows that score above LEVEL for any question, and the first of each, in the collection's order."""
    kept = (scores > LEVEL).any(0)
    kept[top(scores, FIRST).flatten()] = True
    return kept.nonzero()[:, 0]


def coded(values: Float[Tensor, "question *rest"]) -> tuple[np.ndarray, list[float]]:
    """Write each question's values as whole steps from -127 to 127; give the steps, too."""
    steps = values.flatten(1).abs().amax(1).double().clamp_min(1e-12) / 127
    shape = (-1, *[1] * (values.dim() - 1))
    return (values.double() / steps.view(shape)).round().numpy().astype(np.int8), steps.tolist()


def share_draws(count: int) -> bytes:
    """Write the draws behind the intervals of shares, two in a byte: those of `share_out`, for any number of images.

    It draws [resample, image] from one stream, so that fewer images take the beginning of the same one.
    """
    most = max(1, count // MOST_ABOVE)
    drawn = torch.poisson(torch.ones(RESAMPLES * most), generator=generator("shares", 0))
    low, high = drawn.clamp_max(15).to(torch.uint8).view(-1, 2).unbind(1)
    return (low + high * 16).numpy().tobytes()

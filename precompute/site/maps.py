"""Write where in an example's picture the evidence for its first training images lies, for the demo's closer look.

A map is linear in the questions' amounts, as scores are, so each question's own is written: one little-endian file holds

    mapped  uint16 [mapped]                     the rows: the first of each question
    maps    int8 [mapped, question, height, width]    in steps of their own for every question

In: an attributor and an example, whose gradient is taken anew, position by position. Out: bytes, and the steps.
"""

from dataclasses import dataclass

import numpy as np
import torch

from attribution.attributor import Attributor
from attribution.cache.scoring import top
from attribution.looks.examples import Example
from precompute.site.numbers import FIRST, coded


@dataclass(frozen=True)
class Maps:
    """An example's maps as bytes, and how to read them."""

    data: bytes
    steps: dict[str, float]  # question that has a map -> what one step is worth
    mapped: int
    grid: tuple[int, int]  # height, width


def maps_of(attributor: Attributor, example: Example) -> Maps:
    """Map the evidence for the first rows of every question."""
    scores = torch.stack(list(example.answer.scores.values()))
    rows = top(scores, FIRST).unique()
    heats = attributor.regions(example.image, example.answer).heats(rows.tolist())
    codes, steps = coded(torch.stack([heat.map for heat in heats.values()]))
    data = rows.numpy().astype("<u2").tobytes() + np.moveaxis(codes, 1, 0).tobytes()
    height, width = codes.shape[2:]
    return Maps(data, dict(zip(heats, steps, strict=True)), len(rows), (height, width))

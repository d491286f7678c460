"""Show where in a picture the evidence for a training image lies.

A score is linear in the query's features, and those are a sum over the positions p of every layer's inputs `a` and
output gradients `d`. So each position has its share of every training image's score, and the shares sum to it:

    tau(q, n) = sum_p sum_j w_j <K_j sketch_j(d_p a_p^T) / ||q_j||, g_j(n)>

One backward pass serves all training images. Shares are standardised over them, as scores are: what a region
says for every image alike is no evidence for one. In: a picture, phrases, learned weights. Out: a `Heat` for every
training image, and the picture with one drawn over it.

A concept's question is the difference of two passes, with its phrase and without words (questions.py). What they
share, and the difference loses, is the picture; so the map is of their mean, with the concept's weights. Left out of
the map are layers that see no positions (time embeddings, the prompt's keys and values) and the noisier half of the
timesteps, where a position holds mostly noise; what they add to the score is told apart.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from attribution.answer.questions import GENERAL
from attribution.cache.scoring import sums
from attribution.cache.store import Cache
from attribution.errors import InputError
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.grid import Grid
from attribution.models.encoded import Encoded
from attribution.pictures.size import Size

GRID = 16  # a map's sides are those of the latents, but the longer is no finer than this
SMOOTHING = (
    0.25,
    0.5,
    0.25,
)  # along each side of a map; what is at the edge stays there, so sums stay
COLOURS = (
    (20, 11, 53),
    (133, 33, 107),
    (207, 68, 70),
    (245, 125, 21),
    (252, 225, 80),
)  # ever lighter
OPACITY = 0.85


@dataclass(frozen=True)
class Heat:
    """Where the evidence for training images lies, in standard deviations above the average image.

    A row's map and what is elsewhere sum to its standardised score under the mean of the question's passes; for
    the whole picture that is its score.
    """

    map: Float[Tensor, "row height width"]
    elsewhere: Float[Tensor, "row"]


def grid_of(extractor: FeatureExtractor, image: Image.Image) -> Grid:
    """Give the cells of a picture's maps."""
    model = extractor.model
    return Grid.over(*model.shape_at(model.size_for(image))[1:], GRID)


def cell_features(
    extractor: FeatureExtractor, image: Image.Image, phrases: list[str]
) -> Float[Tensor, "phrase group cell dim"]:
    """Make a picture's unit features under each phrase, in parts: one for each cell, the last for elsewhere."""
    grid = grid_of(extractor, image)
    seen = Encoded(extractor.model, [image]).at([0] * len(phrases))
    # In larger batches the blocks of all positions leave the memory that is used again and again.
    found = extractor.query(seen, phrases, batch_size=2, grid=grid)
    clearer = (extractor.config.ranges + 1) // 2
    anatomy = extractor.model.family.anatomy
    placeless = [
        anatomy.reads_prompt(group) or int(group.split(":")[0]) >= clearer
        for group in extractor.groups
    ]
    whole = found.sum(2, keepdim=True)
    found[:, placeless] = functional.pad(whole[:, placeless], (0, 0, grid.cells - 1, 0))
    return found / whole.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def cell_scores(
    features: Float[Tensor, "group cell dim"], weights: Float[Tensor, "group"], cache: Cache
) -> Float[Tensor, "cell train"]:
    """Give every cell's share of every training image's weighted score, in the cache's order."""
    asked = (features @ cache.kernel * weights[:, None, None]).transpose(0, 1)
    return torch.cat([sums(asked, stored) for _, stored in cache.stream()], 1)


def heat(cells: Float[Tensor, "cell train"], grid: Grid) -> Heat:
    """Standardise every training image's cells over all of them, and smooth its map."""
    centred = cells - cells.mean(1, keepdim=True)
    centred = centred / centred.sum(0).square().mean().sqrt().clamp_min(1e-12)
    maps = centred[:-1].T.reshape(-1, 1, grid.rows, grid.columns)
    kernel = torch.tensor(SMOOTHING)
    padded = functional.pad(maps, (1, 1, 1, 1), mode="replicate")
    return Heat(
        functional.conv2d(padded, torch.outer(kernel, kernel)[None, None])[:, 0], centred[-1]
    )


def find_regions(
    extractor: FeatureExtractor,
    cache: Cache,
    image: Image.Image,
    phrases: dict[str, str],
    weights: dict[str, Float[Tensor, "group"]],
) -> dict[str, Heat]:
    """Map the evidence for every training image, in the cache's order, for each concept that has a phrase.

    Where none has, the whole picture is mapped.
    """
    concepts = [name for name in phrases if name != GENERAL]
    words = ["", *(phrases[c] for c in concepts)] if concepts else [phrases[GENERAL]]
    wordless, *asked = cell_features(extractor, image, words)
    grid = grid_of(extractor, image)
    if not concepts:
        return {GENERAL: heat(cell_scores(wordless, weights[GENERAL], cache), grid)}
    return {
        concept: heat(cell_scores((features + wordless) / 2, weights[concept], cache), grid)
        for concept, features in zip(concepts, asked, strict=True)
    }


@dataclass(frozen=True)
class Regions:
    """A picture's maps, kept so that another training image or another mix is instant."""

    heats: dict[str, Heat]  # concept -> a row for every training image, in the collection's order

    def map(self, row: int, /, **amounts: float | int) -> Float[Tensor, "height width"]:
        """Give one training image's map for a mix, as `Answer.mix` takes it.

        The whole picture's map is the mean of its concepts': it points better than the general weights' own.
        """
        amounts = amounts or {GENERAL: 1}
        shares = {name: float(amounts.get(name, 0)) for name in self.heats}
        if GENERAL not in shares:
            whole = amounts.get(GENERAL, 0) / len(shares)
            shares = {name: share + whole for name, share in shares.items()}
        total = sum(shares.values())
        if not 0 < total < float("inf"):
            raise InputError(
                "no map for this mix; give an amount above zero to what the picture was asked for"
            )
        return sum(self.heats[name].map[row] * (share / total) for name, share in shares.items())


def blend(image: Image.Image, heat: Float[Tensor, "height width"], size: Size) -> Image.Image:
    """Draw evidence for a training image over the picture: the more, the lighter; evidence against is left out.

    The picture turns grey, so that all colour is evidence; it is cut to what the model sees, which has the size's shape.
    """
    part = min(has / seen for has, seen in zip(image.size, size, strict=True))
    shown = (round(size[0] * part), round(size[1] * part))
    grey = np.asarray(ImageOps.fit(image, shown).convert("L"), dtype=np.float32)[..., None]
    part = (heat.clamp_min(0) / heat.max().clamp_min(1e-12)).numpy()
    amount = np.asarray(Image.fromarray(part).resize(shown, Image.Resampling.BILINEAR))
    steps = np.linspace(0, 1, len(COLOURS))
    colour = np.stack([np.interp(amount, steps, c) for c in zip(*COLOURS, strict=True)], -1)
    return Image.fromarray(np.uint8(grey + (colour - grey) * amount[..., None] * OPACITY))

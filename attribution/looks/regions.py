"""Show where in a picture the evidence for a training image lies.

A score is linear in the query's features, and those are a sum over the positions p of every layer's inputs `a` and
output gradients `d`. So each position has its share of every training image's score, and the shares sum to it:

    tau(q, n) = sum_p sum_j w_j <K_j sketch_j(d_p a_p^T) / ||q_j||, g_j(n)>

One backward pass serves all training images. Shares are standardised over them, as scores are: what a region
says for every image alike is no evidence for one. Since they are linear in g, too, what is kept of a picture is what its
cells ask of any training image, and an image's shares are computed when it is looked at. In: a picture, phrases, learned
weights. Out: `Regions`, which give the `Heat` of any training image, and the picture with one drawn over it.

A concept's question is the difference of two passes, with its phrase and without words (questions.py). What they
share, and the difference loses, is the picture; so the map is of their mean, with the concept's weights. Left out of
the map are layers that see no positions (time embeddings, the prompt's keys and values) and the noisier half of the
timesteps, where a position holds mostly noise; what they add to the score is told apart.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from attribution.answer.questions import GENERAL
from attribution.cache.search import Search
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


@dataclass(frozen=True)
class Cells:
    """What a question asks of every training image, cell by cell, for shares in standard deviations of the scores."""

    asked: Float[Tensor, "cell placed dim"]  # kernelised and weighted
    placed: Bool[Tensor, "group"]  # which groups see positions
    elsewhere: Float[Tensor, "group dim"]
    grid: Grid

    @classmethod
    def of(
        cls,
        features: Float[Tensor, "group cell dim"],
        weights: Float[Tensor, "group"],
        kernel: Float[Tensor, "group dim dim"],
        search: Search,
        grid: Grid,
    ) -> "Cells":
        """Apply kernel and weights, and take the spread of all images' scores from the search."""
        asked = (features @ kernel * weights[:, None, None]).transpose(0, 1)
        asked = asked / search.moments(asked.sum(0, keepdim=True)).spread.clamp_min(1e-12).float()
        placed = asked[:-1].any(2).any(0)
        return cls(asked[:-1, placed], placed, asked[-1].clone(), grid)  # and no view of all

    def heat(self, features: Float[Tensor, "row group dim"]) -> Heat:
        """Give the shares of training images by their features, less the average image's, and smooth each map."""
        shares = torch.einsum("cgd,rgd->rc", self.asked, features[:, self.placed])
        maps = shares.reshape(-1, 1, self.grid.rows, self.grid.columns)
        kernel = torch.tensor(SMOOTHING)
        padded = functional.pad(maps, (1, 1, 1, 1), mode="replicate")
        smooth = functional.conv2d(padded, torch.outer(kernel, kernel)[None, None])[:, 0]
        return Heat(smooth, (features * self.elsewhere).sum((1, 2)))


def find_regions(
    extractor: FeatureExtractor,
    kernel: Float[Tensor, "group dim dim"],
    search: Search,
    image: Image.Image,
    phrases: dict[str, str],
    weights: dict[str, Float[Tensor, "group"]],
) -> dict[str, Cells]:
    """Find what a picture's cells ask for each concept that has a phrase; where none has, for the whole picture."""
    concepts = [name for name in phrases if name != GENERAL]
    words = ["", *(phrases[c] for c in concepts)] if concepts else [phrases[GENERAL]]
    wordless, *asked = cell_features(extractor, image, words)
    means = {c: (each + wordless) / 2 for c, each in zip(concepts, asked, strict=True)}
    means, grid = means or {GENERAL: wordless}, grid_of(extractor, image)
    return {c: Cells.of(each, weights[c], kernel, search, grid) for c, each in means.items()}


@dataclass(frozen=True)
class Regions:
    """What a picture's cells ask, kept so that another training image or another mix is instant."""

    cells: dict[str, Cells]  # by concept
    features: Callable[[list[int]], Tensor]  # of rows [row, group, dim], less the average image's

    def heats(self, rows: list[int]) -> dict[str, Heat]:
        """Give some training images' maps for each concept, by their rows in the collection."""
        features = self.features(rows)
        return {name: cells.heat(features) for name, cells in self.cells.items()}

    def map(self, row: int, /, **amounts: float | int) -> Float[Tensor, "height width"]:
        """Give one training image's map for a mix, as `Answer.mix` takes it.

        The whole picture's map is the mean of its concepts': it points better than the general weights' own.
        """
        amounts = amounts or {GENERAL: 1}
        shares = {name: float(amounts.get(name, 0)) for name in self.cells}
        if GENERAL not in shares:
            whole = amounts.get(GENERAL, 0) / len(shares)
            shares = {name: share + whole for name, share in shares.items()}
        total = sum(shares.values())
        if not 0 < total < float("inf"):
            raise InputError(
                "no map for this mix; give an amount above zero to what the picture was asked for"
            )
        heats = self.heats([row])
        return sum(heats[name].map[0] * (share / total) for name, share in shares.items())


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

"""Regions: the heat map lights up the right half of a picture that is made of two training images, or not.

One half of a composite is cut from image A, the other from image B, which shares neither subject, style nor
background with A. A's map, asked with A's words, must peak in A's half, and B's in B's (the pointing game, Zhang et
al. 2016, arXiv 1608.00507); chance is a half. Beside it stands the share of a map's positive evidence that lies in
the right half. Settings were chosen on the "validation" composites, which share no image with these.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from attribution.answer.questions import GENERAL
from attribution.attributor import Attributor
from attribution.cache.search import Exact
from attribution.errors import InputError
from attribution.looks.regions import Cells, cell_features, grid_of
from attribution.pictures.collection import Collection
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.statistics import bootstrap

COMPOSITES = 120
VALIDATION_PART = 6  # one image in so many is for choosing settings, ...
SPLIT_SEED = 12345  # ... the same ones whatever the seed


@dataclass(frozen=True)
class Composite:
    """Two training images side by side, or one above the other."""

    image: Image.Image
    rows: tuple[int, int]  # of the collection: the first half's image, the second's
    stacked: bool

    def half(self, which: int, height: int, width: int) -> Bool[Tensor, "height width"]:
        """Mark the cells of one of the halves of a map."""
        row, column = torch.arange(height)[:, None], torch.arange(width)
        first = row < height / 2 if self.stacked else column < width / 2
        return (first == (which == 0)).expand(height, width)


def composites(collection: Collection, count: int, seed: int, purpose: str) -> list[Composite]:
    """Pair images that differ in every concept, and join a half of each, alternately beside and above."""
    if not collection.concepts:
        raise InputError(
            f"{collection.folder} has no concepts.json; write one with a phrase for each value"
        )
    split = np.random.default_rng(SPLIT_SEED).permutation(len(collection))
    first = len(collection) // VALIDATION_PART
    own = split[:first] if purpose == "validation" else split[first:]
    remaining = np.random.default_rng(seed).permutation(own).tolist()
    found: list[Composite] = []
    while remaining and len(found) < count:
        row = remaining.pop()
        other = next((n for n in remaining if differ(collection, row, n)), None)
        if other is not None:
            remaining.remove(other)
            found.append(join(collection, (row, other), stacked=len(found) % 2 == 1))
    if len(found) < count:
        raise InputError(
            f"{collection.folder} makes {len(found)} composites of images that differ in every concept; "
            f"ask for no more queries than that"
        )
    return found


def differ(collection: Collection, row: int, other: int) -> bool:
    """Tell whether two images share no concept's value."""
    return all(
        collection.labels[row][c] != collection.labels[other][c] for c in collection.concepts
    )


def join(collection: Collection, rows: tuple[int, int], stacked: bool) -> Composite:
    """Paste the second image's right or lower half onto the first image."""
    image, other = (collection.image(row) for row in rows)
    width, height = image.size
    corner = (0, height // 2) if stacked else (width // 2, 0)
    image.paste(other.crop((*corner, width, height)), corner)
    return Composite(image, rows, stacked)


def maps_of(
    attributor: Attributor, composite: Composite
) -> dict[tuple[str, str], Float[Tensor, "half height width"]]:
    """Give both halves' maps for every set of weights, as drawn and, to compare, of the scores themselves."""
    collection, cache = attributor.collection, attributor.cache
    concepts = [c for c in collection.concepts if c in attributor.weights]
    words = {
        (name, row): collection.captions[row]
        if name == GENERAL
        else collection.concepts[name][collection.labels[row][name]]
        for row in composite.rows
        for name in (GENERAL, *concepts)
    }
    parts = cell_features(attributor.extractor, composite.image, ["", *words.values()])
    asked = dict(zip(words, parts[1:], strict=True))
    grid = grid_of(attributor.extractor, composite.image)

    def both(name: str, scored: bool = False) -> Tensor:
        found = []
        for row in composite.rows:
            features = asked[name, row]
            if name != GENERAL:
                features = features - parts[0] if scored else (features + parts[0]) / 2
            cells = Cells.of(features, attributor.weights[name], cache.kernel, Exact(cache), grid)
            centred = attributor.feature(row)[None] - attributor.mean_feature
            found.append(cells.heat(centred).map[0])
        return torch.stack(found)

    maps = {(name, "drawn"): both(name) for name in (GENERAL, *concepts)}
    maps["all concepts", "drawn"] = sum(maps[name, "drawn"] for name in concepts) / len(concepts)
    return maps | {(name, "of the difference"): both(name, scored=True) for name in concepts}


def judge(composite: Composite, maps: Float[Tensor, "half height width"]) -> tuple[float, float]:
    """Give the share of maps that peak in their own half, and the share of positive evidence there."""
    halves = torch.stack([composite.half(which, *maps.shape[-2:]) for which in (0, 1)]).flatten(1)
    flat = maps.flatten(1)
    hits = halves.gather(1, flat.argmax(1, keepdim=True))
    positive = flat.clamp_min(0)
    share = (positive * halves).sum(1) / positive.sum(1).clamp_min(1e-12)
    return float(hits.float().mean()), float(share.mean())


def measure(config: EvaluateConfig, purpose: str = "evaluation") -> list[dict]:
    """Give a row for each set of weights."""
    attributor = Attributor.from_pretrained(
        config.pretrained_model_name_or_path, config.cache_dir, config.train_data_dir, config.device
    )
    joined = composites(attributor.collection, config.queries or COMPOSITES, config.seed, purpose)
    judged: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for composite in tqdm(joined, desc="composites", unit="composite"):
        for key, maps in maps_of(attributor, composite).items():
            judged.setdefault(key, []).append(judge(composite, maps))
    method = attributor.cache.header["method"]
    return [
        row_of(method, weights, kind, np.array(values), config.seed)
        for (weights, kind), values in judged.items()
    ]


def row_of(method: str, weights: str, kind: str, values: np.ndarray, seed: int) -> dict:
    """Lay the composites' figures out as one row."""
    clusters = np.arange(len(values))
    (low, high), (share_low, share_high) = (bootstrap(v, clusters, seed) for v in values.T)
    pointing, share = values.mean(0)
    return {
        "method": method,
        "weights": weights,
        "map": kind,
        "pointing_accuracy": round(float(pointing), 4),
        "low": low,
        "high": high,
        "chance": 0.5,
        "share_in_right_half": round(float(share), 4),
        "share_low": share_low,
        "share_high": share_high,
        "composites": len(values),
        "measured_on": f"{len(values)} composites of two training images, two maps each",
    }

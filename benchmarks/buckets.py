"""Measure whether pictures of two shapes can be compared: their own crops find them, and others of one shape do not crowd in.

    python benchmarks/buckets.py [--update]

Pictures of the shipped collection are cut, every second one to three quarters of its height, and the shipped model, which was trained on squares alone,
sees each at its own shape. The queries are the same pictures in the other shape. For each method, and for noise that pictures share by how it is drawn

  found      share of queries whose own picture, in the other shape, scores highest
  own shape  share of the ten highest others that have the query's own shape (by chance half)

with 95 % intervals over queries; kernel of strength 1, every group counts the same. `--update` writes benchmarks/results/buckets.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from attribution.cache.site import CacheConfig
from attribution.gradients.features import FeatureExtractor, unit
from attribution.gradients.kernel import apply_kernel
from attribution.gradients.methods import method_named
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import load_collection

RESULTS = Path(__file__).parent / "results/buckets.json"
SQUARE, WIDE = (64, 64), (64, 48)
FIRST = 10
OWN, FIELD, APART = "a picture's own", "shared, one field", "shared, drawn for each size"
ROWS = (("d-trak", OWN), ("trak", FIELD), ("trak", APART))


def features(
    method: str, noise: str, images: list[Image.Image], prompts: list[str]
) -> Tensor:  # [image, group, dim]
    """Make features of pictures of both shapes, by one model of two sizes, or by two of one each."""
    config = CacheConfig(method=method, proj_dim=16 if method == "trak" else 32).features()
    if noise != APART:
        model = DiffusionModel.from_pretrained("assets/model", size=SQUARE, more_sizes=(WIDE,))
        return unit(FeatureExtractor(model, config)(images, prompts))
    found = {}
    for size in (SQUARE, WIDE):
        model = DiffusionModel.from_pretrained("assets/model", size=size)
        rows = [row for row, image in enumerate(images) if image.size == size]
        some = [images[row] for row in rows], [prompts[row] for row in rows]
        found |= dict(zip(rows, unit(FeatureExtractor(model, config)(*some)), strict=True))
    return torch.stack([found[row] for row in range(len(images))])


def measure(method: str, noise: str, count: int) -> dict:
    """Give a row of the table."""
    collection = load_collection("assets/collection")
    rows = np.random.default_rng(0).permutation(len(collection))[:count].tolist()
    prompts = [collection.captions[row] for row in rows]
    shapes = [(SQUARE, WIDE)[place % 2] for place in range(count)]
    others = shapes[1:] + shapes[:1]
    cut = [
        [ImageOps.fit(collection.image(row), size) for row, size in zip(rows, sizes, strict=True)]
        for sizes in (shapes, others)
    ]
    train, asked = (features(method, noise, images, prompts) for images in cut)
    gram = torch.einsum("ngd,nge->gde", train.double(), train.double())
    kernel = method_named(method).kernel.fit(gram, count, 1.0)
    scores = torch.einsum("qgd,ngd->qn", apply_kernel(asked, kernel), train)
    found = (scores.argmax(1) == torch.arange(count)).float()
    scores.fill_diagonal_(-torch.inf)
    alike = torch.tensor([[shape == other for shape in shapes] for other in others])
    own = alike.gather(1, scores.topk(FIRST).indices).float().mean(1)
    return {"method": method, "noise": noise, "pictures": count} | ranged(found, "found") | ranged(own, "own_shape")  # fmt: skip


def ranged(values: Tensor, name: str) -> dict[str, float]:
    """Give a mean and its interval."""
    mean, half = float(values.mean()), 1.96 * float(values.std()) / len(values) ** 0.5
    found = {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}
    return {key: round(value, 3) for key, value in found.items()}


def main() -> None:
    """Print a row for each method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=160)
    parser.add_argument(
        "--update", action="store_true", help="write benchmarks/results/buckets.json"
    )
    args = parser.parse_args()
    found = []
    for method, noise in ROWS:
        found.append(measure(method, noise, args.pictures))
        print(json.dumps(found[-1]), flush=True)
    if args.update:
        RESULTS.write_text("[\n" + ",\n".join(map(json.dumps, found)) + "\n]\n")


if __name__ == "__main__":
    main()

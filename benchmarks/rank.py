"""Measure which few numbers of a layer's gradient keep its cosines best: a sketch, or factors of low rank.

  python -m benchmarks.rank [--train 96] [--queries 24] [--update]

Exact gradients of the shipped model, of training pictures and of the shipped examples (each with its own prompt and noise), of
every layer and both ranges of timesteps, under the objective of the shipped method. Each is kept in so many numbers, in two ways:

  sketch    A Gaussian projection of the whole gradient, as the store keeps (LoGra, arXiv 2405.13954, has two of them in turn)
  factors   both sides projected to p numbers (as far as they have more), and the best c columns and c rows of what is left: c p + c p
            numbers (ideas of LoRIF, arXiv 2601.21929, without its curvature), c p = numbers / 2

For each way and number

  cosine_error     root mean square error of cosines of queries with training pictures, over groups
  list_agreement   Spearman's correlation of the sums of cosines over all groups with the exact sums, mean over queries (with interval)
  recall_at_10     the share of the exact ten first that are found, by these sums, mean over queries

There is no kernel in it: one of low-rank factors is another method, not another store. `--update` writes
benchmarks/results/rank.json.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from attribution.attributor import Attributor
from attribution.gradients.features import FeatureExtractor
from attribution.looks.examples import load_examples
from attribution.models.encoded import Encoded
from precompute.evaluate.statistics import bootstrap, spearman

RESULTS = Path(__file__).parent / "results/rank.json"
NUMBERS = (8, 16, 32, 64)  # of a group
RANKS = (1, 2, 4)
Matrices = Float[Tensor, "picture out inner"]


def gradients(
    extractor: FeatureExtractor, seen: Encoded, prompts: list[str], weights: list[Tensor]
) -> Iterator[list[list[Tensor]]]:
    """Give each picture's exact gradients `[range][layer]`, float16."""
    config, model = extractor.config, extractor.model
    rows = config.timesteps // config.ranges
    for number, prompt in enumerate(tqdm(prompts, "gradients")):
        trials = extractor.trials(seen.at([number]), [prompt])
        found = []
        for first in range(0, config.timesteps, rows):
            some = trials.at(slice(first, first + rows))
            value = extractor.objective(some.predict(model), some.target).sum()
            taken = torch.autograd.grad(value, weights)
            found.append([(g / g.norm().clamp_min(1e-20)).flatten(1).half() for g in taken])
        yield found


def sketched(exact: Matrices, numbers: int, generator: torch.Generator) -> Tensor:
    """Give cosines of projections, `[picture, picture]`."""
    flat = exact.flatten(1)
    return cosines(flat @ torch.randn(flat.shape[1], numbers, generator=generator))


def factored(exact: Matrices, numbers: int, rank: int, generator: torch.Generator) -> Tensor:
    """Give cosines of factors, `[picture, picture]`."""
    side = numbers // (2 * rank)
    for _ in range(2):  # one side, then the other
        if exact.shape[2] > side:
            exact = exact @ torch.randn(exact.shape[2], side, generator=generator)
        exact = exact.mT
    left, values, right = torch.linalg.svd(exact, full_matrices=False)
    kept = (left[..., :rank] * values[:, None, :rank]) @ right[:, :rank]
    return cosines(kept.flatten(1))


def cosines(vectors: Float[Tensor, "picture number"]) -> Float[Tensor, "picture picture"]:
    """Give the cosines between rows."""
    unit = vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-20)
    return unit @ unit.T


def row_of(
    way: str, numbers: int, found: Float[Tensor, "group query train"], exact: Tensor, seed: int
) -> dict:
    """Compare cosines with the exact ones."""
    sums, wanted = found.sum(0), exact.sum(0)
    each = spearman(sums.numpy(), wanted.numpy())
    low, high = bootstrap(each, np.arange(len(each)), seed)
    first = [set(each.topk(10).indices.tolist()) for each in wanted]
    hits = [
        len(a & set(b.topk(10).indices.tolist())) / 10 for a, b in zip(first, sums, strict=True)
    ]
    return {
        "way": way,
        "numbers": numbers,
        "cosine_error": round(float((found - exact).square().mean().sqrt()), 4),
        "list_agreement": round(float(each.mean()), 4),
        "low": low,
        "high": high,
        "recall_at_10": round(float(np.mean(hits)), 4),
        "chance": round(10 / wanted.shape[1], 4),
        "queries": len(each),
        "train": wanted.shape[1],
        "groups": len(found),
    }


def measure(train: int, queries: int) -> list[dict]:
    """Give a row for each way and number of numbers."""
    attributor = Attributor.from_pretrained("assets/model", "assets/cache", "assets/collection")
    collection, model = attributor.collection, attributor.model
    chosen = range(0, len(collection), len(collection) // train)[:train]
    examples = load_examples("assets/examples", attributor)[:queries]
    images = [e.image for e in examples] + [collection.image(row) for row in chosen]
    prompts = [e.prompt for e in examples] + [collection.captions[row] for row in chosen]
    layers = [p.layer for p in attributor.extractor.projector.projections]
    weights = [layer.weight.requires_grad_(True) for layer in layers]
    seen = Encoded(model, images)
    pictures = list(gradients(attributor.extractor, seen, prompts, weights))
    ways: dict[tuple[str, int], Callable[[Matrices, torch.Generator], Tensor]] = {}
    for numbers in NUMBERS:
        ways["sketch", numbers] = lambda m, g, n=numbers: sketched(m, n, g)
        for rank in RANKS:
            if numbers >= 4 * rank:
                name = f"factors of rank {rank}"
                ways[name, numbers] = lambda m, g, n=numbers, r=rank: factored(m, n, r, g)
    exact, found = [], {way: [] for way in ways}
    groups = [(r, n) for r in range(attributor.extractor.config.ranges) for n in range(len(layers))]
    for part, layer in tqdm(groups, "groups"):
        matrices = torch.stack([each[part][layer] for each in pictures]).float()
        exact.append(cosines(matrices.flatten(1))[:queries, queries:])
        for number, (way, make) in enumerate(ways.items()):
            generator = torch.Generator().manual_seed(1000 * (len(exact) - 1) + number)
            found[way].append(make(matrices, generator)[:queries, queries:])
    stacked = torch.stack(exact)
    return [row_of(*way, torch.stack(each), stacked, 0) for way, each in found.items()]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=int, default=96)
    parser.add_argument("--queries", type=int, default=24)
    parser.add_argument("--update", action="store_true", help="write benchmarks/results/rank.json")
    args = parser.parse_args()
    rows = measure(args.train, args.queries)
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if args.update:
        RESULTS.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


if __name__ == "__main__":
    main()

"""Measure what an index finds of the first ten of a pass over all, for every question's weights and for extreme mixes.

  python -m benchmarks.index [--images 100000] [--pictures 2520] [--features FILE] [--update]

Rows are real gradients of the shipped model: the shipped cache's own 2,520, and beside them features of `--pictures` of its
training pictures under other noise (seed 1), taken at each of the ten timesteps apart. A feature is a mean over a range's
five timesteps; here it is the mean over a random few of the five, anew in each range, which is what the same code would make
with fewer timesteps. So a picture has up to 961 rows, all near one another (beyond that some are the same): harder to tell
apart than as many different pictures would be, and no Gaussian noise. Queries are the shipped examples from the 45th to the 76th, drawn by the model from prompts; those
before chose the settings. For each mix

  recall_at_10   the share of the ten that score as high as the pass's tenth, mean over queries
  by_codes       the same had the codes named the candidates, however few groups the mix has (if they tell nothing at all, a pass)
  groups         over how many groups the mix is spread (below FEWEST_GROUPS, or where codes tell less than LEAST_TOLD, a pass over these answers)
  milliseconds, ratio   median of one query, and the pass's median over it, both in this run, on a machine that may be busy:
                 time of processors, of all threads together, so that others' work does not count
  bytes_a_row, copy_bytes_a_row   the codes, in memory, and the copy of the rows, of which a query touches the candidates' pages
  beside_mb      what lies beside them whatever the number of rows
  reported       whether the page would answer by it

`--update` writes these sizes into benchmarks/results/index.json.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from attribution.attributor import Attributor
from attribution.cache.codes import groups_that_count, shares_of
from attribution.cache.index import (
    WORTHWHILE,
    Index,
    build_index,
    path_of,
)
from attribution.cache.search import Exact, First
from attribution.cache.shards import describe_shard, gram_of, shard_path, write_shard
from attribution.cache.store import Cache, open_cache, write_header
from attribution.files import load_tensors, save_tensors
from attribution.gradients.features import FeatureExtractor, unit
from attribution.looks.examples import load_examples
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Row, fingerprint_of

RESULTS = Path(__file__).parent / "results/index.json"
SHARD = 8192
GROUPS = (1, 2, 4, 8, 16, 32, 64)  # of mixes that leave all others out
CHOSEN_ON = 44  # examples that an index's settings were chosen on; the next 32 are measured
QUERIES = 32
NOISE = 1  # the seed; the shipped cache's is 0
Vectors = Float[Tensor, "query group dim"]


def each_timestep(attributor: Attributor, pictures: int) -> Float[Tensor, "image step layer dim"]:
    """Make the features of some training pictures at every timestep apart."""
    config = attributor.extractor.config
    apart = FeatureExtractor(attributor.model, replace(config, ranges=config.timesteps))
    apart.noise_seed, collection = NOISE, attributor.collection
    chosen = range(0, len(collection), max(1, len(collection) // pictures))[:pictures]
    found = []
    for start in tqdm(range(0, len(chosen), 8), "gradients"):
        rows = chosen[start : start + 8]
        seen = Encoded(attributor.model, [collection.image(row) for row in rows])
        found.append(apart.train(seen, [collection.captions[row] for row in rows]).half())
    return torch.cat(found).unflatten(1, (config.timesteps, -1))


def rows_of(
    steps: Float[Tensor, "image step layer dim"], ranges: int, images: int
) -> Iterator[Float[Tensor, "row group dim"]]:
    """Give so many rows, each the mean of some of a picture's timesteps in each range, at norm one."""
    generator = torch.Generator().manual_seed(0)
    by_range = steps.unflatten(1, (ranges, -1))  # [image, range, step, layer, dim]
    for start in range(0, images, SHARD):
        count = min(SHARD, images - start)
        picture = torch.randint(len(steps), (count,), generator=generator)
        kept = torch.rand(count, *by_range.shape[1:3], generator=generator)
        least = kept.topk(1, dim=2).values  # so that one is kept at least
        kept = ((kept > 0.5) | (kept == least)).float()
        kept /= kept.sum(2, keepdim=True)
        parts = [
            torch.einsum("nrsld,nrs->nrld", by_range[some].float(), share)
            for some, share in zip(picture.split(256), kept.split(256), strict=True)
        ]
        yield unit(torch.cat(parts).flatten(1, 2))


def write_cache(
    folder: Path, attributor: Attributor, steps: Float[Tensor, "image step layer dim"], images: int
) -> None:
    """Write a cache of the shipped rows and as many others as are missing, under the shipped kernel."""
    shipped = attributor.cache
    config, groups = attributor.extractor.config, len(shipped.groups)
    gram = torch.zeros(groups, config.proj_dim, config.proj_dim, dtype=torch.float64)
    shards, ids = [], []
    own = shipped.features()
    parts = [own, *rows_of(steps, config.ranges, images - len(own))]
    for number, features in enumerate(tqdm(parts, f"writing {images}")):
        rows = [Row(f"{len(ids) + n}.png", "0" * 16) for n in range(len(features))]
        ids += rows
        write_shard(folder, number, rows, features, "int8")
        shards.append(describe_shard(shard_path(folder, number)))
        gram += gram_of(load_tensors(shard_path(folder, number))["features"])
    kept = ("method", "damping", "features", "dtype", "groups")
    header = {key: shipped.header[key] for key in kept}
    header["fingerprints"] = {"model": "", "collection": fingerprint_of(ids)}
    write_header(folder, header, shards, gram, shipped.kernel)


def mixes(attributor: Attributor, cache: Cache) -> dict[str, Vectors]:
    """Ask the examples' questions: each by its weights, all four alike, and some groups alone."""
    examples = load_examples("assets/examples", attributor)[CHOSEN_ON : CHOSEN_ON + QUERIES]
    names = [n for n in sorted(attributor.weights) if all(n in e.answer.asked for e in examples)]
    asked = {
        n: torch.stack([e.answer.asked[n] for e in examples]) * attributor.weights[n][:, None]
        for n in names
    }
    every = torch.cat(list(asked.values()))
    spread = Exact(cache).moments(every).spread.float().chunk(len(names))
    alike = [asked[n] / each[:, None, None] for n, each in zip(names, spread, strict=True)]
    found = asked | {"all alike": torch.stack(alike).sum(0)}
    generator = torch.Generator().manual_seed(1)
    for count in GROUPS:
        some = every[torch.randperm(len(every), generator=generator)[: len(examples)]].clone()
        for query in some:
            query[torch.randperm(len(query), generator=generator)[count:]] = 0
        found[f"{count} of {every.shape[1]} groups alone"] = some
    return found


def recall(exact: First, found: First) -> float:
    """Give the share of what was found that scores as high as the last of the exact ones; ties count."""
    last = exact.scores[:, -1:]
    return float((found.scores >= last - 1e-5 * last.abs()).float().mean())


def milliseconds(action: Callable[[int], object], count: int) -> float:
    """Give the median time that processors take for some queries, one by one, after one to warm up."""
    times = []
    action(0)
    for number in range(count):
        start = time.process_time()
        action(number)
        times.append(1000 * (time.process_time() - start))
    return statistics.median(times)


def measure(cache: Cache, asked: dict[str, Vectors]) -> list[dict]:
    """Compare an index with a pass over all, mix by mix."""
    exact, index, rows = Exact(cache), Index(cache), []
    copy = index.rows.shape[1] * index.rows.element_size()
    rest = path_of(cache).stat().st_size - len(cache) * (index.codes.bytes + copy)
    for mix, vectors in asked.items():
        want, found = exact.first(vectors, 10), index.first(vectors, 10)
        by_codes = torch.cat([index.by_codes(v[None], 10).scores for v in vectors])
        timed = min(5, len(vectors))
        passed = milliseconds(lambda n, v=vectors: exact.first(v[n : n + 1], 10), timed)
        took = milliseconds(lambda n, v=vectors: index.first(v[n : n + 1], 10), timed)
        spread = statistics.median(
            groups_that_count(shares_of(index.turned(v[None])[0])) for v in vectors
        )
        rows.append(
            {
                "images": len(cache),
                "mix": mix,
                "recall_at_10": round(recall(want, found), 4),
                "by_codes": round(recall(want, First(by_codes, want.places)), 4),
                "groups": round(spread, 1),
                "milliseconds": round(took, 1),
                "ratio": round(passed / took, 2),
                "bytes_a_row": index.codes.bytes,
                "copy_bytes_a_row": copy,
                "beside_mb": round(rest / 1e6, 1),
                "queries": len(vectors),
                "reported": len(cache) >= WORTHWHILE,
            }
        )
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    return rows


def main() -> None:
    """Make features, caches and indexes, and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", default="100000")
    parser.add_argument("--pictures", type=int, default=2520)
    parser.add_argument(
        "--features", default="", help="a file to keep the gradients in, or with them"
    )
    parser.add_argument("--folder", default=None, help="where to write (default: a temporary one)")
    parser.add_argument("--update", action="store_true", help="write benchmarks/results/index.json")
    args = parser.parse_args()
    attributor = Attributor.from_pretrained("assets/model", "assets/cache", "assets/collection")
    kept = Path(args.features) if args.features else None
    if kept and kept.is_file():
        steps = load_tensors(kept)["steps"]
    else:
        steps = each_timestep(attributor, args.pictures)
        if kept:
            save_tensors(kept, {"steps": steps})
    rows = []
    for images in map(int, args.images.split(",")):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            write_cache(Path(folder), attributor, steps, images)
            cache = open_cache(folder, {})
            begun = time.process_time()
            build_index(cache, weights=torch.stack(list(attributor.weights.values())))
            print(f"built in {time.process_time() - begun:.0f} s of processors")
            rows += measure(cache, mixes(attributor, cache))
    if args.update:
        known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
        measured = {row["images"] for row in rows}
        rows += [row for row in known if row["images"] not in measured]
        rows.sort(key=lambda row: row["images"])
        RESULTS.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


if __name__ == "__main__":
    main()

"""Measure how opening, scoring and re-weighting a cache grow with the number of images.

Run it as `python -m benchmarks.scale [--images 10000,100000,1000000,10000000] [--dtype int8] [--json] [--update]`. It
writes synthetic caches (64 groups of 16 dimensions: rows are one of 200 centres and noise), one after the other, and
prints for each size

  open_s        opening it, as any program would (sizes are checked; above 256 MB bytes are checked on first reading)
  check_s       checking every byte's checksum, which the first pass over a large cache adds once
  pass_s        the contributions of one query to every image and group
  share_of_bare the time of a bare pass over the same mapped bytes (a sum of 64-bit words) over pass_s
  slider_s      new weights for all groups, and the best 20
  scores_s, scores_share   the same for a query that keeps no contributions: one pass, the best 20 (`Exact.first`)
  peak_mb       memory that the whole took, less the mapped files

Seconds are time of processors, of all threads together, so that others' work does not count; the committed run has
one thread (OMP_NUM_THREADS=1). `--update` writes these rows into benchmarks/results/scale.json and draws scale.png.
Everything is in the page cache, as far as it fits; ten million want 12 GB of disk and 20 GB of memory.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib
import psutil
import torch
from tqdm import tqdm

from attribution.cache.scoring import contributions, top, weighted
from attribution.cache.search import Exact
from attribution.cache.shards import describe_shard, gram_of, shard_path, write_shard
from attribution.cache.store import Cache, open_cache, write_header
from attribution.files import file_hash, load_tensors
from attribution.gradients.methods import FeatureConfig
from attribution.pictures.collection import Row, fingerprint_of

matplotlib.use("Agg")
from matplotlib import pyplot

GROUPS, DIM, SHARD = 64, 16, 8192
CENTRES = 200
RESULTS = Path(__file__).parent / "results"


def rows_of(images: int, start: int, generator: torch.Generator) -> torch.Tensor:
    """Draw features around centres, `[image, group, dim]`."""
    centres = torch.randn(CENTRES, GROUPS, DIM, generator=torch.Generator().manual_seed(1))
    kinds = torch.arange(start, start + images) % CENTRES
    return centres[kinds] + torch.randn(images, GROUPS, DIM, generator=generator)


def write_cache(folder: Path, images: int, dtype: str) -> None:
    """Write a cache of so many images."""
    generator = torch.Generator().manual_seed(0)
    shards, gram = [], torch.zeros(GROUPS, DIM, DIM, dtype=torch.float64)
    for number, start in enumerate(tqdm(range(0, images, SHARD), f"writing {images}")):
        count = min(SHARD, images - start)
        rows = [Row(f"{start + i}.png", "0" * 16) for i in range(count)]
        write_shard(folder, number, rows, rows_of(count, start, generator), dtype)
        shards.append(describe_shard(shard_path(folder, number)))
        gram += gram_of(load_tensors(shard_path(folder, number))["features"])
    rows = [Row(f"{i}.png", "0" * 16) for i in range(images)]
    header = {
        "method": "d-trak",
        "damping": 1.0,
        "features": FeatureConfig(proj_dim=DIM).recorded(),
        "dtype": dtype,
        "fingerprints": {"model": "", "collection": fingerprint_of(rows)},
        "groups": [f"group {g}" for g in range(GROUPS)],
    }
    identity = torch.eye(DIM).expand(GROUPS, -1, -1).clone()
    write_header(folder, header, shards, gram, identity)


def seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """Give the median time that processors take for an action."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return statistics.median(times)


def bare_pass(cache: Cache) -> int:
    """Read every byte of the features, and nothing else."""
    return sum(int(stored.view(torch.int64).sum()) for _, stored in cache.stream())


def private_mb() -> float:
    """Give the process's memory without mapped files, in 10^6 bytes."""
    memory = psutil.Process().memory_info()
    return (memory.rss - memory.shared) / 1e6


def measure(folder: Path, images: int, dtype: str) -> dict:
    """Measure one size."""
    write_cache(folder, images, dtype)
    before = private_mb()
    opened = seconds(lambda: open_cache(folder, {}), 3)
    cache = open_cache(folder, {})
    checked = seconds(lambda: [file_hash(folder / shard.name) for shard in cache.shards], 1)
    query = rows_of(1, 3, torch.Generator().manual_seed(2))
    weights = torch.rand(GROUPS)
    asked = query * weights[:, None]
    parts = torch.empty(1, GROUPS, len(cache))
    contributions(query, cache, parts)  # warms up
    exact, passes, bare, first = Exact(cache), [], [], []
    for _ in range(5):  # in turn
        bare.append(seconds(lambda: bare_pass(cache), 1))
        passes.append(seconds(lambda: contributions(query, cache, parts), 1))
        first.append(seconds(lambda: exact.first(asked, 20), 1))
    slider = seconds(lambda: top(weighted(parts, weights), 20))
    peak = private_mb() - before
    size = sum(shard.bytes for shard in cache.shards)
    return {
        "images": images,
        "dtype": dtype,
        "gigabytes": round(size / 1e9, 3),
        "open_s": round(opened, 4),
        "check_s": round(checked, 3),
        "pass_s": round(statistics.median(passes), 4),
        "bare_s": round(statistics.median(bare), 4),
        "share_of_bare": round(statistics.median(bare) / statistics.median(passes), 3),
        "slider_s": round(slider, 4),
        "scores_s": round(statistics.median(first), 4),
        "scores_share": round(statistics.median(bare) / statistics.median(first), 3),
        "peak_mb": round(max(0.0, peak), 1),
        "threads": torch.get_num_threads(),
    }


def plot(rows: list[dict], path: Path) -> None:
    """Plot times and memory of 8-bit caches against the number of images."""
    rows = [row for row in rows if row["dtype"] == "int8"]
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    images = [row["images"] for row in rows]
    for key, label in (
        ("open_s", "open"),
        ("pass_s", "first pass"),
        ("bare_s", "bare pass"),
        ("slider_s", "slider"),
    ):
        axes[0].loglog(images, [row[key] for row in rows], marker="o", label=label)
    axes[0].set(xlabel="images", ylabel="seconds")
    axes[0].legend(frameon=False)
    axes[1].loglog(images, [row["peak_mb"] for row in rows], marker="o", label="memory")
    axes[1].loglog(images, [1000 * row["gigabytes"] for row in rows], marker="o", label="disk")
    axes[1].set(xlabel="images", ylabel="10^6 bytes")
    axes[1].legend(frameon=False)
    figure.savefig(path, dpi=80)


def main() -> None:
    """Measure every size and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", default="10000,100000,1000000,10000000")
    parser.add_argument("--dtype", default="int8", choices=["int8", "float16"])
    parser.add_argument("--folder", default=None, help="where to write (default: a temporary one)")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.add_argument("--update", action="store_true", help="write benchmarks/results/scale.*")
    args = parser.parse_args()
    rows = []
    for images in map(int, args.images.split(",")):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            rows.append(measure(Path(folder), images, args.dtype))
        if not args.json:
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if args.update:
        path, new = RESULTS / "scale.json", {(row["images"], row["dtype"]) for row in rows}
        known = json.loads(path.read_text()) if path.is_file() else []
        every = rows + [row for row in known if (row["images"], row["dtype"]) not in new]
        every.sort(key=lambda row: (row["dtype"], row["images"]))
        path.write_text("[\n" + ",\n".join(map(json.dumps, every)) + "\n]\n")
        plot(every, RESULTS / "scale.png")
    if args.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()

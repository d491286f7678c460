"""Measure engines that could hold the shards' parts: Ray, which is kept, and Dask.distributed, which was weighed.

  python -m benchmarks.cluster [--images 100000] [--update]

One synthetic cache as in scale.py, three worker processes of one thread each on this machine; each opens its part by memory map
and gives its exact first 20, which are merged. Dask's half is written here alone, as actors by the same `Part` class.
Skipped is who is not installed (pip install ray distributed). For each engine

  start_s        workers up and the first answer there (imports and the opening of shards included)
  query_s, ratio   the median answer of ten, and over that of a pass in this process, in this run, on a machine that may be busy
  same           whether places are those of the pass
  killed         what came of a query that was under way when one worker was killed: answered or an error, and after what time
  installed_mb   the engine with all that it brings and this program does not need itself

`--update` writes benchmarks/results/cluster.json.
"""

import argparse
import importlib.metadata
import json
import os
import re
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attribution.cache.cluster import Cluster, Part, stamp_of
from attribution.cache.search import Exact, First
from attribution.cache.store import Cache, open_cache
from benchmarks.scale import DIM, GROUPS, write_cache

RESULTS = Path(__file__).parent / "results/cluster.json"
PARTS, COUNT, QUERIES = 3, 20, 10
PATIENCE = 60.0  # seconds
ENGINES = {"ray": "ray", "dask": "distributed"}  # and its package


def installed(package: str, ours: set[str] | None = None) -> float:
    """Give the bytes of a package and of all that only it brings, in 10^6."""
    ours = required("torch", "diffusers", "gradio", "scikit-learn") if ours is None else ours
    size = 0
    for name in required(package) - ours:
        files = importlib.metadata.distribution(name).files or []
        size += sum(f.locate().stat().st_size for f in files if f.locate().is_file())
    return size / 1e6


def required(*packages: str) -> set[str]:
    """Name packages with all that they need here."""
    found, waiting = set(), list(packages)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        if name not in found:
            found.add(name)
            plain = [need for need in needs if "extra ==" not in need]
            waiting += [re.match(r"[\w.-]+", need)[0] for need in plain]
    return found


class OnRay:
    """Ray by the library's own search."""

    def __init__(self, cache: Cache) -> None:
        self.cluster = Cluster(f"ray://local?parts={PARTS}", cache)

    def first(self, asked: torch.Tensor) -> First:
        """Ask."""
        return self.cluster.first(asked, COUNT)

    def process(self) -> int:
        """Give one worker's process."""
        import ray

        return ray.get(self.cluster.workers[1].__ray_call__.remote(lambda _: os.getpid()))

    def close(self) -> None:
        """End the workers."""
        import ray

        ray.shutdown()


class OnDask:
    """Dask.distributed by actors."""

    def __init__(self, cache: Cache) -> None:
        import distributed

        self.stamp = stamp_of(cache.header)
        self.client = distributed.Client(
            n_workers=PARTS, threads_per_worker=1, processes=True, dashboard_address=None
        )
        workers = list(self.client.scheduler_info(n_workers=-1)["workers"])
        made = [
            self.client.submit(Part, str(cache.folder), rank, PARTS, actor=True, workers=[worker])
            for rank, worker in enumerate(workers)
        ]
        self.workers, self.actors = workers, [each.result() for each in made]
        self.kept = made

    def first(self, asked: torch.Tensor) -> First:
        """Ask all, and merge."""
        waiting = [each.first(asked.numpy(), COUNT, self.stamp) for each in self.actors]
        found = [each.result(timeout=PATIENCE) for each in waiting]
        scores, places = (np.concatenate(each, 1) for each in zip(*found, strict=True))
        order = np.argsort(-scores, 1, kind="stable")[:, :COUNT]
        taken = (torch.from_numpy(np.take_along_axis(each, order, 1)) for each in (scores, places))
        return First(*taken)

    def process(self) -> int:
        """Give one worker's process."""
        worker = self.workers[1]
        return self.client.run(os.getpid, workers=[worker])[worker]

    def close(self) -> None:
        """End the workers."""
        self.client.shutdown()


def killed(engine: Any, asked: torch.Tensor) -> str:
    """Kill a worker while a query waits for it, and say what comes of the query."""
    process = engine.process()
    os.kill(process, signal.SIGSTOP)
    pool = ThreadPoolExecutor(1)
    begun, waiting = time.perf_counter(), pool.submit(engine.first, asked)
    threading.Timer(1.0, os.kill, (process, signal.SIGKILL)).start()
    try:
        waiting.result(timeout=PATIENCE)
        said = "answered"
    except Late:
        said = "no word"
    except Exception as error:
        said = f"an error ({type(error).__name__})"
    pool.shutdown(wait=False, cancel_futures=True)
    return f"{said} after {time.perf_counter() - begun:.1f} s"


def seconds(action: Callable[[], Any]) -> float:
    """Time an action."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure(name: str, make: Callable[[Cache], Any], cache: Cache) -> dict:
    """Measure one engine."""
    queries = torch.randn(QUERIES, 1, GROUPS, DIM, generator=torch.Generator().manual_seed(2))
    exact, here = Exact(cache), []
    begun = time.perf_counter()
    engine = make(cache)
    same = [torch.equal(engine.first(queries[0]).places, exact.first(queries[0], COUNT).places)]
    started, there = time.perf_counter() - begun, []
    for query in queries:  # in turn
        there.append(seconds(lambda q=query: engine.first(q)))
        here.append(seconds(lambda q=query: exact.first(q, COUNT)))
        same.append(torch.equal(engine.first(query).places, exact.first(query, COUNT).places))
    query_s, pass_s = statistics.median(there), statistics.median(here)
    row = {
        "engine": name,
        "version": importlib.metadata.version(ENGINES[name]),
        "images": len(cache),
        "workers": PARTS,
        "start_s": round(started, 2),
        "query_s": round(query_s, 4),
        "ratio": round(query_s / pass_s, 2),
        "same": all(same),
        "killed": killed(engine, queries[0]),
        "installed_mb": round(installed(ENGINES[name])),
        "kept": name == "ray",
    }
    engine.close()
    return row


def main() -> None:
    """Measure who is installed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--engines", default="ray,dask")
    parser.add_argument(
        "--update", action="store_true", help="write benchmarks/results/cluster.json"
    )
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_cache(Path(folder), args.images)
        for name in args.engines.split(","):
            rows.append(measure(name, {"ray": OnRay, "dask": OnDask}[name], open_cache(folder, {})))
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if args.update:
        RESULTS.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


if __name__ == "__main__":
    main()

"""Answer by a cluster: workers of Ray hold a part of the shards each, by memory map, and their exact firsts are merged.

In: `ray://ADDRESS?parts=N`, where ADDRESS is what `ray.init` takes (`local` starts a cluster on this machine), and an opened cache, whose folder
every worker reads under the same path. Out: a `Search` (search.py) that is as exact as a pass. Ray starts a lost
worker again and asks it again; a part that does not come back in time is an error, so that no answer lacks one unsaid.
Workers of another version, or with another state of the cache, are refused. Ray's own messages are pickles: let nobody
into its network who may not run programs there.
"""

import os
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attribution.cache.scoring import top
from attribution.cache.search import Exact, First, Moments
from attribution.cache.shards import Shard
from attribution.cache.store import Cache, listed_shards, open_cache
from attribution.errors import InputError
from attribution.files import hash_of
from attribution.sentence import Sentence

SCHEME = "ray://"
WAIT = 60.0  # seconds for all parts, a worker's new start included
STORE = 2**27  # bytes for messages, where a cluster is started here
SAID = Sentence(
    "Every training picture was scored, by a cluster, which hands over the first alone."
)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "a cluster needs Ray; run pip install 'diffusion-attribution[cluster]'"
        ) from error
    return ray


def program() -> str:
    """Name the version of this program, which all of a cluster must share."""
    try:
        return version("diffusion-attribution")
    except PackageNotFoundError:
        return "from its sources"


def stamp_of(header: dict) -> dict[str, str]:
    """Say what head and workers must agree on."""
    return {"program": program(), "cache": hash_of(header)}


@dataclass
class Part:
    """A worker: some shards of a cache, opened when it is first asked, also after a new start.

    It answers with a sentence in place of a result where it must refuse.
    """

    folder: str
    rank: int
    world: int
    opened: tuple[Exact, Int[Tensor, "row"]] | None = field(default=None, init=False)

    def _open(self, stamp: dict[str, str]) -> tuple[Exact, Int[Tensor, "row"]]:
        if self.opened is None:
            torch.set_num_threads(1)
            cache = open_cache(self.folder, {}, part=(self.rank, self.world))
            every = listed_shards(cache.header)
            self.opened = Exact(cache), places_of(every, self.rank, self.world)
        mine = stamp_of(self.opened[0].cache.header)
        if different := [what for what in stamp if stamp[what] != mine[what]]:
            raise InputError(
                f"part {self.rank + 1} of {self.world} of the cluster has another {' and '.join(different)} than the head; "
                "start the cluster anew with one version everywhere"
            )
        return self.opened

    def first(self, asked: np.ndarray, count: int, stamp: dict[str, str]) -> Any:
        """Give the first of its rows, by their places in the whole cache."""
        try:
            exact, places = self._open(stamp)
            found = exact.first(torch.from_numpy(asked.copy()), count)
        except InputError as error:
            return str(error)
        return found.scores.numpy(), places[found.places].numpy()

    def moments(self, asked: np.ndarray, stamp: dict[str, str]) -> Any:
        """Give the sums of its rows' scores and of their squares."""
        try:
            exact, places = self._open(stamp)
            found = exact.moments(torch.from_numpy(asked.copy()))
        except InputError as error:
            return str(error)
        square = found.spread.square() + found.mean.square()
        return (len(places) * found.mean).numpy(), (len(places) * square).numpy()


def places_of(shards: list[Shard], rank: int, world: int) -> Int[Tensor, "row"]:
    """Give the places in the whole cache of one part's rows."""
    ends = torch.tensor([shard.rows for shard in shards]).cumsum(0).tolist()
    both = list(zip(shards, ends, strict=True))[rank::world]
    return torch.cat([torch.arange(end - shard.rows, end) for shard, end in both])


class Cluster:
    """The head: asks all parts and merges what they say."""

    name, said = "cluster", SAID  # answers are public, and its address is not

    def __init__(self, name: str, cache: Cache, wait: float = WAIT) -> None:
        self.cache, self.wait = cache, wait
        address, parts = address_of(name)
        ray = join(address, parts)
        cores = int(ray.cluster_resources().get("CPU", 1))
        if parts > cores:
            raise InputError(
                f"{name} asks for {parts} parts, and the cluster has {cores} cores; give it more, or ask for fewer parts"
            )
        parts = min(parts or cores, len(cache.shards))
        options = {"max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": "SPREAD"}
        worker = ray.remote(num_cpus=0, **options)(Part)  # it mostly waits; caches share cores
        folder = str(Path(cache.folder).resolve())
        self.workers = [worker.remote(folder, rank, parts) for rank in range(parts)]

    def first(self, asked: Float[Tensor, "query group dim"], count: int) -> First:
        """Merge the first rows of all parts."""
        found = self._ask("first", asked, count)
        scores, places = (np.concatenate(each, 1) for each in zip(*found, strict=True))
        scores, places = torch.from_numpy(scores), torch.from_numpy(places)
        places, order = places.sort(dim=1)  # ties as in one pass
        scores = scores.gather(1, order)
        order = top(scores, count)
        return First(scores.gather(1, order), places.gather(1, order))

    def moments(self, asked: Float[Tensor, "query group dim"]) -> Moments:
        """Add up the sums of all parts."""
        total, square = (sum(each) for each in zip(*self._ask("moments", asked), strict=True))
        rows = len(self.cache)
        return Moments.of(torch.from_numpy(total) / rows, torch.from_numpy(square) / rows)

    def _ask(self, what: str, asked: Float[Tensor, "query group dim"], *more: object) -> list[Any]:
        """Ask all parts at once; a part that refuses, or is lost for good, is an error."""
        ray = _ray()
        shared = ray.put(asked.contiguous().numpy())
        stamp = stamp_of(self.cache.header)
        waiting = [getattr(worker, what).remote(shared, *more, stamp) for worker in self.workers]
        _, late = ray.wait(waiting, num_returns=len(waiting), timeout=self.wait)
        missing = [part for part, each in enumerate(waiting, 1) if each in late]
        try:
            found = [] if missing else ray.get(waiting)
        except ray.exceptions.RayTaskError:  # a fault of ours there
            raise
        except ray.exceptions.RayError as error:  # lost, or out of memory
            raise self._lacking([]) from error
        if missing:
            raise self._lacking(missing)
        for each in found:
            if isinstance(each, str):
                raise InputError(each)
        return found

    def _lacking(self, missing: list[int]) -> InputError:
        """Say that an answer would lack parts, these where it is known which."""
        which = f"part {', '.join(map(str, missing))}" if missing else "a part"
        return InputError(
            f"{which} of the {len(self.workers)} of the cluster did not answer within {self.wait:.0f} s, and none may be "
            "left out; ask again when its workers are back"
        )


def join(address: str, parts: int) -> Any:
    """Connect to a cluster, once in a process; `local` starts one."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it reports to its makers
    ray = _ray()
    here = {"num_cpus": parts or None, "object_store_memory": STORE, "include_dashboard": False}
    if not ray.is_initialized():
        try:
            options = here if address == "local" else {}
            ray.init(address=address, log_to_driver=False, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"no cluster of Ray answers at {address} ({str(error)[:100]}); start one with ray start --head"
            ) from error
    return ray


def address_of(name: str) -> tuple[str, int]:
    """Read `ray://ADDRESS?parts=N`: what Ray calls the cluster, and the number of parts (0: one for each core)."""
    split = urlsplit(name)
    asked = parse_qs(split.query, keep_blank_values=True)
    parts = asked.pop("parts", ["0"])[-1]
    if not split.netloc or asked or not parts.isdecimal():
        raise InputError(
            f"search is {name!r}; a cluster is named ray://ADDRESS, ray://local or with ?parts=N behind it"
        )
    return split.netloc, int(parts)

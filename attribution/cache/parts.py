"""Make one part of a cache's shards, as a job that knows nothing of the others.

Which rows go into which shard follows from the finished cache and the collection alone, so that jobs of Slurm, Ray or
Kubernetes which share a folder need not speak to one another, in any order, again and again. In: what `build_cache`
takes, and a part i of n. Out: its shards, each whole or not there; `build_cache` takes them up and closes the cache.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from attribution.cache.build import check_settings, make_shards
from attribution.cache.shards import shard_path, whole_rows
from attribution.cache.site import CacheConfig, Site
from attribution.errors import InputError
from attribution.files import writing
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import Collection
from attribution.progress import OnStep

PART = re.compile(r"(\d{1,6})/(\d{1,6})", re.ASCII)
PATIENCE = 60.0  # seconds for the other parts to note the settings


@dataclass(frozen=True)
class PartMade:
    """What a part's job found and did."""

    shards: int
    made: int  # of them, now
    others: int  # shards of other parts that are not there yet


def part_named(text: str) -> tuple[int, int]:
    """Read i/n, i from 1 to n."""
    found = PART.fullmatch(text)
    number, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= of:
        raise InputError(f"part is {text!r}; give i/n, such as 1/8, with i from 1 to n")
    return number, of


def make_part(
    model: DiffusionModel,
    collection: Collection,
    folder: str | Path,
    config: CacheConfig,
    part: tuple[int, int],
    on_step: OnStep | None = None,
) -> PartMade:
    """Make those of a part's shards that are not there; write no header."""
    site, (number, of) = Site.of(model, collection, folder, config), part
    site.folder.mkdir(parents=True, exist_ok=True)
    with writing(site.folder, PATIENCE):
        check_settings(site)
    plan = site.plan(unlisted=False)
    if plan.gone or plan.rebuild:
        raise InputError(
            f"images went from {collection.folder}, or a shard of {folder} is damaged; run the same command without "
            "--part first"
        )
    with writing(site.folder, name=f"part-{number}-of-{of}.lock"):
        missing = [
            (shard, rows)
            for shard, rows in plan.new
            if whole_rows(shard_path(site.folder, shard), site.form)
            != [collection.rows[row] for row in rows]
        ]
        mine = plan.new[number - 1 :: of]
        todo = [each for each in missing if each in mine]
        make_shards(site, todo, on_step)
    return PartMade(len(mine), len(todo), len(missing) - len(todo))

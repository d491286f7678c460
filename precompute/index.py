"""Build an approximate index beside a large cache, to find its best images without a pass over all.

In: a cache. Out: `rows-index.safetensors` in its folder. It needs faiss, the extra `index`. No answer
asks it yet, only `benchmarks/scale.py`.
"""

from dataclasses import dataclass, field

from attribution.cache.index import WORTHWHILE, build_index
from attribution.cache.store import open_cache
from attribution.errors import InputError
from attribution.files import writing


@dataclass(frozen=True)
class IndexConfig:
    """What decides an index."""

    cache_dir: str = "assets/cache"
    cells: int = field(default=0, metadata={"help": "0: the square root of the number of images"})
    force: bool = field(default=False, metadata={"help": "even for a small cache"})


def run(config: IndexConfig) -> None:
    """Build the index where it pays."""
    cache = open_cache(config.cache_dir, {})
    if len(cache) < WORTHWHILE and not config.force:
        raise InputError(
            f"{config.cache_dir} has {len(cache)} images; below {WORTHWHILE} one pass over all is as fast "
            "and exact, so give --force to build an index all the same"
        )
    with writing(cache.folder):
        path = build_index(cache, config.cells or None)
    print(f"{len(cache)} images in {path}, {path.stat().st_size / 1e6:.1f} MB")

"""Build an index beside a large cache, so that answers need no pass over all of it.

In: a cache. Out: `rows-index.safetensors` in its folder (attribution/cache/index.py), which the page answers by from then
on unless ATTRIBUTION_SEARCH=exact, and `Attributor.from_pretrained(..., search="index")`. What needs every picture's
score is then not told: artists' shares, one artist's list, what if. Learned weights, where the cache has some, say for which
groups its codes are fine. It needs faiss, the extra `index`.
"""

from dataclasses import dataclass, field

import torch

from attribution.cache.index import CANDIDATES, ONE_IN, WORTHWHILE, build_index
from attribution.cache.store import open_cache
from attribution.cache.weights import FILE, read_weights
from attribution.errors import InputError
from attribution.files import writing


@dataclass(frozen=True)
class IndexConfig:
    """What decides an index."""

    cache_dir: str = "assets/cache"
    candidates: int | None = field(
        default=None,
        metadata={
            "help": f"training pictures of each question that are scored exactly; if not given, one in {ONE_IN}, "
            f"and at least {CANDIDATES}"
        },
    )
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
        known = read_weights(cache) if (cache.folder / FILE).is_file() else {}
        weights = torch.stack(list(known.values())) if known else None
        path = build_index(cache, config.candidates, weights)
    print(
        f"{len(cache)} images in {path}, {path.stat().st_size / 1e6:.1f} MB; the page answers by it from now on "
        "(ATTRIBUTION_SEARCH=exact: by a pass over all)"
    )

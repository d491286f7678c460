"""Choose who answers by a word: `exact`, `index`, whichever is there (`auto`), or a cluster (`ray://...`).

In: a word and an opened cache. Out: a `Search`, or None where every training image is scored on this machine.
"""

from attribution.cache.cluster import SCHEME, Cluster
from attribution.cache.index import Index, path_of
from attribution.cache.search import Search
from attribution.cache.store import Cache
from attribution.errors import InputError

BY_ITSELF = "auto"  # the index where the cache has one, else a pass over all
KNOWN = ("exact", "index", BY_ITSELF)


def search_named(name: str, cache: Cache) -> Search | None:
    """Open what a word names; an index that belongs to another cache is refused, never passed over."""
    if name.startswith(SCHEME):
        return Cluster(name, cache)
    if name not in KNOWN:
        raise InputError(f"search is {name!r}; known: {', '.join(KNOWN)}, {SCHEME}ADDRESS")
    if name == "exact" or (name == BY_ITSELF and not path_of(cache).is_file()):
        return None
    return Index(cache)

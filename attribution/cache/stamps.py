"""Keep beside a cache what its collection's files looked like, so that to open it again no picture need be read.

In: a collection whose rows are known. Out: `rows-stamps.safetensors`: for each image its file's size and time of change
and the digest of its bytes and caption. Who has reason not to trust times of change deletes the file; it goes by itself
when images do, and what is damaged is not used.
"""

import logging
from pathlib import Path

import torch

from attribution.cache.header import layout_of, path_of_rows
from attribution.described import read_about, read_described, write_described
from attribution.errors import InputError
from attribution.files import Wanted
from attribution.pictures.collection import Collection, Known, key_of, load_collection

LOG = logging.getLogger(__name__)
ADVICE = "remove it"
BELONGS_TO = {"holds": "stamps"}
HALF = 2**63  # digests have 64 bits, and tensors signed numbers


def collection_of(name: str | Path, cache: str | Path, follow_links: bool = False) -> Collection:
    """Load the collection of a cache, read as it was when the cache was made."""
    return load_collection(name, layout_of(cache, follow_links), read_stamps(Path(cache)))


def write_stamps(folder: Path, collection: Collection) -> None:
    """Write down what the files look like, where that is not known yet."""
    if not collection.stamp:
        return
    pairs = zip(collection.rows, collection.captions, strict=True)
    found = {key_of(r.file, text): (collection.stamp(r.file), r.digest) for r, text in pairs}
    path = path_of_rows(folder, "stamps")
    if found != collection.known or not path.is_file():
        rows = [[key, *stamp, int(digest, 16) - HALF] for key, (stamp, digest) in found.items()]
        write_described(path, {"stamps": torch.tensor(rows)}, BELONGS_TO)


def read_stamps(folder: Path) -> Known:
    """Read what is known of the files; nothing where that is damaged or not there."""
    path = path_of_rows(folder, "stamps")
    if not path.is_file():
        return {}
    try:
        about = read_about(path, BELONGS_TO, {}, ADVICE)
        wanted = {"stamps": Wanted(torch.int64, (None, 4))}
        rows = read_described(path, about, wanted, ADVICE)["stamps"].tolist()
    except (InputError, ValueError) as error:
        LOG.warning("%s; all pictures are read again", error)
        return {}
    return {key: ((size, time), f"{digest + HALF:016x}") for key, size, time, digest in rows}

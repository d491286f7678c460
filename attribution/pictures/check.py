"""Look at every picture of a collection before the work: what cannot be read, what is tiny, what is there twice,
of what much is cut off.

In: a collection. Out: `Findings`. Near copies have a difference hash (Krawetz 2013: is each of 8 x 8 cells brighter than
its neighbour on the right) that differs in at most NEAR of its 64 bits. It changes nothing and knows no model.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count

import numpy as np
from PIL import Image

from attribution.errors import InputError
from attribution.pictures.collection import Collection
from attribution.pictures.size import Size, cut_off
from attribution.progress import OnStep

TINY = 32  # pixels of the shorter side
MUCH = 0.25  # of a picture's area
NEAR = 3  # bits
CHUNK = 1024  # pictures that wait for a thread
MOST_ALIKE = 1000  # hashes with a quarter in common, of which all pairs are compared


@dataclass(frozen=True)
class Seen:
    """What is kept of one picture."""

    wrong: str  # why it cannot be read; then the rest is empty
    side: int
    digest: str  # of its pixels
    look: int  # its difference hash
    lost: float = 0.0  # share of it that the model does not see


@dataclass(frozen=True)
class Findings:
    """What the owner should know, by file."""

    broken: dict[str, str]  # and why
    tiny: list[str]
    same: list[list[str]]  # groups with the same pixels
    near: list[list[str]]  # groups that look the same, one picture of each group of the same
    cut: list[str]  # their captions are longer than the model reads
    unlabelled: dict[str, list[str]]  # column -> files without it, though others have it
    cropped: list[str]  # much of which the model does not see

    def told(self, shown: int = 5) -> Iterator[str]:
        """Give a line for each finding, and every picture that cannot be read."""
        for file, why in self.broken.items():
            yield f"cannot be read: {file}: {why}"
        lists = {
            f"less than {TINY} pixels a side": self.tiny,
            "captions that the model cuts": self.cut,
            f"more than {MUCH:.0%} cut off (--resolution takes several sizes)": self.cropped,
        }
        lists |= {f"without {column}": files for column, files in self.unlabelled.items()}
        for what, files in lists.items():
            if files:
                yield f"{what}: {len(files)} ({_some(files, shown)})"
        for what, groups in (("copies", self.same), ("near copies", self.near)):
            for group in groups[: 10 * shown]:
                yield f"{what}: {_some(group, shown)}"
            if groups[10 * shown :]:
                yield f"{what}: {len(groups)} groups in all"


def _some(files: list[str], shown: int) -> str:
    return ", ".join(files[:shown]) + (", ..." if files[shown:] else "")


def check_collection(
    collection: Collection,
    is_cut: Callable[[str], bool] = lambda _: False,
    on_step: OnStep | None = None,
    size_for: Callable[[Image.Image], Size] = lambda image: image.size,
) -> Findings:
    """Open every picture, several at a time; the model sees each at the size that is told for it."""
    files, seen = collection.files, []
    with ThreadPoolExecutor(cpu_count()) as threads:
        for first in range(0, len(files), CHUNK):
            some = range(first, min(first + CHUNK, len(files)))
            for found in threads.map(lambda row: _look(collection, row, size_for), some):
                seen.append(found)
                if on_step:
                    on_step(len(seen), len(files))
    readable = [row for row, each in enumerate(seen) if not each.wrong]
    first_of: dict[str, list[str]] = defaultdict(list)
    for row in readable:
        first_of[seen[row].digest].append(files[row])
    firsts = {group[0] for group in first_of.values()}
    looks = {files[row]: seen[row].look for row in readable if files[row] in firsts}
    return Findings(
        {files[row]: each.wrong for row, each in enumerate(seen) if each.wrong},
        [files[row] for row in readable if seen[row].side < TINY],
        [group for group in first_of.values() if len(group) > 1],
        near_copies(looks),
        [f for f, caption in zip(files, collection.captions, strict=True) if is_cut(caption)],
        _unlabelled(collection),
        [files[row] for row in readable if seen[row].lost > MUCH],
    )


def _look(collection: Collection, row: int, size_for: Callable[[Image.Image], Size]) -> Seen:
    try:
        image = collection.image(row)
    except (InputError, MemoryError) as error:
        return Seen(
            str(error).removeprefix(f"{collection.folder / collection.files[row]}: "), 0, "", 0
        )
    digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()[:16]
    lost = cut_off(image.size, size_for(image))
    return Seen("", min(image.size), digest, difference_hash(image), lost)


def difference_hash(image: Image.Image) -> int:
    """Tell of 8 x 8 cells whether each is brighter than its neighbour, in 64 bits."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), dtype=np.int16)
    return int.from_bytes(np.packbits(grey[:, :-1] > grey[:, 1:]).tobytes())


def near_copies(looks: dict[str, int]) -> list[list[str]]:
    """Group files whose hashes differ in at most NEAR bits: then one of NEAR + 1 parts is the same."""
    files = list(looks)
    hashes = np.array([looks[file] for file in files], dtype=np.uint64)
    leader = np.arange(len(files))

    def top(row: int) -> int:
        while leader[row] != row:
            leader[row] = leader[leader[row]]
            row = int(leader[row])
        return row

    for part in range(NEAR + 1):
        keys = (hashes >> np.uint64(16 * part)) & np.uint64(0xFFFF)
        order = np.lexsort((hashes, keys))
        for bucket in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
            # Flat pictures share a hash; of so many only equal neighbours are joined.
            width = len(bucket) if len(bucket) <= MOST_ALIKE else 2
            for step in range(1, width):
                bits = np.bitwise_count(hashes[bucket[:-step]] ^ hashes[bucket[step:]])
                for at in np.flatnonzero(bits <= NEAR):
                    leader[top(int(bucket[at]))] = top(int(bucket[at + step]))
    groups = defaultdict(list)
    for row, file in enumerate(files):
        groups[top(row)].append(file)
    return [group for group in groups.values() if len(group) > 1]


def _unlabelled(collection: Collection) -> dict[str, list[str]]:
    """Give, for the artist and every concept, the files without it, where some have it."""
    found = {}
    for column in ("artist", *collection.concepts):
        pairs = zip(collection.files, collection.labels, strict=True)
        lacking = [file for file, labels in pairs if not labels.get(column)]
        if 0 < len(lacking) < len(collection):
            found[column] = lacking
    return found

"""Compare a cache folder with a collection: what is there, what goes, and what is to be made.

In: a folder, perhaps with a finished cache or what a stopped run left, and a collection. Out: a `Plan`. It writes
nothing and knows no model.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from attribution.cache.header import SHARD_NAME, listed_shards, read_header
from attribution.cache.shards import Form, Shard, is_sound, number_of, rows_of_shard, whole_rows
from attribution.cache.store import kernel_is_sound
from attribution.pictures.collection import Collection, Row

REMOVED_UNASKED = 0.1  # of the images; more look like another collection's folder


@dataclass(frozen=True)
class Plan:
    """What is there and what is to be done."""

    kept: list[Shard]  # of the finished cache
    gone: dict[str, set[Row]]  # shard name -> rows to remove from it
    finished: list[str]  # shards that a stopped run left, whole
    new: list[tuple[int, list[int]]]  # shard number -> rows of the collection
    rebuild: bool  # a shard or the kernel was damaged, so that the Gram sum must be taken again
    stored: set[Row]  # whose features are there, also those of a stopped run
    lost: set[Row]  # of these, what the collection no longer has

    @property
    def removes_much(self) -> bool:
        """Tell whether more would go than goes unasked."""
        return len(self.lost) > REMOVED_UNASKED * len(self.stored)

    @property
    def images(self) -> int:
        """Count the images to be made."""
        return sum(len(rows) for _, rows in self.new)


def make_plan(
    folder: Path, collection: Collection, shard_size: int, form: Form, unlisted: bool = True
) -> Plan:
    """Compare the folder with the collection; write nothing. `unlisted` counts what no header lists."""
    header = read_header(folder)
    listed = listed_shards(header) if header else []
    kept = [shard for shard in listed if is_sound(folder, shard, form)]
    rows = {shard.name: rows_of_shard(folder / shard.name) for shard in kept}
    times = Counter(row for some in rows.values() for row in some)
    # Nobody knows which of two shards that name the same image is right.
    kept = [shard for shard in kept if all(times[row] == 1 for row in rows[shard.name])]
    rebuild = len(kept) < len(listed) or (
        header is not None and not kernel_is_sound(folder, header)
    )
    wanted = set(collection.rows)
    present: set[Row] = set()
    stored: set[Row] = set()
    gone: dict[str, set[Row]] = {}
    for shard in kept:
        some = set(rows[shard.name])
        if some - wanted:
            gone[shard.name] = some - wanted
        present |= some & wanted
        stored |= some
    finished, names = [], {shard.name for shard in listed}
    next_number = header["next_number"] if header else 0
    for path in sorted(folder.glob("features-*.safetensors")) if unlisted else ():
        if path.name in names or not SHARD_NAME.fullmatch(path.name):
            continue
        some = set(whole_rows(path, form))
        if some and some <= wanted - present:
            finished.append(path.name)
            present |= some
        if number_of(path.name) >= next_number:  # else a run that was stopped had replaced it
            stored |= some
    missing = [i for i, row in enumerate(collection.rows) if row not in present]
    used = {number_of(name) for name in [*names, *finished]}
    free = (n for n in count(next_number) if n not in used)
    starts = range(0, len(missing), shard_size)
    new = [(number, missing[i : i + shard_size]) for i, number in zip(starts, free, strict=False)]
    return Plan(kept, gone, finished, new, rebuild, stored, stored - wanted)

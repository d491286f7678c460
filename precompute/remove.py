"""Remove an artist, or one picture, at once and for good.

In: a name, a collection and a cache. Out: the name stands in the collection's `opt_out.json`, so that an open page and
its reports show nothing more; then the images leave the cache, the kernel's sums, the index and the likeness. The
pictures themselves and `metadata` stay as they are: the cache remembers to leave them out. The same command goes on
where it was stopped. The model still holds what it learned: what it draws is not changed.
"""

import json
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from attribution.cache.build import remove_images
from attribution.cache.store import layout_of
from attribution.errors import InputError
from attribution.files import read_json, write_whole
from attribution.pictures.collection import load_collection
from attribution.pictures.optout import FILE, OptOut, plain, read_opt_out


@dataclass(frozen=True)
class RemoveConfig:
    """Who or what goes, and from where."""

    artist: str = field(
        default="", metadata={"help": "whose images are removed, in any case of letters"}
    )
    file: str = field(
        default="", metadata={"help": "the image that is removed, as the metadata names it"}
    )
    train_data_dir: str = ""
    cache_dir: str = ""
    opt_out: str = field(
        default="",
        metadata={"help": f"the list of requests, if it is not {FILE} beside the images"},
    )
    follow_links: bool = False

    def __post_init__(self) -> None:
        if bool(self.artist.strip()) == bool(self.file.strip()):
            raise InputError("say with --artist or with --file what is to be removed")
        if not self.train_data_dir or not self.cache_dir:
            raise InputError("say with --train_data_dir and --cache_dir where it is removed from")


def run(config: RemoveConfig) -> None:
    """Write the request down, then remove what it names."""
    folder = Path(config.cache_dir)
    layout = replace(layout_of(folder, config.follow_links), left_out=())
    collection = load_collection(config.train_data_dir, layout)
    wanted = OptOut(
        frozenset([config.file] if config.file else []),
        frozenset([plain(config.artist)] if config.artist else []),
    )
    if wanted.unmatched(collection):
        known = sorted({row.get("artist", "") for row in collection.labels} - {""})
        raise InputError(
            f"{config.train_data_dir} has no {config.artist or config.file!r}; "
            + (f"its artists are {', '.join(known)[:200]}" if config.artist else "check the name")
        )
    path = Path(config.opt_out) if config.opt_out else collection.folder / FILE
    add_request(path, config.artist, config.file)
    rows = wanted.hidden(collection).nonzero()[:, 0].tolist()
    files = {collection.files[row] for row in rows}
    before = layout_of(folder).left_out
    removed = remove_images(
        folder, files, replace(layout, left_out=tuple(sorted({*before, *files})))
    )
    print(f"{removed} images removed from {folder}; {path} names the request")
    print(
        f"run again, for {folder}, whichever you had, in this order: weights, calibrate (it judges lists by the weights), "
        "likeness, index, and demo, which is a copy; then restart a page that has it open",
        file=sys.stderr,
    )


def add_request(path: Path, artist: str, file: str) -> None:
    """Add a name to the list of requests."""
    found = read_json(path, "mend it first") if path.is_file() else {}
    if path.is_file():
        read_opt_out(path)  # refuses what cannot be understood as a whole
    for key, name in (("artists", artist), ("files", file)):
        if name and name not in found.get(key, []):
            found[key] = [*found.get(key, []), name]
            found["dates"] = found.get("dates", {}) | {name: datetime.now(UTC).date().isoformat()}
    write_whole(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")

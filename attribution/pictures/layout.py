"""Say how a collection is laid out, and keep of every row of its tables what is known of a picture.

In: a row, whatever kind of source it stands in. Out: an `Entry`: the picture's name, one caption, and labels that are
texts. It opens no file.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

from attribution.errors import InputError
from attribution.pictures.listing import Stamp

LOG = logging.getLogger(__name__)
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
OTHERS = (".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif", ".jfif", ".jp2", ".jxl")  # pictures, but none that are read  # fmt: skip
NONE = "none"  # as a caption column
MOST_CAPTION = 1000  # characters; a model reads no more
PLAIN = (str, int, float, bool)
# What people call the columns that the page, the reports and the opt-out list know; the first is our own name.
KNOWN = {
    "artist": ("artist", "author", "creator"),
    "license": ("license", "licence", "rights"),
    "source": ("source", "source_url", "url"),
}


@dataclass(frozen=True)
class Layout:
    """Which part of a collection is meant, and which columns say what."""

    caption_column: str = field(
        default="text", metadata={"help": f"{NONE}: the model reads no prompts"}
    )
    image_column: str = field(
        default="image", metadata={"help": "of tables that hold the pictures themselves"}
    )
    artist_column: str = field(
        default="", metadata={"help": "if it is not artist, author or creator"}
    )
    license_column: str = field(default="", metadata={"help": "if it is not license or rights"})
    source_column: str = field(default="", metadata={"help": "if it is not source or url"})
    split: str = field(default="", metadata={"help": "such as train, where there are several"})
    dataset_config_name: str = field(
        default="", metadata={"help": "the folder of a data set's part, where there are several"}
    )
    follow_links: bool = field(
        default=False, metadata={"help": "read pictures that are links to files outside the folder"}
    )
    left_out: tuple[str, ...] = field(default=(), metadata={"hidden": True})  # files


def layout_in(config: Layout) -> Layout:
    """Give the part of a step's settings that says how the collection is laid out."""
    return Layout(**{each.name: getattr(config, each.name) for each in fields(Layout)})


@dataclass(frozen=True)
class Entry:
    """What is known of one picture."""

    file: str  # its name in the collection
    caption: str
    labels: dict[str, str]  # every other column that says something


@dataclass(frozen=True)
class Source:
    """The pictures of a collection, and how one is read."""

    entries: list[Entry]
    read: Callable[[str], bytes]  # of an entry's file
    stamp: Callable[[str], Stamp]  # of what holds it


@dataclass(frozen=True)
class Raw:
    """One row of a table as it stands there."""

    file: str
    columns: dict[str, Any]
    where: str  # for messages


def entries_of(rows: Iterable[Raw], layout: Layout, place: str) -> list[Entry]:
    """Choose caption and labels of every row, in the order of the pictures' names.

    Of several captions the first counts; a row without one has the empty caption, which is counted. Raises InputError
    for a picture that is named twice, for a caption or a label that is no text, and where no row has the caption's column
    though another might be it.
    """
    found: dict[str, Entry] = {}
    columns: set[str] = set()
    wordy: set[str] = set()  # columns that might hold captions, of rows without the caption's
    several = cut = silent = 0
    for row in rows:
        columns.update(row.columns)
        if row.file in found:
            raise InputError(f"{row.where} names {row.file!r} again; remove it")
        if layout.caption_column not in row.columns:
            wordy.update(name for name, value in row.columns.items() if _is_words(value))
        captions = row.columns.get(layout.caption_column)
        captions = str(captions) if type(captions) is int else captions  # a class by its number
        captions = captions if isinstance(captions, list) else [captions]
        captions = [each for each in captions if each is not None] or [""]
        if not all(isinstance(each, str) for each in captions):
            raise InputError(f"{row.where} has no text in {layout.caption_column!r}")
        several, cut = several + (len(captions) > 1), cut + (len(captions[0]) > MOST_CAPTION)
        silent += not captions[0]
        found[row.file] = Entry(row.file, captions[0][:MOST_CAPTION], _labels(row, layout))
    for option in ("artist_column", "license_column", "source_column"):
        if (column := getattr(layout, option)) and column not in columns:
            raise InputError(f"{place} has no column {column[:80]!r}, which --{option} is")
    if not found:
        raise InputError(f"{place} is empty; a collection needs at least one image")
    if layout.caption_column not in columns | {NONE}:
        _refuse_others(wordy, layout, place)
    if silent == len(found):
        LOG.warning("%s has no captions; each picture's prompt is the empty one", place)
        silent = 0
    for count, what in (
        (several, "pictures have several captions; the first of each counts"),
        (cut, f"captions have more than {MOST_CAPTION} characters; the rest of each is left out"),
        (silent, "pictures have no caption; the prompt of each is the empty one"),
    ):
        if count:
            LOG.warning("%d %s (%s)", count, what, place)
    return [found[file] for file in sorted(found)]


def _refuse_others(wordy: set[str], layout: Layout, place: str) -> None:
    """Refuse columns that might hold the captions, where the one that should is not there."""
    known = {"file_name", *(name for names in KNOWN.values() for name in names)}
    others = sorted(name for name in wordy if name.lower() not in known)
    if others:
        shown = ", ".join(others)[:200]
        raise InputError(
            f"{place} has no column {layout.caption_column[:80]!r} for captions, but {shown}; choose with "
            f"--caption_column, which may be {NONE} for a model that reads no prompts"
        )


def _is_words(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and any(map(_is_words, value)))


def _labels(row: Raw, layout: Layout) -> dict[str, str]:
    """Give all columns but the caption that say something, under the names that the page knows."""
    labels, names = {}, _names(tuple(row.columns), layout)
    for column, value in row.columns.items():
        if value is None or column not in names:
            continue
        if isinstance(value, list) and all(isinstance(each, PLAIN) for each in value):
            value = ", ".join(map(str, value))
        if not isinstance(value, PLAIN):
            raise InputError(
                f"{row.where} has a {type(value).__name__} in {column[:80]!r}; a label is a text or a number"
            )
        labels[names[column]] = str(value)
    return labels


@lru_cache(maxsize=64)  # most rows have the same columns
def _names(columns: tuple[str, ...], layout: Layout) -> dict[str, str]:
    """Name the labels, each by its column."""
    names = {c: c for c in columns if c not in ("file_name", layout.caption_column)}
    given = {"artist": layout.artist_column, "license": layout.license_column, "source": layout.source_column}  # fmt: skip
    for name, column in given.items():
        known = [c for each in KNOWN[name] for c in columns if c.lower() == each and c in names]
        chosen = [column] if column in names else [] if column else known
        if chosen and chosen[0] != name:
            names.pop(name, None)
            names[chosen[0]] = name
    return names

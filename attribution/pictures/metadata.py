"""Read the text files of a collection, and check all that they say: what is checked here is what is used.

In: a folder with `metadata.jsonl` (`file_name`, a caption column and any labels) and perhaps `concepts.json` and
`held_out.json`. Out: one entry for each picture, in the order of file names, and the concepts. Only what the
metadata at the root names is part of a collection. It opens no picture.
"""

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from attribution.files import parse_json

LOG = logging.getLogger(__name__)
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
PLAIN = (str, int, float, bool)
# Names in weights.safetensors beside the concepts', safetensors' own, and arguments of `Answer.rank`.
RESERVED = ("general", "equalised", "scales", "__metadata__", "self", "count", "among", "column")
MOST_COMBINATIONS = 1_000_000  # of values; all of them are listed
EXAMPLE = '{"style": {"woodcut": "a woodcut", "neon": "a neon sign"}}'
Concepts = dict[str, dict[str, str]]  # concept -> value -> the phrase that names it alone


@dataclass(frozen=True)
class Entry:
    """What the metadata says of one picture."""

    file: str  # relative to the folder, and inside it
    caption: str
    labels: dict[str, str]  # every other column that says something


def read_metadata(folder: Path, caption_column: str) -> list[Entry]:
    """Read one entry for each picture, refusing what is no text, is named twice or lies outside."""
    path = folder / "metadata.jsonl"
    if not path.is_file():
        raise InputError(f"{folder} has no metadata.jsonl; make one with a line for each image")
    root = folder.resolve()
    found: dict[str, Entry] = {}
    for number, line in enumerate(_bytes(path).split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"line {number} of {path}"
        entry = _entry(_parsed(line, where), root, caption_column, where)
        if entry.file in found:
            raise InputError(f"{where} names {entry.file!r} again; remove it")
        found[entry.file] = entry
    if not found:
        raise InputError(f"{path} is empty; a collection needs at least one image")
    unnamed = sum(file not in found for file in _pictures(root))
    if unnamed:
        LOG.warning("%d pictures in %s are not named in its metadata.jsonl and are left out", unnamed, folder)  # fmt: skip
    return [found[file] for file in sorted(found)]


def _entry(row: Any, root: Path, caption_column: str, where: str) -> Entry:
    """Check one line."""
    for column in ("file_name", caption_column):
        if not isinstance(row, dict) or not isinstance(row.get(column), str):
            raise InputError(f"{where} has no text in {column!r}")
    labels = {
        column: value
        for column, value in row.items()
        if column not in ("file_name", caption_column) and value is not None
    }
    for column, value in labels.items():
        if not isinstance(value, PLAIN):
            raise InputError(
                f"{where} has a {type(value).__name__} in {column[:80]!r}; a label is a text or a number"
            )
    file = _inside(root, row["file_name"], where)
    return Entry(file, row[caption_column], {name: str(value) for name, value in labels.items()})


def _inside(root: Path, name: str, where: str) -> str:
    """Follow a name to the file that would be opened, and give its path in the folder."""
    shown = repr(name if len(name) <= 80 else name[:80] + "…")
    try:
        path = (root / name).resolve()
        there = path.is_file()
    except (OSError, ValueError, RuntimeError):  # overlong, with a NUL, or links in a circle
        path, there = root, False
    if root not in path.parents and path != root:
        raise InputError(
            f"{where} names {shown}, which lies outside its folder; copy the picture into it"
        )
    if not there:
        raise InputError(
            f"{where} names {shown}, which is not there; restore it or remove the line"
        )
    return path.relative_to(root).as_posix()


def _pictures(root: Path) -> list[str]:
    """Give all pictures in a folder."""
    return [
        Path(place, name).relative_to(root).as_posix()
        for place, _, names in os.walk(root)
        for name in names
        if name.lower().endswith(SUFFIXES)
    ]


def read_concepts(folder: Path) -> Concepts:
    """Read the phrase of every value of every concept; none where there is no concepts.json."""
    path = folder / "concepts.json"
    if not path.is_file():
        return {}
    found = _parsed(_bytes(path), str(path))
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no concepts; write it like {EXAMPLE}")
    for concept, values in found.items():
        if not concept.strip() or concept in RESERVED:
            raise InputError(f"{path} has a concept named {concept!r}; give it another name")
        texts = [*values, *values.values()] if isinstance(values, dict) else [None]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise InputError(
                f"{path} does not give each value of {concept[:80]!r} a phrase; write it like {EXAMPLE}"
            )
        if len(values) < 2:
            raise InputError(
                f"{path} gives {concept[:80]!r} fewer than two values, so that nothing differs in it; "
                "add another or leave the concept out"
            )
    every = math.prod(len(values) for values in found.values())
    if every > MOST_COMBINATIONS:
        raise InputError(
            f"{path} makes {every} combinations of values; leave some out, at most {MOST_COMBINATIONS} are listed"
        )
    return found


def read_held_out(folder: Path, concepts: Concepts) -> list[dict[str, str]]:
    """Read the combinations of values that no picture shows; without concepts there are none."""
    path = folder / "held_out.json"
    if not path.is_file() or not concepts:
        return []
    found = _parsed(_bytes(path), str(path))
    known = {concept: list(values) for concept, values in concepts.items()}
    if not isinstance(found, list) or not all(
        isinstance(each, dict)
        and each.keys() == known.keys()
        and all(value in known[concept] for concept, value in each.items())
        for each in found
    ):
        raise InputError(
            f"{path} must list combinations, each with one value of concepts.json for every concept; "
            "mend it or remove it"
        )
    return found


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); check its permissions"
        ) from error


def _parsed(data: bytes, where: str) -> Any:
    try:
        return parse_json(data)
    except ValueError as error:
        raise InputError(f"{where} is not plain JSON: {error}") from error

"""Read the table that lies beside a collection's pictures: metadata.jsonl, metadata.csv or metadata.parquet.

In: a table with `file_name`, a caption column and any labels, and the list of the files in its folder. Out: its rows,
each with the file that it names. Only what the table names is part of a collection. It opens no picture.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from attribution.files import parse_json, read_bytes
from attribution.pictures.layout import Raw
from attribution.pictures.listing import Listing

TABLES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")  # the first that is there is read


def read_metadata(listing: Listing, name: str) -> Iterator[Raw]:
    """Read one row for each picture, refusing what lies outside or is not there."""
    path, (base, _, _) = listing.root / name, name.rpartition("/")
    rows = READERS[path.suffix](path)
    for where, columns in rows:
        if not isinstance(columns, dict) or not isinstance(columns.get("file_name"), str):
            has = f", but {', '.join(map(str, columns))}"[:200] if isinstance(columns, dict) else ""
            raise InputError(f"{where} has no text in 'file_name'{has}")
        yield Raw(listing.find(columns["file_name"], where, base), columns, where)


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(read_bytes(path).split(b"\n"), 1):
        where = f"line {number} of {path}"
        if line.strip():
            try:
                yield where, parse_json(line)
            except ValueError as error:
                raise InputError(f"{where} is not plain JSON: {error}") from error


def _csv(path: Path) -> Iterator[tuple[str, Any]]:
    """Read comma-separated values with a line of names; an empty cell says nothing."""
    data = read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise InputError(f"line {number} of {path} is not UTF-8; save it as UTF-8") from error
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = next(rows, [])
        if len(set(names)) < len(names):
            raise InputError(f"line 1 of {path} names a column twice; keep one")
        for cells in rows:
            where = f"line {rows.line_num} of {path}"
            if len(cells) > len(names):
                raise InputError(
                    f"{where} has {len(cells)} cells for {len(names)} columns; put quotes around commas"
                )
            if cells:
                columns = zip(names, cells, strict=False)
                yield where, {name: cell for name, cell in columns if cell}
    except csv.Error as error:
        raise InputError(f"line {rows.line_num} of {path} is not sound CSV: {error}") from error


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    from attribution.pictures.embedded import open_tables, texts_of  # datasets takes seconds

    rows = texts_of(open_tables([path]), path)
    for number, columns in enumerate(rows, 1):
        yield f"row {number} of {path}", columns


READERS = {".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet}

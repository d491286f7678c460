"""Read pictures that tables hold: Parquet files as the Hub keeps them, and Arrow files of `save_to_disk`.

In: files of one kind, which may be hostile. Out: a `Source` that reads one picture at a time from the disk. Parquet is
rewritten by `datasets` into its own cache, once. Nothing is decoded, fetched or followed on the tables' word: a table
that only names paths or addresses is refused.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from attribution.errors import InputError
from attribution.pictures.layout import Layout, Raw, Source, entries_of
from attribution.pictures.listing import stamp_of

try:
    from datasets import ClassLabel, Dataset, concatenate_datasets, disable_progress_bars
    from pyarrow import types
    from pyarrow.parquet import read_metadata as read_footer
except ImportError as error:
    raise InputError(
        "Parquet and Arrow tables are read by datasets; run pip install datasets"
    ) from error

MOST_ROWS = 10_000_000
MOST_GROWTH = 200  # times a Parquet file's size


def open_tables(paths: list[Path]) -> Dataset:
    """Open tables of the same columns as one."""
    shown = f"{paths[0]}{' and others' if paths[1:] else ''}"
    try:
        if paths[0].suffix == ".parquet":
            _check_footers(paths)
            disable_progress_bars()
            return Dataset.from_parquet([str(path) for path in paths])
        parts = [Dataset.from_file(str(path)) for path in paths]
        for part in parts:
            part.data.validate(full=True)  # a forged offset would read beyond the file
        return concatenate_datasets(parts)
    except InputError:
        raise
    except Exception as error:  # a forged schema makes libraries raise anything
        reason = str(error).split("\n")[0][:200]
        raise InputError(f"{shown} cannot be read as tables ({reason}); save them again") from error


def _check_footers(paths: list[Path]) -> None:
    """Refuse files that say that they unfold into more than a disk should be filled with."""
    for path in paths:
        footer = read_footer(path)
        size = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
        if footer.num_rows > MOST_ROWS or size > MOST_GROWTH * max(os.path.getsize(path), 2**20):
            raise InputError(
                f"{path} unfolds into {size / 1e9:.1f} GB in {footer.num_rows} rows; split it"
            )


def texts_of(
    table: Dataset, place: Path, leave_out: tuple[str, ...] = ()
) -> Iterator[dict[str, Any]]:
    """Give the rows of a table (at `place`) without columns of bytes or structures; classes by their names."""
    columns = {}
    for name in table.column_names:
        kind = table.data.schema.field(name).type
        if name in leave_out or types.is_struct(kind) or _is_bytes(kind) or types.is_map(kind):
            continue
        values, feature = _listed(table.data.column(name), name, place), table.features[name]
        if isinstance(feature, ClassLabel) and feature.names:
            names = feature.names
            values = [names[v] if v is not None and 0 <= v < len(names) else v for v in values]
        columns[name] = values
    for number in range(len(table)):
        yield {name: _plain(values[number]) for name, values in columns.items()}


def _listed(column: Any, name: str, place: Path) -> list[Any]:
    """Give a column's values; a table's own word that they are UTF-8 is not taken."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError as error:
        raise InputError(
            f"column {name[:80]!r} in {place} is not UTF-8; save it again as UTF-8"
        ) from error


def _plain(value: Any) -> Any:
    """Write dates and the like as texts."""
    plain = value is None or isinstance(value, str | int | float | bool | list)
    return value if plain else str(value)


def _is_bytes(kind: Any) -> bool:
    return types.is_binary(kind) or types.is_large_binary(kind)


def read_embedded(folder: Path, names: list[str], layout: Layout) -> Source:
    """Open tables of pictures; a picture is called what its table calls it, else by its place."""
    paths = [folder / name for name in names]
    table = open_tables(paths)
    column = _picture_column(table, layout, folder)
    called = _names(table, column, folder, PurePosixPath(names[0]).stem)
    rows = (
        Raw(file, columns, f"row {number} of {folder}")
        for number, (file, columns) in enumerate(
            zip(called, texts_of(table, folder, (column,)), strict=True), 1
        )
    )
    places = {file: number for number, file in enumerate(called)}

    def read(file: str) -> bytes:
        value = table.data.column(column)[places[file]].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise InputError(
                f"{folder} holds no bytes of {file}; embed the pictures and save it again"
            )
        return data

    stamps = [stamp_of(path) for path in paths]
    stamp = sum(size for size, _ in stamps), max(changed for _, changed in stamps)
    return Source(entries_of(rows, layout, str(folder)), read, lambda _: stamp)


def _picture_column(table: Dataset, layout: Layout, folder: Path) -> str:
    """Choose the column that holds pictures: the one that is named, or the only one."""
    able = []
    for field in table.data.schema:
        inner = (
            {
                field.type.field(i).name: field.type.field(i).type
                for i in range(field.type.num_fields)
            }
            if types.is_struct(field.type)
            else {"bytes": field.type}
        )
        if "bytes" in inner and _is_bytes(inner["bytes"]):
            able.append(field.name)
    if layout.image_column in able:
        return layout.image_column
    if len(able) == 1:
        return able[0]
    shown = ", ".join(able or table.column_names)[:200]
    what = (
        f"several columns of pictures: {shown}" if able else f"no column of pictures, but {shown}"
    )
    raise InputError(f"{folder} has {what}; choose with --image_column")


def _names(table: Dataset, column: str, place: Path, stem: str) -> list[str]:
    """Name the pictures by the paths that the table keeps, where all differ, else by their numbers."""
    stored = table.data.column(column)
    if types.is_struct(stored.type) and "path" in [f.name for f in stored.type]:
        paths = [
            PurePosixPath(str(path or "").replace("\\", "/")).name
            for chunk in stored.chunks
            for path in _listed(chunk.field("path"), column, place)
        ]
        if all(paths) and len(set(paths)) == len(paths):
            return paths
    return [f"{stem}/{number:06d}" for number in range(len(table))]

"""Compare file layouts for shards of features: opening, random rows, streaming, bytes on disk.

Run it as `python benchmarks/formats.py [--json] [--folder FOLDER] [--megabytes 512]`. The same fp16 rows
`[row, group, dim]` are written in shards in each layout to a temporary folder, which is removed
afterwards. Printed for each layout: seconds to open every shard (metadata only), random rows a second,
and the rate of touching every byte, as a share of a bare pass over raw files of the same bytes. Both
passes go through memory that the page cache holds, in turn in one run. Layouts whose package is missing
are skipped; the project itself needs none of pyarrow, pylance and zarr.
"""

import argparse
import importlib.util
import json
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

GROUPS, DIM = 64, 16
ROW_BYTES = GROUPS * DIM * 2
SHARD_ROWS = 2**24 // ROW_BYTES  # 16 MiB a shard
PICKED = 1000  # random rows a repeat
REPEATS = 5


@dataclass(frozen=True)
class Layout:
    """A way to write, open, walk and pick from one shard."""

    name: str
    package: str
    write: Callable[[Path, np.ndarray], None]
    open: Callable[[Path], Any]
    chunks: Callable[[Any], Iterator[np.ndarray]]
    row: Callable[[Any, int], np.ndarray]


def whole(array: np.ndarray) -> Iterator[np.ndarray]:
    """Give an array in one piece."""
    yield array


def first(array: np.ndarray, row: int) -> np.ndarray:
    """Copy one row."""
    return np.array(array[row])


def raw() -> Layout:
    """Store bytes without a header: the floor."""
    return Layout(
        "raw",
        "numpy",
        lambda path, rows: rows.tofile(path),
        lambda path: np.memmap(path, np.float16, "r").reshape(-1, GROUPS, DIM),
        whole,
        first,
    )


def npy() -> Layout:
    """Store NumPy's own file, read by memory map."""
    return Layout(
        "npy", "numpy", npy_write, lambda path: np.load(path, mmap_mode="r"), whole, first
    )


def npy_write(path: Path, rows: np.ndarray) -> None:
    """Write through an open file, as np.save adds a suffix to names."""
    with path.open("wb") as file:
        np.save(file, rows)


def safetensors() -> Layout:
    """Store one tensor in a safetensors file, read by memory map."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    return Layout(
        "safetensors",
        "safetensors",
        lambda path, rows: save_file({"features": torch.from_numpy(rows)}, path),
        lambda path: safe_open(path, "pt"),
        lambda shard: whole(shard.get_tensor("features").numpy()),
        lambda shard, row: shard.get_slice("features")[row : row + 1].numpy()[0].copy(),
    )


def arrow_table(rows: np.ndarray) -> Any:
    """Put rows into one column of fixed-size lists."""
    import pyarrow

    column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.ravel()), GROUPS * DIM)
    return pyarrow.table({"features": column})


def arrow() -> Layout:
    """Store fixed-size lists in an Arrow IPC file, read by memory map."""
    import pyarrow

    def write(path: Path, rows: np.ndarray) -> None:
        table = arrow_table(rows)
        with (
            pyarrow.OSFile(str(path), "wb") as file,
            pyarrow.ipc.new_file(file, table.schema) as out,
        ):
            out.write_table(table)

    def read(path: Path) -> Any:
        return pyarrow.ipc.open_file(pyarrow.memory_map(str(path)))

    def chunks(shard: Any) -> Iterator[np.ndarray]:
        for index in range(shard.num_record_batches):
            yield shard.get_batch(index)["features"].flatten().to_numpy()

    def pick(shard: Any, row: int) -> np.ndarray:
        return shard.get_batch(0)["features"].slice(row, 1).flatten().to_numpy().copy()

    return Layout("arrow ipc", "pyarrow", write, read, chunks, pick)


def lance() -> Layout:
    """Store fixed-size lists in a Lance data set, which has no memory map."""
    import lance

    def chunks(shard: Any) -> Iterator[np.ndarray]:
        for batch in shard.to_batches():
            yield batch["features"].flatten().to_numpy()

    return Layout(
        "lance",
        "lance",
        lambda path, rows: lance.write_dataset(arrow_table(rows), str(path)) and None,
        lambda path: lance.dataset(str(path)),
        chunks,
        lambda shard, row: shard.take([row])["features"].chunk(0).flatten().to_numpy(),
    )


def zarr() -> Layout:
    """Store one uncompressed chunk in a zarr 3 array, which has no memory map."""
    import zarr

    def write(path: Path, rows: np.ndarray) -> None:
        array = zarr.create_array(
            path, shape=rows.shape, chunks=rows.shape, dtype=rows.dtype, compressors=None
        )
        array[:] = rows

    return Layout(
        "zarr 3",
        "zarr",
        write,
        lambda path: zarr.open_array(path, mode="r"),
        lambda shard: whole(shard[:]),
        lambda shard, row: shard[row],
    )


LAYOUTS = {
    "numpy": [raw, npy],
    "safetensors": [safetensors],
    "pyarrow": [arrow],
    "lance": [lance],
    "zarr": [zarr],
}


def available() -> list[Layout]:
    """List the layouts whose packages are installed, and say which are left out."""
    found = []
    for package, makers in LAYOUTS.items():
        needed = [package, "pyarrow"] if package == "lance" else [package]
        missing = [name for name in needed if importlib.util.find_spec(name) is None]
        if missing:
            print(
                f"# {package} is left out: {', '.join(missing)} is not installed", file=sys.stderr
            )
            continue
        found += [maker() for maker in makers]
    return found


def seconds(action: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def touch(chunks: Iterator[np.ndarray]) -> int:
    """Read every byte, as a sum of 64-bit words."""
    return sum(int(torch.from_numpy(chunk.reshape(-1).view(np.int64)).sum()) for chunk in chunks)


def stream(layout: Layout, shards: list) -> int:
    """Touch every byte of every shard."""
    return sum(touch(layout.chunks(shard)) for shard in shards)


def pick(layout: Layout, shards: list, seed: int) -> None:
    """Read random rows of random shards, one by one."""
    generator = np.random.default_rng(seed)
    for index in generator.integers(len(shards) * SHARD_ROWS, size=PICKED).tolist():
        layout.row(shards[index // SHARD_ROWS], index % SHARD_ROWS)


def size(path: Path) -> int:
    """Count the bytes of a file or of a folder's files."""
    return sum(part.stat().st_size for part in [path, *path.rglob("*")] if part.is_file())


def write(layout: Layout, folder: Path, count: int) -> list[Path]:
    """Write every shard; all layouts get the same rows."""
    paths = [folder / f"{layout.name.replace(' ', '-')}-{index:05d}" for index in range(count)]
    for index, path in enumerate(paths):
        rows = np.random.default_rng(index).random((SHARD_ROWS, GROUPS, DIM), np.float32) - 0.5
        layout.write(path, rows.astype(np.float16))
    return paths


def remove(paths: list[Path]) -> None:
    """Delete files and folders."""
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def measure(layout: Layout, floor: Layout, paths: list[Path], bare: list) -> dict:
    """Measure one layout, each pass beside a bare pass."""
    opening = statistics.median(
        seconds(lambda: [layout.open(path) for path in paths]) for _ in range(REPEATS)
    )
    shards = [layout.open(path) for path in paths]
    if stream(layout, shards) != stream(floor, bare):
        raise ValueError(f"{layout.name} gave back other bytes than were written")
    pick(layout, shards, 0)
    picks = [seconds(lambda seed=seed: pick(layout, shards, seed)) for seed in range(REPEATS)]
    pairs = [
        (seconds(lambda: stream(layout, shards)), seconds(lambda: stream(floor, bare)))
        for _ in range(REPEATS)
    ]
    rate = len(paths) * SHARD_ROWS * ROW_BYTES / statistics.median(pair[0] for pair in pairs)
    return {
        "layout": layout.name,
        "open_seconds": round(opening, 5),
        "rows_per_second": round(PICKED / statistics.median(picks)),
        "gigabytes_per_second": round(rate / 1e9, 2),
        "share_of_bare_pass": round(statistics.median(b / a for a, b in pairs), 3),
        "bytes": sum(size(path) for path in paths),
    }


def compare(folder: Path, count: int) -> list[dict]:
    """Write and measure the layouts one after another, beside raw files that stay."""
    floor = raw()
    raw_paths = write(floor, folder, count)
    bare = [floor.open(path) for path in raw_paths]
    rows = [measure(floor, floor, raw_paths, bare)]
    for layout in available():
        if layout.name != floor.name:
            paths = write(layout, folder, count)
            rows.append(measure(layout, floor, paths, bare))
            remove(paths)
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.add_argument("--folder", help="where the temporary folder is made (the system's place)")
    parser.add_argument(
        "--megabytes", type=int, default=512, help="size of the features in MiB (default: 512)"
    )
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*not writable")  # maps are only read here
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows = compare(
            Path(folder), max(1, arguments.megabytes * 2**20 // (SHARD_ROWS * ROW_BYTES))
        )
    if arguments.json:
        print(json.dumps(rows))
        return
    print("layout        open s   rows/s    GB/s  of bare pass      bytes")
    for row in rows:
        print(
            f"{row['layout']:12} {row['open_seconds']:7.4f} {row['rows_per_second']:8} "
            f"{row['gigabytes_per_second']:7.2f} {row['share_of_bare_pass']:13.2f} {row['bytes']:10}"
        )


if __name__ == "__main__":
    main()

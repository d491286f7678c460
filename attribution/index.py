"""Find the best training images without looking at all of them, for caches too large to pass over.

As sum_j w_j <K q_j, f_j> = <[w_j K q_j], [f_j]>, one inner-product index over whole rows serves every
weighting: only the query changes. In: a cache. Out: a faiss index beside it (cells by k-means, 8-bit codes,
arXiv 2401.08281), which is read by memory map. It is approximate; `benchmarks/scale.py` measures its recall.
"""

import json
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from attribution.errors import InputError
from attribution.files import file_hash, hash_of, read_json, write_whole
from attribution.kernel import apply_kernel
from attribution.scoring import Best
from attribution.shards import restored
from attribution.store import Cache

WORTHWHILE = 100_000  # rows; below, one pass over all is as fast and exact
TRAINING_ROWS = 40  # for each cell, as faiss advises


def _faiss() -> object:
    try:
        import faiss
    except ImportError as error:
        raise InputError("an index needs faiss; run pip install faiss-cpu") from error
    return faiss


def build_index(cache: Cache, cells: int | None = None) -> Path:
    """Write `index.faiss` into the cache's folder; its codes, a byte a number, are in memory meanwhile.

    `cells` is by default the square root of the number of rows.
    """
    faiss, rows = _faiss(), len(cache)
    cells = cells or max(1, round(rows**0.5))
    if not 1 <= cells <= rows:
        raise InputError(f"cells is {cells}; it must be from 1 to the number of images, {rows}")
    width = cache.kernel.shape[0] * cache.kernel.shape[1]
    quantizer = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, width, cells, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.by_residual = False
    every = max(1, rows // (TRAINING_ROWS * cells))
    sample = [_vectors(stored[..., ::every]) for _, stored in cache.stream()]
    index.train(torch.cat(sample).numpy())
    for _, stored in cache.stream():
        index.add(_vectors(stored).numpy())
    path = cache.folder / "index.faiss"
    part = path.with_name(path.name + ".part")
    try:
        faiss.write_index(index, str(part))
        whole = faiss.read_index(str(part), faiss.IO_FLAG_MMAP).ntotal == rows
    except RuntimeError:
        whole = False
    if not whole:  # faiss only prints when the disk is full
        part.unlink(missing_ok=True)
        raise InputError(f"{path} could not be written; free some space and run it again")
    (cache.folder / "index.json").unlink(missing_ok=True)
    part.rename(path)
    about = {"shards": hash_of(cache.header["shards"]), "rows": rows, "cells": cells}
    write_whole(
        cache.folder / "index.json", json.dumps(about | {"checksum": file_hash(path)}) + "\n"
    )
    return path


def _vectors(stored: Tensor) -> Float[Tensor, "row group_dim"]:
    return restored(stored).permute(2, 0, 1).flatten(1).contiguous()


class Index:
    """An index that belongs to an opened cache."""

    def __init__(self, cache: Cache) -> None:
        faiss, path = _faiss(), cache.folder / "index.faiss"
        if not (cache.folder / "index.json").is_file() or not path.is_file():
            raise InputError(f"{cache.folder} has no index; run python -m precompute index")
        about = read_json(cache.folder / "index.json", "run python -m precompute index")
        if about.get("shards") != hash_of(cache.header["shards"]):
            raise InputError(
                f"the index in {cache.folder} is older than the cache; run python -m precompute index"
            )
        if file_hash(path) != about.get("checksum"):  # faiss trusts what it reads
            raise InputError(f"{path} is damaged; run python -m precompute index")
        self.cache = cache
        self.index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)

    def best(
        self,
        queries: Float[Tensor, "query group dim"],
        weights: Float[Tensor, "group"],
        count: int,
        probes: int = 16,
    ) -> Best:
        """Find about the best rows of raw queries, looking into the `probes` nearest cells."""
        self.index.nprobe, count = probes, min(count, len(self.cache))
        kernelised = apply_kernel(queries, self.cache.kernel) * weights[:, None]
        scores, places = self.index.search(kernelised.flatten(1).contiguous().numpy(), count)
        return Best(
            torch.from_numpy(scores),
            [
                [self.cache.row(place).file for place in row if place >= 0]
                for row in places.tolist()
            ],
        )

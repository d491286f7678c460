"""Find the best training images without looking at all of them, for caches too large to pass over.

As sum_j w_j <K q_j, f_j> = <[w_j K q_j], [f_j]>, one inner-product index over whole rows serves every
weighting: only the query changes. In: a cache. Out: an index beside it (cells by k-means and 8-bit codes by faiss,
arXiv 2401.08281), a safetensors file that is read by memory map: faiss would trust whatever it reads. It is
approximate; `benchmarks/scale.py` measures its recall, and nothing else asks it yet.
"""

from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from attribution.cache.header import path_of_rows
from attribution.cache.scoring import Best, top
from attribution.cache.shards import restored
from attribution.cache.store import Cache
from attribution.described import read_about, read_described, write_described
from attribution.errors import InputError
from attribution.files import Wanted, hash_of
from attribution.gradients.kernel import apply_kernel

WORTHWHILE = 100_000  # rows; below, one pass over all is as fast and exact
TRAINING_ROWS = 40  # for each cell, as faiss advises
ROWS_AT_ONCE = 8192  # widened together
ADVICE = "run python -m precompute index"
TOLD = {"cells": int}


def _faiss() -> object:
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "an index needs faiss; run pip install 'diffusion-attribution[index]'"
        ) from error
    return faiss


def build_index(cache: Cache, cells: int | None = None) -> Path:
    """Write `rows-index.safetensors` into the cache's folder; its codes, a byte a number, are in memory meanwhile.

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
    codes, found = [], []
    for _, stored in cache.stream():
        vectors = _vectors(stored).numpy()
        codes.append(torch.from_numpy(index.sq.compute_codes(vectors)))
        found.append(torch.from_numpy(quantizer.search(vectors, 1)[1][:, 0]))
    cell = torch.cat(found)
    places = cell.argsort(stable=True)
    tensors = {
        "centres": torch.from_numpy(quantizer.reconstruct_n(0, cells)),
        "range": torch.from_numpy(faiss.vector_to_array(index.sq.trained)).view(2, width),
        "ends": cell.bincount(minlength=cells).cumsum(0),
        "places": places,
        "codes": torch.cat(codes)[places],
    }
    path = path_of_rows(cache.folder, "index")
    write_described(path, tensors, belongs_to(cache), cells=cells)
    return path


def belongs_to(cache: Cache) -> dict[str, str]:
    """Say what an index depends on: the rows, in their order."""
    return {"shards": hash_of(cache.header["shards"])}


def _vectors(stored: Tensor) -> Float[Tensor, "row group_dim"]:
    return restored(stored).permute(2, 0, 1).flatten(1).contiguous()


class Index:
    """An index that belongs to an opened cache; no answer asks it yet (benchmarks/scale.py does)."""

    def __init__(self, cache: Cache) -> None:
        path, rows = path_of_rows(cache.folder, "index"), len(cache)
        about = read_about(path, belongs_to(cache), TOLD, ADVICE)
        width, cells = cache.kernel.shape[0] * cache.kernel.shape[1], about["cells"]
        wanted = {
            "centres": Wanted(torch.float32, (cells, width)),
            "range": Wanted(torch.float32, (2, width)),
            "ends": Wanted(torch.int64, (cells,)),
            "places": Wanted(torch.int64, (rows,)),
            "codes": Wanted(torch.uint8, (rows, width)),
        }
        found = read_described(path, about, wanted, ADVICE)
        ends, places = [0, *found["ends"].tolist()], found["places"]
        if ends != sorted(ends) or ends[-1] != rows or not _is_permutation(places):
            raise InputError(f"{path} does not hold every image once; {ADVICE}")
        self.cache, self.ends, self.places, self.codes = cache, ends, places, found["codes"]
        self.centres, (self.least, self.span) = found["centres"], found["range"]

    def best(
        self,
        queries: Float[Tensor, "query group dim"],
        weights: Float[Tensor, "group"],
        count: int,
        probes: int = 16,
    ) -> Best:
        """Find about the best rows of raw queries, looking into the `probes` nearest cells."""
        asked = (apply_kernel(queries, self.cache.kernel) * weights[:, None]).flatten(1)
        count = min(count, len(self.cache))
        scores, files = [], []
        for query, cells in zip(asked, top(asked @ self.centres.T, probes).tolist(), strict=True):
            found, places = self._look(query, cells)
            best = top(found[None], count)[0]
            scores.append(functional.pad(found[best], (0, count - len(best)), value=-torch.inf))
            files.append([self.cache.row(place).file for place in places[best].tolist()])
        return Best(torch.stack(scores), files)

    def _look(
        self, query: Float[Tensor, "width"], cells: list[int]
    ) -> tuple[Float[Tensor, "row"], Int[Tensor, "row"]]:
        """Score all rows of some cells; code c of a number means least + span (c + 1/2) / 255."""
        spans = [slice(*self.ends[cell : cell + 2]) for cell in cells]
        some = [part for span in spans for part in self.codes[span].split(ROWS_AT_ONCE)]
        scores = torch.cat([codes.float() @ (query * self.span / 255) for codes in some])
        middle = query @ (self.least + self.span / 510)
        return scores + middle, torch.cat([self.places[span] for span in spans])


def _is_permutation(places: Int[Tensor, "row"]) -> bool:
    return bool((places.sort().values == torch.arange(len(places))).all())

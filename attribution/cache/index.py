"""Find the first training images without a pass over all: short codes name candidates, which are scored exactly.

    <x, f> = <K^-1/2 x, K^1/2 f>

Each half of a group (8 numbers or fewer, after K^1/2, in which queries have no favoured direction) is one of 16
centres: product quantisation of 4 bits (Jegou et al., PAMI 2011), scanned by faiss in registers (arXiv 2401.08281).
No code spans two groups, so that a query's weights enter its tables and one index serves every mix. In: a cache. Out:
`rows-index.safetensors` beside it, which faiss never reads itself: it would trust whatever stands there. Beside the codes
lie sums over all rows, so that scores are standardised exactly, and a copy of the features row by row: to take some
rows out of shards, where a row's numbers lie far apart, would touch every page of them. Codes of a mix of few groups would tell little: those are
answered by a pass over these groups alone.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from attribution.cache.header import path_of_rows
from attribution.cache.scoring import top
from attribution.cache.search import Exact, First, Moments
from attribution.cache.shards import DTYPES, restored, unit_of
from attribution.cache.store import Cache
from attribution.described import read_about, read_described, write_described
from attribution.errors import InputError
from attribution.files import Wanted, hash_of
from attribution.progress import counted
from attribution.sentence import Sentence

WORTHWHILE = 100_000  # rows; below, one pass over all is as fast and exact
TRAINED_ON = 16_384  # rows, spread over all
CENTRES, BITS, HALF = 16, 4, 8  # of a code; numbers that share one
MOST_WIDTH = (
    16_384  # numbers of a row: the sums beside the codes take 4 bytes for each pair of them
)
CANDIDATES, MOST_CANDIDATES = 8192, 100_000  # rows that are scored exactly
FEWEST_GROUPS = 16.0  # that share a mix's variance; with fewer the codes tell too little
ROWS_AT_ONCE = 2048
WIDENED = 256  # rows together, into memory that stays in a core's cache
ADVICE = "run python -m precompute index"
TOLD = {"candidates": int}
SAID = Sentence(
    "The first training pictures were found by an index, which may miss some; their scores are exact."
)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "an index needs faiss; run pip install 'diffusion-attribution[index]'"
        ) from error
    return faiss


def length_of_parts(dim: int) -> int:
    """Give how many numbers share a code: the most, up to 8, that divide a group."""
    return max(size for size in range(1, min(HALF, dim) + 1) if dim % size == 0)


def turn_of(kernel: Float[Tensor, "group dim dim"]) -> Float[Tensor, "group dim dim"]:
    """Give K^1/2, group by group; what is next to singular is kept away from zero."""
    values, vectors = torch.linalg.eigh(kernel.double())
    values = values.clamp_min(values.amax(1, keepdim=True).clamp_min(1e-30) * 1e-9).sqrt()
    return ((vectors * values[:, None]) @ vectors.mT).float()


def build_index(cache: Cache, candidates: int = CANDIDATES) -> Path:
    """Write `rows-index.safetensors` into the cache's folder; its codes and the copy of all rows are in memory meanwhile.

    `candidates` is how many rows of each query will be scored exactly.
    """
    faiss, (groups, dim, _) = _faiss(), cache.kernel.shape
    width = groups * dim
    if width > MOST_WIDTH:
        raise InputError(
            f"a row of {cache.folder} has {width} numbers, and an index takes at most {MOST_WIDTH}; make the cache "
            "with a smaller proj_dim, or answer by a pass over all"
        )
    if not 1 <= candidates <= MOST_CANDIDATES:
        raise InputError(f"candidates is {candidates}; it must be from 1 to {MOST_CANDIDATES}")
    turn, rows = turn_of(cache.kernel), len(cache)
    pq = faiss.ProductQuantizer(width, width // length_of_parts(dim), BITS)
    every = max(1, rows // TRAINED_ON)
    sample = [_turned(stored[..., ::every], turn) for _, stored in cache.stream()]
    pq.cp.min_points_per_centroid = 1  # else faiss complains of small caches
    sample = torch.cat(sample)
    pq.train(sample.repeat(-(-CENTRES // len(sample)), 1).numpy())
    codes, total = [], torch.zeros(width, dtype=torch.float64)
    copied = torch.empty(rows, width, dtype=DTYPES[cache.header["dtype"]])
    moment = torch.zeros(width, width, dtype=torch.float64)
    shards = counted(None, "codes", "picture", rows)
    for start, stored in cache.stream():
        copied[start : start + stored.shape[2]] = stored.permute(2, 0, 1).flatten(1)
        for some in stored.split(ROWS_AT_ONCE, 2):
            codes.append(torch.from_numpy(pq.compute_codes(_turned(some, turn).numpy())))
            flat = restored(some).flatten(0, 1)
            total += flat.sum(1)
            moment += flat @ flat.T
            shards.update(some.shape[2])
    shards.close()
    tensors = {
        "codes": torch.cat(codes),
        "rows": copied,
        "centroids": torch.from_numpy(faiss.vector_to_array(pq.centroids)),
        "turn": turn,
        "mean": (total / rows).float(),
        "moment": (moment / rows).float(),
    }
    path = path_of_rows(cache.folder, "index")
    write_described(path, tensors, belongs_to(cache), candidates=candidates)
    return path


def belongs_to(cache: Cache) -> dict[str, str]:
    """Say what an index depends on: the rows, in their order."""
    return {"shards": hash_of(cache.header["shards"])}


def _turned(
    stored: Tensor,  # [group, dim, row]
    turn: Float[Tensor, "group dim dim"],
) -> Float[Tensor, "row width"]:
    return (turn @ restored(stored)).permute(2, 0, 1).flatten(1).contiguous()


class Index:
    """An index that belongs to an opened cache; its codes are in memory, and the rows stay on disk."""

    name, said = "index", SAID

    def __init__(self, cache: Cache) -> None:
        path, rows, (groups, dim, _) = path_of(cache), len(cache), cache.kernel.shape
        about = read_about(path, belongs_to(cache), TOLD, ADVICE)
        if not 1 <= about["candidates"] <= MOST_CANDIDATES:
            raise InputError(f"{path} is damaged: its candidates cannot be so; {ADVICE}")
        width = groups * dim
        parts = width // length_of_parts(dim)
        wanted = {
            "codes": Wanted(torch.uint8, (rows, (parts * BITS + 7) // 8)),
            "rows": Wanted(DTYPES[cache.header["dtype"]], (rows, width), -1.01, 1.01),
            "centroids": Wanted(torch.float32, (width * CENTRES,)),
            "turn": Wanted(torch.float32, (groups, dim, dim)),
            "mean": Wanted(torch.float32, (width,), -1.01, 1.01),
            "moment": Wanted(torch.float32, (width, width), -1.02, 1.02),
        }
        found = read_described(path, about, wanted, ADVICE)
        self.cache, self.candidates, self.exact = cache, about["candidates"], Exact(cache)
        self.mean, self.moment, self.rows = found["mean"], found["moment"], found["rows"]
        self.back = torch.linalg.pinv(found["turn"].double()).mT.float()
        self.bytes_a_row = found["codes"].shape[1]
        self.scan = _scan(found["codes"], found["centroids"], width, parts)

    def first(self, asked: Float[Tensor, "query group dim"], count: int) -> First:
        """Find about the first rows of each query, each by the codes or, of few groups, by a pass over these."""
        found = [self._first(query[None], min(count, len(self.cache))) for query in asked]
        return First(
            torch.cat([each.scores for each in found]), torch.cat([each.places for each in found])
        )

    def _first(self, asked: Float[Tensor, "1 group dim"], count: int) -> First:
        if groups_that_count(self.turned(asked)[0]) < FEWEST_GROUPS:
            return self.exact.first(asked, count)
        return self.by_codes(asked, count)

    def turned(self, asked: Float[Tensor, "query group dim"]) -> Float[Tensor, "query group dim"]:
        """Give K^-1/2 x."""
        return torch.einsum("gde,qge->qgd", self.back, asked)

    def by_codes(self, asked: Float[Tensor, "1 group dim"], count: int) -> First:
        """Let the codes name candidates, whatever the mix, and score these exactly."""
        candidates = min(max(self.candidates, 4 * count), len(self.cache))
        query = self.turned(asked).flatten(1).numpy()
        places = torch.from_numpy(self.scan.search(query, candidates)[1][0])
        places = places[places >= 0].sort().values
        scores = self._scores(asked.flatten(1), places)
        order = top(scores, count)
        return First(scores.gather(1, order), places[order])

    def _scores(
        self, asked: Float[Tensor, "1 width"], places: Int[Tensor, "place"]
    ) -> Float[Tensor, "1 place"]:
        """Score some rows exactly."""
        asked, buffer = asked / unit_of(self.rows), torch.empty(WIDENED, self.rows.shape[1])
        return torch.cat(
            [
                asked @ buffer[: len(some)].copy_(self.rows[some]).T
                for some in places.split(WIDENED)
            ],
            1,
        )

    def moments(self, asked: Float[Tensor, "query group dim"]) -> Moments:
        """Take mean and spread from the sums that lie beside the codes."""
        flat = asked.flatten(1)
        square = ((flat @ self.moment).double() * flat).sum(1)
        return Moments.of((flat @ self.mean).double(), square)


def path_of(cache: Cache) -> Path:
    """Name a cache's index."""
    return path_of_rows(cache.folder, "index")


def groups_that_count(turned: Float[Tensor, "group dim"]) -> float:
    """Give (sum v)^2 / sum v^2 of the groups' variances v in the scores: over how many groups a mix is spread."""
    shares = turned.double().square().sum(1)
    return float(shares.sum() ** 2 / shares.square().sum().clamp_min(1e-300))


def _scan(
    codes: UInt8[Tensor, "row bytes"], centroids: Float[Tensor, "number"], width: int, parts: int
) -> Any:
    """Put codes into the order in which faiss scans them; this copies them into memory."""
    faiss = _faiss()
    plain = faiss.IndexPQ(width, parts, BITS, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(centroids.numpy(), plain.pq.centroids)
    plain.is_trained = True
    plain.add_sa_codes(codes.numpy())
    return faiss.IndexPQFastScan(plain)

"""Find the first training images without a pass over all: short codes name candidates, which are scored exactly.

    <x, f> = <K^-1/2 x, K^1/2 f>

Short codes (codes.py) of the rows after K^1/2, in which queries have no favoured direction: one index serves every mix. In: a
cache. Out: `rows-index.safetensors` beside it, which faiss never reads itself: it would trust whatever stands there. Beside
the codes lie sums over all rows, so that scores are standardised exactly, and a copy of the features row by row, as faiss
takes them (8-bit codes from 0 on): to take some rows out of shards, where a row's numbers lie far apart, would touch every page
of them. Codes of a mix of few groups, or of groups that have none, would tell little: those are answered by a pass over these groups alone.
"""

from pathlib import Path

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from attribution.cache.codes import (
    CENTRES,
    COARSE,
    FINE,
    NONE,
    Codes,
    faiss_module,
    groups_that_count,
    hopeless,
    lengths_for,
    shares_of,
)
from attribution.cache.header import path_of_rows
from attribution.cache.scoring import top
from attribution.cache.search import Exact, First, Moments
from attribution.cache.shards import DTYPES, STEPS, restored
from attribution.cache.store import Cache
from attribution.described import read_about, read_described, write_described
from attribution.errors import InputError
from attribution.files import Wanted, hash_of
from attribution.progress import counted
from attribution.sentence import Sentence

WORTHWHILE = 100_000  # rows; below, one pass over all is as fast and exact
TRAINED_ON = 16_384  # rows, spread over all
MOST_WIDTH = (
    16_384  # numbers of a row: the sums beside the codes take 4 bytes for each pair of them
)
CANDIDATES, MOST_CANDIDATES = 4096, 100_000  # rows that are scored exactly
ONE_IN = 32  # rows of a large cache is a candidate: the more rows, the more stand close together
FEWEST_GROUPS = 12.0  # that share a mix's variance; with fewer the codes tell too little
LEAST_TOLD = 0.5  # of a mix's variance, by its groups' codes
ROWS_AT_ONCE = 2048
SCORED = (
    512  # rows together, before it is asked whether there is hope that another is among the first
)
ADVICE = "run python -m precompute index"
TOLD = {"candidates": int, "lengths": [int]}
SAID = Sentence(
    "The first training pictures were found by an index, which may miss some; their scores are exact."
)


def turn_of(kernel: Float[Tensor, "group dim dim"]) -> Float[Tensor, "group dim dim"]:
    """Give K^1/2, group by group; what is next to singular is kept away from zero."""
    values, vectors = torch.linalg.eigh(kernel.double())
    values = values.clamp_min(values.amax(1, keepdim=True).clamp_min(1e-30) * 1e-9).sqrt()
    return ((vectors * values[:, None]) @ vectors.mT).float()


def build_index(
    cache: Cache,
    candidates: int | None = None,
    weights: Float[Tensor, "question group"] | None = None,
) -> Path:
    """Write `rows-index.safetensors` into the cache's folder; its codes and the copy of all rows are in memory meanwhile.

    `candidates` is how many rows of each query will be scored exactly; as many as the cache needs, if not given. By `weights`, those of the questions that will be
    asked most, codes are shared out among the groups.
    """
    groups, dim, _ = cache.kernel.shape
    width = groups * dim
    if width > MOST_WIDTH:
        raise InputError(
            f"a row of {cache.folder} has {width} numbers, and an index takes at most {MOST_WIDTH}; make the cache "
            "with a smaller proj_dim, or answer by a pass over all"
        )
    if candidates is None:
        candidates = min(max(CANDIDATES, len(cache) // ONE_IN), MOST_CANDIDATES)
    if not 1 <= candidates <= MOST_CANDIDATES:
        raise InputError(f"candidates is {candidates}; it must be from 1 to {MOST_CANDIDATES}")
    turn, rows = turn_of(cache.kernel), len(cache)
    lengths = lengths_for(
        asked_about(cache, torch.ones(1, groups) if weights is None else weights), dim
    )
    codes, every = Codes(lengths, dim), max(1, rows // TRAINED_ON)
    centres = codes.train(torch.cat([_turned(s[..., ::every], turn) for _, s in cache.stream()]))
    coded, total = [], torch.zeros(width, dtype=torch.float64)
    copied = torch.empty(rows, width, dtype=copied_as(cache))
    moment = torch.zeros(width, width, dtype=torch.float64)
    shards = counted(None, "codes", "picture", rows)
    for start, stored in cache.stream():
        copied[start : start + stored.shape[2]] = from_zero(stored).permute(2, 0, 1).flatten(1)
        for some in stored.split(ROWS_AT_ONCE, 2):
            coded.append(codes.of(_turned(some, turn)))
            flat = restored(some).flatten(0, 1)
            total += flat.sum(1)
            moment += flat @ flat.T
            shards.update(some.shape[2])
    shards.close()
    tensors = {
        "codes": torch.cat(coded),
        "rows": copied,
        "centres": centres,
        "turn": turn,
        "mean": (total / rows).float(),
        "moment": (moment / rows).float(),
    }
    path = path_of_rows(cache.folder, "index")
    write_described(path, tensors, belongs_to(cache), candidates=candidates, lengths=lengths)
    return path


def asked_about(cache: Cache, weights: Float[Tensor, "question group"]) -> Float64[Tensor, "group"]:
    """Give the groups' shares of the variance of scores, w^2 tr(K C)^2, mean over questions, were queries like rows."""
    energy = (cache.kernel.double() @ cache.gram).diagonal(dim1=1, dim2=2).sum(1) / len(cache)
    shares = (weights.double() * energy).square()
    return (shares / shares.sum(1, keepdim=True).clamp_min(1e-300)).mean(0)


def copied_as(cache: Cache) -> torch.dtype:
    """Name what the copied rows are made of."""
    return torch.uint8 if cache.header["dtype"] == "int8" else DTYPES[cache.header["dtype"]]


def from_zero(stored: Tensor) -> Tensor:
    """Give 8-bit codes as faiss counts them, 128 higher."""
    return stored.view(torch.uint8) ^ 128 if stored.dtype == torch.int8 else stored


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
        lengths, width = about["lengths"], groups * dim
        if len(lengths) != groups or not {*lengths} <= {NONE, COARSE, FINE} or not any(lengths):
            raise InputError(f"{path} is damaged: its codes cannot be so; {ADVICE}")
        self.codes = Codes(lengths, dim)
        wanted = {
            "codes": Wanted(torch.uint8, (rows, self.codes.bytes)),
            "rows": Wanted(copied_as(cache), (rows, width), -1.01, 1.01),
            "centres": Wanted(torch.float32, (self.codes.places.numel() * CENTRES,)),
            "turn": Wanted(torch.float32, (groups, dim, dim)),
            "mean": Wanted(torch.float32, (width,), -1.01, 1.01),
            "moment": Wanted(torch.float32, (width, width), -1.02, 1.02),
        }
        found = read_described(path, about, wanted, ADVICE)
        self.cache, self.candidates, self.exact = cache, about["candidates"], Exact(cache)
        self.mean, self.moment, self.rows = found["mean"], found["moment"], found["rows"]
        self.back = torch.linalg.pinv(found["turn"].double()).mT.float()
        self.scan = self.codes.scan(found["codes"], found["centres"])

    def first(self, asked: Float[Tensor, "query group dim"], count: int) -> First:
        """Find about the first rows of each query, each by the codes or, of few groups, by a pass over these."""
        found = [self._first(query[None], min(count, len(self.cache))) for query in asked]
        return First(
            torch.cat([each.scores for each in found]), torch.cat([each.places for each in found])
        )

    def _first(self, asked: Float[Tensor, "1 group dim"], count: int) -> First:
        shares = shares_of(self.turned(asked)[0])
        if groups_that_count(shares) < FEWEST_GROUPS or shares @ self.codes.told < LEAST_TOLD:
            return self.exact.first(asked, count)
        return self.by_codes(asked, count)

    def turned(self, asked: Float[Tensor, "query group dim"]) -> Float[Tensor, "query group dim"]:
        """Give K^-1/2 x."""
        return torch.einsum("gde,qge->qgd", self.back, asked)

    def by_codes(self, asked: Float[Tensor, "1 group dim"], count: int) -> First:
        """Let the codes name candidates, whatever the mix, and score these exactly."""
        candidates = min(max(self.candidates, 4 * count), len(self.cache))
        told, places = self.scan.first(self.turned(asked).flatten(1), candidates)
        if len(places) < count:  # no code tells them apart
            return self.exact.first(asked, count)
        return self._best(asked.flatten(1), told, places, count)

    def _best(
        self,
        asked: Float[Tensor, "1 width"],
        told: Float[Tensor, "place"],
        places: Int[Tensor, "place"],
        count: int,
    ) -> First:
        """Give the first of some rows, scored exactly, as long as there is hope."""
        faiss = faiss_module()
        kinds, bits = faiss.ScalarQuantizer, self.rows.dtype == torch.uint8
        kind = kinds.QT_8bit_direct_signed if bits else kinds.QT_fp16
        scorer = faiss.IndexScalarQuantizer(len(self.mean), kind, faiss.METRIC_INNER_PRODUCT)
        query, scores = (asked / (STEPS if bits else 1)).numpy(), torch.empty(len(places))
        done = 0
        while done < len(places):
            some = places[done : done + SCORED]
            scorer.reset()
            scorer.add_sa_codes(self.rows.index_select(0, some).view(torch.uint8).numpy())
            found, order = (torch.from_numpy(each[0]) for each in scorer.search(query, len(some)))
            scores[done + order] = found
            done += len(some)
            if done >= count and hopeless(told, scores[:done], count):
                break
        order = top(scores[None, :done], count)
        return First(scores[order[0]][None], places[order])

    def moments(self, asked: Float[Tensor, "query group dim"]) -> Moments:
        """Take mean and spread from the sums that lie beside the codes."""
        flat = asked.flatten(1)
        square = ((flat @ self.moment).double() * flat).sum(1)
        return Moments.of((flat @ self.mean).double(), square)


def path_of(cache: Cache) -> Path:
    """Name a cache's index."""
    return path_of_rows(cache.folder, "index")

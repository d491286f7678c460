"""Say all numbers of a row in a few bytes, and scan these: product quantisation by faiss, 4 bits a code.

Eight or four numbers of one group are one of 16 centres (Jegou et al., PAMI 2011), scanned in registers (arXiv
2401.08281). No code spans two groups, so that a query's weights enter its tables. Which groups get codes of how many numbers
follows from how much they are asked about: half a bit a number leaves about half of a group's variance untold, one bit a
quarter (rate-distortion of a Gaussian, 4^-bits), and the next code goes where it tells most. What codes leave untold also says how
far down their list a first row can be hoped for. It knows neither cache nor file.
"""

from typing import Any

import torch
from jaxtyping import Float, Float64, Int, UInt8
from torch import Tensor

from attribution.errors import InputError

CENTRES, BITS = 16, 4  # of a code
COARSE, FINE, NONE = 8, 4, 0  # numbers that share one
UNTOLD = {NONE: 1.0, COARSE: 0.5, FINE: 0.25}  # share of a group's variance
CODES = 512  # of a row: 256 bytes
HOPE = 4.0  # standard deviations


def faiss_module() -> Any:
    """Import faiss."""
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "an index needs faiss; run pip install 'diffusion-attribution[index]'"
        ) from error
    return faiss


def codes_of(dim: int, length: int) -> int:
    """Give how many codes a group takes whose numbers share them by so many."""
    return -(-dim // length) if length else 0


def lengths_for(asked: Float64[Tensor, "group"], dim: int) -> list[int]:
    """Share the codes out: how many numbers of each group share one, by the groups' shares of what is asked about.

    In all at most CODES, or as many as it takes to give every group its coarse ones.
    """
    coarse, groups = codes_of(dim, COARSE), len(asked)
    more = codes_of(dim, FINE) - coarse
    gains = [UNTOLD[NONE] - UNTOLD[COARSE], UNTOLD[COARSE] - UNTOLD[FINE]]
    costs = torch.tensor([coarse] * groups + [more] * groups)
    gain = torch.cat([asked * gains[0] / coarse, asked * gains[1] / max(more, 1)])
    gain[groups:] = torch.minimum(gain[groups:], gain[:groups])  # first the coarse ones
    order = torch.sort(gain, descending=True, stable=True).indices
    taken = order[costs[order].cumsum(0) <= max(CODES, coarse * groups)]
    times = (taken % groups).bincount(minlength=groups).tolist()
    return [(NONE, COARSE, FINE)[each] for each in times]


class Codes:
    """Which numbers of a row `[group dim]` share codes, and the quantiser; numbers behind a group's last are zero."""

    def __init__(self, lengths: list[int], dim: int) -> None:
        self.width = len(lengths) * dim  # the place of the zero behind a row
        parts = [
            [*range(start, min(start + length, end)), *[self.width] * (COARSE - min(length, end - start))]
            for group, length in enumerate(lengths) if length
            for end in [(group + 1) * dim]
            for start in range(group * dim, end, length)
        ]  # fmt: skip
        self.places: Int[Tensor, "code coarse"] = torch.tensor(parts)
        self.told = torch.tensor([1 - UNTOLD[length] for length in lengths])
        self.bytes = (len(parts) * BITS + 7) // 8
        faiss = faiss_module()
        self.pq = faiss.ProductQuantizer(self.places.numel(), len(parts), BITS)

    def _laid_out(self, rows: Float[Tensor, "row width"]) -> Float[Tensor, "row laid"]:
        behind = torch.zeros(len(rows), 1)
        return torch.cat([rows, behind], 1)[:, self.places.flatten()].contiguous()

    def train(self, sample: Float[Tensor, "row width"]) -> Float[Tensor, "number"]:
        """Find the centres."""
        self.pq.cp.min_points_per_centroid = 1  # else faiss complains of small caches
        self.pq.train(self._laid_out(sample.repeat(-(-CENTRES // len(sample)), 1)).numpy())
        return torch.from_numpy(faiss_module().vector_to_array(self.pq.centroids))

    def of(self, rows: Float[Tensor, "row width"]) -> UInt8[Tensor, "row bytes"]:
        """Code rows."""
        return torch.from_numpy(self.pq.compute_codes(self._laid_out(rows).numpy()))

    def scan(self, codes: UInt8[Tensor, "row bytes"], centres: Float[Tensor, "number"]) -> "Scan":
        """Put codes into the order in which faiss scans them; this copies them into memory."""
        faiss, (parts, _) = faiss_module(), self.places.shape
        plain = faiss.IndexPQ(self.pq.d, parts, BITS, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(centres.numpy(), plain.pq.centroids)
        plain.is_trained = True
        plain.add_sa_codes(codes.numpy())
        return Scan(self, faiss.IndexPQFastScan(plain))


class Scan:
    """Coded rows in memory."""

    def __init__(self, codes: Codes, index: Any) -> None:
        self.codes, self.index = codes, index

    def first(
        self, query: Float[Tensor, "1 width"], count: int
    ) -> tuple[Float[Tensor, "place"], Int[Tensor, "place"]]:
        """Give about the first rows of one query, best first: what their codes tell of scores, and their places."""
        told, places = self.index.search(self.codes._laid_out(query).numpy(), count)
        known = torch.from_numpy(places[0]) >= 0
        return torch.from_numpy(told[0])[known], torch.from_numpy(places[0])[known]


def hopeless(told: Float[Tensor, "place"], scores: Float[Tensor, "scored"], count: int) -> bool:
    """Tell whether no row that is left can be hoped to be one of the first.

    Scores are a line over what codes tell, and what these leave untold; the next row, the best that is left, would have
    to be HOPE standard deviations of it above the line.
    """
    known = told[: len(scores)]
    if len(known) == len(told):
        return True
    apart, gained = known - known.mean(), scores - scores.mean()
    slope = (apart @ gained) / (apart @ apart)
    untold = (gained - slope * apart).std()
    expected = scores.mean() + slope * (told[len(scores)] - known.mean())
    return bool(scores.topk(count).values[-1] >= expected + HOPE * untold)


def shares_of(turned: Float[Tensor, "group dim"]) -> Float[Tensor, "group"]:
    """Give the groups' shares of the variance of scores."""
    shares = turned.double().square().sum(1)
    return (shares / shares.sum().clamp_min(1e-300)).float()


def groups_that_count(shares: Float[Tensor, "group"]) -> float:
    """Give 1 / sum p^2 of the groups' shares p: over how many groups a mix is spread."""
    return 1 / float(shares.square().sum().clamp_min(1e-30))

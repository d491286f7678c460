"""One pass over the cache gives what a plain loop over rows and groups gives."""

import pytest
import torch

from attribution.cache.scoring import chunks, contributions, scores
from attribution.cache.shards import describe_shard, shard_path, write_shard
from attribution.cache.store import open_cache, write_header
from attribution.gradients.methods import FeatureConfig
from attribution.pictures.collection import Row, fingerprint_of

GROUPS, DIM = 11, 6


def write_cache(folder, rows=(7, 5, 9), dtype="float16"):
    """Write a cache of random features in shards of these sizes; give the features at norm one."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(sum(rows), GROUPS, DIM, generator=generator)
    start, shards = 0, []
    for number, count in enumerate(rows):
        ids = [Row(f"{start + i}.png", "") for i in range(count)]
        write_shard(folder, number, ids, features[start : start + count], dtype)
        start += count
        shards.append(shard_path(folder, number))
    identity = torch.eye(DIM).expand(GROUPS, -1, -1).clone()
    described = [describe_shard(path) for path in shards]
    ids = [Row(f"{i}.png", "") for i in range(sum(rows))]
    header = {
        "method": "d-trak",
        "damping": 1.0,
        "features": FeatureConfig(ranges=1, proj_dim=DIM).recorded(),
        "dtype": dtype,
        "fingerprints": {"model": "", "collection": fingerprint_of(ids)},
        "groups": [str(g) for g in range(GROUPS)],
    }
    write_header(folder, header, described, identity.double(), identity)
    return features / features.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize(("dtype", "step"), [("float16", 2e-3), ("int8", 5e-2)])
def test_contributions_are_a_plain_loop(tmp_path, dtype, step):
    train = write_cache(tmp_path, dtype=dtype).double()
    cache = open_cache(tmp_path, {})
    queries = torch.randn(3, GROUPS, DIM, generator=torch.Generator().manual_seed(1))
    got = contributions(queries, cache)
    for q in range(3):
        for g in range(GROUPS):
            for n in range(len(train)):
                want = float(queries[q, g].double() @ train[n, g])
                assert got[q, g, n].item() == pytest.approx(want, abs=step)
    pieces = list(chunks(queries, cache, rows_at_once=4))
    assert torch.allclose(torch.cat([p for _, p in pieces], 2), got, atol=1e-6)
    starts = torch.tensor([0] + [p.shape[2] for _, p in pieces]).cumsum(0)[:-1]
    assert [start for start, _ in pieces] == starts.tolist()


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_scores_are_the_contributions_weighted_and_summed(tmp_path, dtype):
    write_cache(tmp_path, dtype=dtype)
    cache, draw = open_cache(tmp_path, {}), torch.Generator().manual_seed(1)
    queries = torch.randn(3, GROUPS, DIM, generator=draw)
    weights = torch.rand(3, GROUPS, generator=draw)
    want = (contributions(queries, cache).double() * weights[..., None]).sum(1)
    got = scores(queries * weights[..., None], cache)
    assert torch.allclose(got.double(), want, rtol=1e-5, atol=1e-5)


def test_a_part_needs_only_its_own_shards(tmp_path):
    write_cache(tmp_path)
    whole = open_cache(tmp_path, {})
    parts = [open_cache(tmp_path, {}, part=(rank, 2)) for rank in range(2)]
    assert sorted(row.file for part in parts for row in part.rows) == sorted(
        row.file for row in whole.rows
    )
    shard_path(tmp_path, 1).unlink()
    assert len(open_cache(tmp_path, {}, part=(0, 2))) == 16

"""One pass over the cache gives what a plain loop over rows and groups gives, in one process or two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attribution.cache.index import Index, build_index
from attribution.cache.scoring import best, chunks, contributions, top, weighted
from attribution.cache.shards import describe_shard, shard_path, write_shard
from attribution.cache.store import listed_shards, open_cache, read_header, write_header
from attribution.errors import InputError
from attribution.gradients.kernel import apply_kernel
from attribution.gradients.methods import FeatureConfig
from attribution.pictures.collection import Row, fingerprint_of
from precompute.__main__ import main

ROOT = Path(__file__).parents[1]
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


def test_best_keeps_no_more_than_it_must_and_finds_the_same(tmp_path):
    write_cache(tmp_path)
    cache = open_cache(tmp_path, {})
    queries = torch.randn(3, GROUPS, DIM, generator=torch.Generator().manual_seed(1))
    weights = torch.rand(GROUPS, generator=torch.Generator().manual_seed(2))
    scores = weighted(contributions(queries, cache), weights)
    found = best(queries, weights, cache, 5)
    order = top(scores, 5)
    assert found.files == [[f"{n}.png" for n in row] for row in order.tolist()]
    assert torch.allclose(found.scores, scores.gather(1, order), atol=1e-5)


def test_a_part_needs_only_its_own_shards(tmp_path):
    write_cache(tmp_path)
    whole = open_cache(tmp_path, {})
    parts = [open_cache(tmp_path, {}, part=(rank, 2)) for rank in range(2)]
    assert sorted(row.file for part in parts for row in part.rows) == sorted(
        row.file for row in whole.rows
    )
    shard_path(tmp_path, 1).unlink()
    assert len(open_cache(tmp_path, {}, part=(0, 2))) == 16


def test_an_index_that_looks_everywhere_finds_what_a_pass_finds_under_any_weights(tmp_path):
    write_cache(tmp_path, rows=(150, 150))
    cache = open_cache(tmp_path, {})
    build_index(cache, cells=5)
    index = Index(open_cache(tmp_path, {}))
    queries = torch.randn(3, GROUPS, DIM, generator=torch.Generator().manual_seed(1))
    for seed in range(3):
        weights = torch.rand(GROUPS, generator=torch.Generator().manual_seed(seed))
        exact = best(apply_kernel(queries, cache.kernel), weights, cache, 10)
        found = index.best(queries, weights, 10, probes=5)
        shared = [set(a) & set(b) for a, b in zip(exact.files, found.files, strict=True)]
        assert sum(map(len, shared)) >= 27  # 8-bit codes may swap neighbours
        assert torch.allclose(exact.scores, found.scores, atol=0.05)


def test_an_index_that_is_damaged_old_or_needless_is_refused(tmp_path, capsys):
    write_cache(tmp_path)
    cache = open_cache(tmp_path, {})
    assert main(["index", "--cache_dir", str(tmp_path)]) == 2
    assert "21 images; below 100000 one pass" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"index\.safetensors is missing"):
        Index(cache)
    assert main(["index", "--cache_dir", str(tmp_path), "--force", "--cells", "1"]) == 0
    Index(cache)
    path = tmp_path / "rows-index.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"index\.safetensors is missing or damaged"):
        Index(cache)
    with pytest.raises(InputError, match="cells is 22"):
        build_index(cache, cells=22)
    build_index(cache, cells=2)
    shards = listed_shards(read_header(tmp_path))
    write_header(tmp_path, read_header(tmp_path), shards, cache.gram, cache.kernel)
    assert Index(open_cache(tmp_path, {})).best(torch.ones(1, GROUPS, DIM), torch.ones(GROUPS), 99)
    left = {"fingerprints": {"model": "", "collection": fingerprint_of(cache.rows[:12])}}
    write_header(tmp_path, read_header(tmp_path) | left, shards[:2], cache.gram, cache.kernel)
    with pytest.raises(
        InputError, match=r"index\.safetensors is missing"
    ):  # it would still hold what was removed
        Index(open_cache(tmp_path, {}))


SCRIPT = """
import json, sys
import torch
from accelerate import PartialState
from attribution.cache.scoring import best
from attribution.cache.store import open_cache

state = PartialState(cpu=True)
cache = open_cache(sys.argv[1], {}, part=(state.process_index, state.num_processes))
queries = torch.randn(3, 11, 6, generator=torch.Generator().manual_seed(1))
weights = torch.rand(11, generator=torch.Generator().manual_seed(2))
found = best(queries, weights, cache, 5)
with open(f"{sys.argv[2]}/{state.process_index}.json", "w") as file:
    json.dump([state.num_processes, found.files, found.scores.tolist()], file)
state.wait_for_everyone()
state.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_with_half_the_shards_each_find_what_one_finds(tmp_path):
    folder, out = tmp_path / "cache", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    write_cache(folder)
    queries = torch.randn(3, GROUPS, DIM, generator=torch.Generator().manual_seed(1))
    weights = torch.rand(GROUPS, generator=torch.Generator().manual_seed(2))
    want = best(queries, weights, open_cache(folder, {}), 5)
    script = tmp_path / "score.py"
    script.write_text(SCRIPT)
    options = [
        "--multi_gpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
    ]
    options += ["--dynamo_backend", "no", "--main_process_port", "0"]
    subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *options, script, folder, out],
        check=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    for rank in range(2):
        processes, files, scores = json.loads((out / f"{rank}.json").read_text())
        assert processes == 2
        assert files == want.files
        assert torch.allclose(torch.tensor(scores), want.scores, atol=1e-5)

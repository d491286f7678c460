"""An index finds what a pass finds, under any weights; one that is damaged or of another cache is refused."""

import pytest
import torch

from attribution.cache.codes import (
    COARSE,
    FINE,
    NONE,
    Codes,
    groups_that_count,
    hopeless,
    lengths_for,
    shares_of,
)
from attribution.cache.index import (
    Index,
    build_index,
    turn_of,
)
from attribution.cache.scoring import contributions, weighted
from attribution.cache.search import Exact
from attribution.cache.searches import search_named
from attribution.cache.store import listed_shards, open_cache, read_header, write_header
from attribution.errors import InputError
from attribution.gradients.kernel import apply_kernel
from attribution.pictures.collection import fingerprint_of
from precompute.__main__ import main
from tests.test_scoring import DIM, GROUPS, write_cache


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Let codes answer mixes of four groups, as the small caches here have eleven."""
    monkeypatch.setattr("attribution.cache.index.FEWEST_GROUPS", 4.0)


def kernel_of(spread):
    """Give a kernel whose directions differ in strength by so much, group by group."""
    bases = torch.linalg.qr(
        torch.randn(GROUPS, DIM, DIM, generator=torch.Generator().manual_seed(5))
    )
    return bases.Q @ torch.diag(torch.logspace(0, spread, DIM)) @ bases.Q.mT


def opened(folder, rows=(150, 150), candidates=60, kernel=None):
    """Write a cache with this kernel and an index; give the open cache."""
    write_cache(folder, rows)
    if kernel is not None:
        header = read_header(folder)
        write_header(
            folder,
            header,
            listed_shards(header),
            torch.eye(DIM).expand(GROUPS, -1, -1).double(),
            kernel,
        )
    build_index(open_cache(folder, {}), candidates)
    return open_cache(folder, {})


def asked_of(cache, count=6, seed=1):
    """Ask random questions, weighted and with the kernel applied."""
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(count, GROUPS, DIM, generator=generator)
    return apply_kernel(queries, cache.kernel) * torch.rand(GROUPS, 1, generator=generator)


def recall(exact, found):
    pairs = zip(exact.places.tolist(), found.places.tolist(), strict=True)
    return [len(set(a) & set(b)) / len(a) for a, b in pairs]


@pytest.mark.parametrize("spread", [0, 4])
def test_an_index_finds_the_first_and_scores_them_as_a_pass_does(tmp_path, spread):
    cache = opened(tmp_path, kernel=kernel_of(spread))
    asked = asked_of(cache)
    exact, found = Exact(cache).first(asked, 5), Index(cache).first(asked, 5)
    assert (
        sum(recall(exact, found)) / len(asked) > 0.8
    )  # 60 of 300 rows are looked at: .2 by chance
    for row in range(len(asked)):
        known = dict(zip(exact.places[row].tolist(), exact.scores[row].tolist(), strict=True))
        for place, score in zip(
            found.places[row].tolist(), found.scores[row].tolist(), strict=True
        ):
            assert score == pytest.approx(known.get(place, score), rel=1e-5)
    assert (found.scores.diff(dim=1) <= 0).all()


def test_an_index_whose_candidates_are_all_rows_is_a_pass(tmp_path):
    cache = opened(tmp_path, candidates=300)
    asked = asked_of(cache)
    exact, found = Exact(cache).first(asked, 10), Index(cache).first(asked, 10)
    assert torch.equal(exact.places, found.places)
    assert torch.allclose(exact.scores, found.scores, atol=1e-5)


def test_a_pass_gives_the_first_of_all_scores(tmp_path):
    write_cache(tmp_path)
    cache = open_cache(tmp_path, {})
    asked = asked_of(cache)
    asked[1, 2:] = 0
    scores = weighted(contributions(asked, cache), torch.ones(GROUPS))
    found = Exact(cache).first(asked, 4)
    assert torch.equal(found.places, scores.topk(4, dim=1).indices)
    moments = Exact(cache).moments(asked)
    assert torch.allclose(moments.mean.float(), scores.mean(1), atol=1e-5)
    assert torch.allclose(moments.spread.float(), scores.std(1, correction=0), atol=1e-5)


def test_the_sums_beside_the_codes_tell_mean_and_spread_of_all_rows(tmp_path):
    cache = opened(tmp_path)
    exact, found = (search.moments(asked_of(cache)) for search in (Exact(cache), Index(cache)))
    assert torch.allclose(exact.mean, found.mean, atol=1e-5)
    assert torch.allclose(exact.spread, found.spread, rtol=1e-4)


def test_a_mix_of_few_groups_is_answered_by_a_pass_over_these(tmp_path):
    cache = opened(tmp_path, candidates=4)
    asked = asked_of(cache)
    asked[:, 3:] = 0
    found, exact = Index(cache).first(asked, 4), Exact(cache).first(asked, 4)
    assert groups_that_count(shares_of(asked[0])) < 4
    assert torch.equal(found.places, exact.places)
    assert torch.allclose(found.scores, exact.scores)


def test_groups_that_count_are_all_that_count_alike():
    turned = torch.zeros(9, DIM)
    turned[:4, 0] = 2.0
    assert groups_that_count(shares_of(turned)) == pytest.approx(4)


def test_groups_that_are_asked_about_more_get_more_codes(monkeypatch):
    monkeypatch.setattr("attribution.cache.codes.CODES", 6)
    asked = torch.tensor([0.5, 0.3, 0.1, 0.1], dtype=torch.float64)
    assert lengths_for(asked, 4) == [FINE] * 4  # one code each is enough
    asked = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    assert lengths_for(asked, 16) == [FINE, COARSE, NONE]
    assert lengths_for(torch.ones(3).double(), 16) == [COARSE] * 3


def test_numbers_are_laid_out_group_by_group_and_zeros_fill_up():
    codes = Codes([COARSE, NONE, FINE], 6)
    assert codes.width == 18
    assert codes.places.tolist() == [
        [0, 1, 2, 3, 4, 5, 18, 18],
        [12, 13, 14, 15, 18, 18, 18, 18],
        [16, 17, 18, 18, 18, 18, 18, 18],
    ]
    assert codes.told.tolist() == [0.5, 0.0, 0.75]


def test_rows_are_scored_until_no_other_can_be_hoped_to_be_among_the_first():
    told = torch.linspace(10, 0, 1000)
    noise = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    scores = 2 * told + 0.5 * noise
    assert not hopeless(told, scores[:50], 10)  # the line falls by 1, noise is +-.5
    assert hopeless(told, scores[:400], 10)
    assert hopeless(told, scores, 10)  # none is left
    flat = torch.ones(1000)
    assert not hopeless(flat, scores[:400], 10)  # codes tell nothing


def test_what_is_scored_in_steps_is_what_a_pass_finds(tmp_path, monkeypatch):
    monkeypatch.setattr("attribution.cache.index.SCORED", 32)
    cache = opened(tmp_path, candidates=300)
    asked = asked_of(cache)
    exact, found = Exact(cache).first(asked, 10), Index(cache).first(asked, 10)
    assert torch.equal(exact.places, found.places)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_mix_of_groups_without_codes_is_answered_by_a_pass(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr("attribution.cache.codes.CODES", 0)
    write_cache(tmp_path, (40,), dtype)
    cache = open_cache(tmp_path, {})
    rare = torch.ones(1, GROUPS)
    rare[0, :5] = 0
    build_index(cache, 8, rare)
    index, asked = Index(cache), asked_of(cache)
    assert NONE in [COARSE if told else NONE for told in index.codes.told.tolist()]
    asked[:, 5:] = 0
    assert torch.equal(index.first(asked, 4).places, Exact(cache).first(asked, 4).places)


def test_a_turn_is_the_root_of_its_kernel():
    kernel = kernel_of(3)
    turn = turn_of(kernel)
    assert torch.allclose(turn @ turn, kernel, rtol=1e-3, atol=1e-2)


def test_rows_are_read_from_the_shards_that_hold_them(tmp_path):
    write_cache(tmp_path)
    cache = open_cache(tmp_path, {})
    places = torch.tensor([20, 0, 7, 6, 11, 12])
    assert torch.equal(cache.features_at(places.tolist()), cache.features()[places])


def test_a_small_cache_needs_no_index_unless_it_must(tmp_path, capsys):
    write_cache(tmp_path)
    assert main(["index", "--cache_dir", str(tmp_path)]) == 2
    assert "21 images; below 100000 one pass" in capsys.readouterr().err
    assert main(["index", "--cache_dir", str(tmp_path), "--force", "--candidates", "0"]) == 2
    assert "candidates is 0" in capsys.readouterr().err
    assert main(["index", "--cache_dir", str(tmp_path), "--force"]) == 0
    assert "the page answers by it from now on" in capsys.readouterr().out


def test_an_index_that_is_damaged_or_of_another_cache_is_refused_and_never_passed_over(tmp_path):
    write_cache(tmp_path)
    cache = open_cache(tmp_path, {})
    assert search_named("auto", cache) is None
    with pytest.raises(InputError, match=r"index\.safetensors is missing"):
        search_named("index", cache)
    build_index(cache)
    assert search_named("auto", cache).name == "index"
    assert search_named("exact", cache) is None
    path = tmp_path / "rows-index.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"index\.safetensors is missing or damaged"):
        search_named("auto", cache)
    build_index(cache)
    older = path.read_bytes()
    left = {"fingerprints": {"model": "", "collection": fingerprint_of(cache.rows[:12])}}
    shards = listed_shards(read_header(tmp_path))[:2]
    write_header(tmp_path, read_header(tmp_path) | left, shards, cache.gram, cache.kernel)
    assert not path.exists()  # it would still hold what was removed
    path.write_bytes(older)
    with pytest.raises(InputError, match=r"another shards\); run python -m precompute index"):
        search_named("auto", open_cache(tmp_path, {}))
    with pytest.raises(InputError, match="search is 'magic'; known: exact, index, auto"):
        search_named("magic", cache)


def test_a_shard_that_goes_missing_is_one_sentence(tmp_path):
    cache = opened(tmp_path)
    index = Index(cache)
    (tmp_path / "features-000001.safetensors").unlink()
    cache.maps.clear()
    with pytest.raises(InputError, match=r"features-000001\.safetensors is missing or damaged"):
        index.first(asked_of(cache) * torch.eye(GROUPS)[0, :, None], 3)

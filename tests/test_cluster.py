"""A cluster answers as one pass does, also when a worker is killed, and leaves no part out unsaid."""

import os
import shutil
import signal
import threading
import time

import pytest
import torch

from attribution.cache import cluster as module
from attribution.cache.cluster import Cluster, address_of
from attribution.cache.search import Exact
from attribution.cache.searches import search_named
from attribution.cache.store import listed_shards, open_cache, read_header, write_header
from attribution.errors import InputError
from tests.test_index import asked_of
from tests.test_scoring import write_cache

NAME, ALONE = "ray://local?parts=3", "ray://local?parts=1"  # a worker takes seconds to start
ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cache in five shards of unequal size."""
    folder = tmp_path_factory.mktemp("cluster") / "cache"
    folder.mkdir()
    write_cache(folder, (40, 20, 30, 50, 10))
    return folder


@pytest.fixture(scope="module")
def cluster(folder):
    """Three workers in processes of their own."""
    yield Cluster(NAME, open_cache(folder, {}))
    ray.shutdown()


def process_of(cluster, part):
    return ray.get(cluster.workers[part].__ray_call__.remote(lambda _: os.getpid()))


def assert_same(cluster):
    asked = asked_of(cluster.cache)
    exact, found = (search.first(asked, 12) for search in (Exact(cluster.cache), cluster))
    assert torch.equal(found.places, exact.places)
    assert torch.allclose(found.scores, exact.scores, atol=1e-5)


def test_a_cluster_is_as_exact_as_a_pass(cluster):
    assert_same(cluster)
    asked = asked_of(cluster.cache)
    exact, found = (search.moments(asked) for search in (Exact(cluster.cache), cluster))
    assert torch.allclose(exact.mean, found.mean)
    assert torch.allclose(exact.spread, found.spread)
    assert len({process_of(cluster, part) for part in range(3)} - {os.getpid()}) == 3


def test_a_worker_that_is_killed_during_a_query_is_started_anew_and_its_part_is_answered(cluster):
    killed, answers = process_of(cluster, 1), []
    os.kill(killed, signal.SIGSTOP)  # so that the query waits for it
    asking = threading.Thread(
        target=lambda: answers.append(cluster.first(asked_of(cluster.cache), 12))
    )
    asking.start()
    time.sleep(0.5)
    assert not answers
    os.kill(killed, signal.SIGKILL)
    asking.join(60)
    assert torch.equal(
        answers[0].places, Exact(cluster.cache).first(asked_of(cluster.cache), 12).places
    )
    assert process_of(cluster, 1) != killed


def test_a_part_that_does_not_come_back_is_an_error_and_never_left_out(cluster, monkeypatch):
    lost = process_of(cluster, 2)
    monkeypatch.setattr(cluster, "wait", 1.0)
    os.kill(lost, signal.SIGSTOP)
    try:
        with pytest.raises(
            InputError, match="part 3 of the 3 of the cluster did not answer within 1 s, and none"
        ):
            cluster.first(asked_of(cluster.cache), 3)
    finally:
        os.kill(lost, signal.SIGCONT)
    monkeypatch.undo()
    assert_same(cluster)


def test_two_versions_in_one_cluster_are_refused(cluster, monkeypatch):
    monkeypatch.setattr(module, "program", lambda: "9.9")
    with pytest.raises(
        InputError, match="has another program than the head; start the cluster anew"
    ):
        cluster.first(asked_of(cluster.cache), 3)


def test_a_worker_with_another_state_of_the_cache_is_refused(cluster, folder, tmp_path):
    changed = shutil.copytree(folder, tmp_path / "cache")
    older = open_cache(changed, {})
    its = Cluster(ALONE, older)
    shards = listed_shards(read_header(changed))
    write_header(changed, read_header(changed), shards, older.gram, older.kernel)
    with pytest.raises(InputError, match="has another cache than the head"):
        its.first(asked_of(older), 3)
    for worker in its.workers:
        ray.kill(worker)


def test_a_shard_that_a_worker_lacks_is_one_sentence(cluster, folder, tmp_path):
    changed = shutil.copytree(folder, tmp_path / "cache")
    its = Cluster(ALONE, open_cache(changed, {}))
    (changed / "features-000001.safetensors").unlink()
    with pytest.raises(InputError, match=r"features-000001\.safetensors is missing or damaged"):
        its.first(asked_of(its.cache), 3)
    for worker in its.workers:
        ray.kill(worker)


def test_a_cluster_is_named_as_ray_names_it(cluster, folder):
    assert address_of("ray://10.0.0.1:6379?parts=8") == ("10.0.0.1:6379", 8)
    assert address_of("ray://auto") == ("auto", 0)
    for name in ("ray://", "ray://local?parts=x", "ray://local?part=3"):
        with pytest.raises(InputError, match="a cluster is named ray://ADDRESS"):
            search_named(name, cluster.cache)
    with pytest.raises(InputError, match="asks for 99 parts, and the cluster has 3 cores"):
        search_named("ray://local?parts=99", cluster.cache)


def test_a_worker_that_is_gone_for_good_is_one_sentence(cluster):
    ray.kill(cluster.workers[1])
    with pytest.raises(InputError, match="of the 3 of the cluster did not answer"):
        cluster.first(asked_of(cluster.cache), 3)

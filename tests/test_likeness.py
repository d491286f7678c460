"""A training image is most like itself, codes lose next to nothing, and latents follow their collection."""

import math
import shutil

import pytest
import torch
from test_store import shrunk

from attribution.answer.likeness import ranks, read_look_alikes, write_look_alikes
from attribution.answer.queries import encode
from attribution.answer.similarity import latent_scores
from attribution.attributor import Attributor
from attribution.cache.build import build_cache
from attribution.cache.site import CacheConfig
from attribution.errors import InputError
from attribution.pictures.collection import load_collection
from precompute.__main__ import main


@pytest.fixture(scope="module")
def seen(attributor, tmp_path_factory):
    """The small attributor with latents beside a copy of its cache."""
    folder = tmp_path_factory.mktemp("seen") / "cache"
    shutil.copytree(attributor.cache.folder, folder)
    latents = encode(attributor.model, attributor.collection)
    fingerprints = attributor.cache.header["fingerprints"]
    write_look_alikes(folder, latents, attributor.collection, fingerprints)
    return attributor.with_cache(folder)


def test_the_step_writes_the_same(seen, attributor, tmp_path):
    folder = shutil.copytree(attributor.cache.folder, tmp_path / "cache")
    names = ["--pretrained_model_name_or_path", attributor.model.name]
    names += ["--train_data_dir", str(attributor.collection.folder), "--cache_dir", str(folder)]
    assert main(["likeness", *names]) == 0
    again, want = (f / "rows-latents.safetensors" for f in (folder, seen.cache.folder))
    assert again.read_bytes() == want.read_bytes()


def test_a_training_image_is_most_like_itself(seen):
    for row in (0, 11, 29):
        alike = seen.alike(seen.collection.image(row))
        assert ranks(alike)[row] == 1
        assert float(alike[row]) == pytest.approx(1, abs=1e-3)


def test_codes_give_the_cosine_of_latents(seen):
    latents = encode(seen.model, seen.collection)
    for row in (2, 20):
        exact = latent_scores(latents[row][None], latents)[0]
        assert torch.allclose(seen.alike(seen.collection.image(row)), exact, atol=2e-3)


def test_ranks_count_from_one():
    alike = torch.tensor([0.1, 0.9, 0.3, 0.8, 0.2])
    assert ranks(alike).tolist() == [5, 1, 3, 2, 4]


def test_latents_are_found_however_the_collection_is_listed(seen, backwards):
    fingerprints = seen.cache.header["fingerprints"]
    found = read_look_alikes(
        seen.cache.folder, backwards.collection, fingerprints, math.prod(seen.model.latent_shape)
    )
    assert torch.equal(found.codes, seen.look_alikes.codes.flip(0))


def test_another_cache_without_latents_takes_these(seen, attributor):
    assert seen.with_cache(attributor.cache.folder).look_alikes is seen.look_alikes
    with pytest.raises(InputError, match="run python -m precompute likeness"):
        attributor.alike(attributor.collection.image(0))


def test_latents_of_other_images_and_damaged_ones_are_refused(seen, tmp_path):
    folder = shutil.copytree(seen.cache.folder, tmp_path / "cache")
    fingerprints = seen.cache.header["fingerprints"]
    size = math.prod(seen.model.latent_shape)
    assert read_look_alikes(folder, seen.collection, fingerprints, size)
    with pytest.raises(InputError, match="another collection"):
        read_look_alikes(folder, seen.collection, fingerprints | {"collection": "other"}, size)
    path = folder / "rows-latents.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        read_look_alikes(folder, seen.collection, fingerprints, size)


def test_latents_go_when_an_image_goes(seen, tmp_path):
    folder = shutil.copytree(seen.cache.folder, tmp_path / "cache")
    smaller = shrunk(seen.collection.folder, tmp_path / "smaller", {5})
    config = CacheConfig(timesteps=4, proj_dim=8, shard_size=8)
    build_cache(seen.model, load_collection(smaller), folder, config)
    assert not list(folder.glob("rows-latents*"))
    assert Attributor.from_pretrained(seen.model.name, folder, smaller).look_alikes is None

"""A removal by name leaves nothing of the images where a cache, its page or its reports could show it."""

import json
import shutil
from datetime import UTC, datetime

import pytest
import torch
from conftest import built

from attribution import files
from attribution.answer.likeness import write_look_alikes
from attribution.attributor import Attributor
from attribution.cache.build import build_cache
from attribution.cache.site import CacheConfig
from attribution.cache.store import layout_of, open_cache, read_header, read_kernel
from attribution.errors import InputError
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import load_collection
from precompute.__main__ import main

SETTINGS = {"timesteps": 2, "proj_dim": 4, "shard_size": 8}


@pytest.fixture(scope="module")
def whole(small_model, small_collection, tmp_path_factory):
    """A cache with likeness, weights and two shards to spare."""
    folder = tmp_path_factory.mktemp("cache")
    its = built(small_model, small_collection, folder, **SETTINGS)
    latents = torch.randn(30, *its.model.latent_shape, generator=torch.Generator().manual_seed(0))
    write_look_alikes(folder, latents, its.collection, its.cache.header["fingerprints"])
    return folder


@pytest.fixture
def world(whole, small_collection, tmp_path):
    """A cache and a collection to change."""
    return (
        shutil.copytree(whole, tmp_path / "cache"),
        shutil.copytree(small_collection, tmp_path / "pictures"),
    )


def remove(cache, pictures, *who):
    return main(["remove", "--cache_dir", str(cache), "--train_data_dir", str(pictures), *who])


def names_in(folder):
    """Give every file of a cache but its header as bytes: the header says what is left out."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "header.json"}


def today():
    return datetime.now(UTC).date().isoformat()


def test_an_artist_is_gone_from_shards_sums_likeness_and_every_list(
    world, small_model, tmp_path, capsys
):
    cache, pictures = world
    collection = load_collection(pictures)
    artist = collection.labels[3]["artist"]
    theirs = [f for f, row in zip(collection.files, collection.labels, strict=True) if row["artist"] == artist]  # fmt: skip
    assert remove(cache, pictures, "--artist", f" {artist.upper()} ") == 0
    printed = capsys.readouterr()
    assert f"{len(theirs)} images removed" in printed.out
    assert (
        "weights, calibrate (it judges lists by the weights), likeness, index, and demo"
        in printed.err
    )
    for name, data in names_in(cache).items():
        assert not any(file.encode() in data for file in theirs), name
    assert not list(cache.glob("rows-*"))
    requests = json.loads((pictures / "opt_out.json").read_text())
    asked = f" {artist.upper()} "
    assert requests == {"artists": [asked], "dates": {asked: today()}}

    model = DiffusionModel.from_pretrained(small_model)
    rest = collection.without(theirs)
    build_cache(model, rest, tmp_path / "fresh", CacheConfig(**SETTINGS))
    left, fresh = open_cache(cache, {}), open_cache(tmp_path / "fresh", {})
    assert left.header["fingerprints"] == fresh.header["fingerprints"]
    same = [each.features()[each.order_in(rest.rows).argsort()] for each in (left, fresh)]
    assert torch.allclose(*same, atol=2e-3)  # of other batches, stored in 16 bits
    sums = [read_kernel(each, read_header(each))[0] for each in (cache, tmp_path / "fresh")]
    assert torch.allclose(*sums, atol=2e-2)


def test_who_has_the_cache_open_goes_on_and_shows_nothing_of_what_was_removed(world, small_model):
    cache, pictures = world
    model, collection = DiffusionModel.from_pretrained(small_model), load_collection(pictures)
    its = Attributor(model, collection, open_cache(cache, {}))
    asked = its.feature(3)[None]
    before = its.contributions(asked)
    assert remove(cache, pictures, "--file", collection.files[7]) == 0
    assert torch.equal(its.contributions(asked), before)
    assert 7 not in its.visible.best(before.sum(1)[0], 30)
    with pytest.raises(InputError, match="withheld"):
        its.visible.image(7)


@pytest.mark.slow
def test_what_is_removed_is_left_out_from_then_on(world, small_model, capsys):
    cache, pictures = world
    file = load_collection(pictures).files[7]
    assert remove(cache, pictures, "--file", file) == 0
    names = ["--pretrained_model_name_or_path", str(small_model), "--train_data_dir", str(pictures)]
    settings = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    capsys.readouterr()
    assert main(["gradients", *names, "--output_dir", str(cache), *settings]) == 0
    assert "0 images added, 0 removed" in capsys.readouterr().err
    assert (
        main(["weights", *names, "--cache_dir", str(cache), "--queries", "4", "--top_k", "3"]) == 0
    )
    its = Attributor.from_pretrained(small_model, cache, pictures)
    assert file not in its.collection.files
    assert len(its.collection) == 29
    ranked = its.attribute(its.collection.image(3), "a cat").rank(29)
    assert file not in [source.file for source in ranked]


def test_a_removal_that_was_stopped_or_repeated_ends_the_same(world):
    cache, pictures = world
    files = load_collection(pictures).files
    (pictures / "opt_out.json").write_text(json.dumps({"files": [files[2]], "artists": ["Nobody"]}))
    assert remove(cache, pictures, "--file", files[2]) == 0
    once = read_header(cache)
    assert remove(cache, pictures, "--file", files[2]) == 0
    assert remove(cache, pictures, "--file", files[4]) == 0
    assert layout_of(cache).left_out == (files[2], files[4])
    assert once["images"] == 29
    assert read_header(cache)["images"] == 28
    found = json.loads((pictures / "opt_out.json").read_text())
    assert found.pop("dates") == {
        files[4]: today()
    }  # since when the other is asked for is not known
    assert found == {"files": [files[2], files[4]], "artists": ["Nobody"]}


@pytest.mark.parametrize(
    ("who", "message"),
    [
        ([], "say with --artist or with --file"),
        (["--artist", "Ann", "--file", "a.png"], "say with --artist or with --file"),
        (["--artist", "Nobody At All"], "no 'Nobody At All'; its artists are"),
        (["--file", "nowhere.png"], "no 'nowhere.png'; check the name"),
    ],
)
def test_a_name_that_is_mistyped_changes_nothing(world, capsys, who, message):
    cache, pictures = world
    before = names_in(cache)
    assert remove(cache, pictures, *who) == 2
    assert message in capsys.readouterr().err
    assert names_in(cache) == before
    assert not (pictures / "opt_out.json").exists()


def test_the_shipped_files_are_never_implied(capsys):
    assert main(["remove", "--file", "images/00000.webp"]) == 2
    assert "say with --train_data_dir and --cache_dir" in capsys.readouterr().err


class Killed(BaseException):
    """What no handler of ours catches, as if the process had ended."""


def test_a_removal_that_ends_at_any_write_is_whole_or_goes_on(whole, small_collection, tmp_path, monkeypatch):  # fmt: skip
    rename, written = files._rename, []

    def stops_at(number):
        def renamed(part, path):
            if len(written) == number:
                raise Killed
            written.append(path)
            rename(part, path)

        return renamed

    name = load_collection(small_collection).files[7]
    for number in range(20):
        cache = shutil.copytree(whole, tmp_path / f"cache{number}")
        pictures = shutil.copytree(small_collection, tmp_path / f"pictures{number}")
        written.clear()
        with monkeypatch.context() as patch:
            patch.setattr(files, "_rename", stops_at(number))
            try:
                remove(cache, pictures, "--file", name)
                break
            except Killed:
                assert len(written) == number
        assert len(open_cache(cache, {})) in (29, 30)
        if number:  # the request is the first thing that is written
            assert json.loads((pictures / "opt_out.json").read_text()) == {
                "files": [name],
                "dates": {name: today()},
            }
        assert remove(cache, pictures, "--file", name) == 0
        assert layout_of(cache).left_out == (name,)
        assert len(open_cache(cache, {})) == 29
        assert not any(name.encode() in data for data in names_in(cache).values())
        assert not list(cache.glob("*.part"))
    assert 3 < number < 19

"""A forged cache, every checksum of which is right, is refused in one sentence that names the file.

Whoever forges a file can make its checksum right, too. A forger below changes one thing in a small cache that has all
that a cache can have (calibration, latents, index, examples), and seals it anew.
"""

import json
import os
import resource
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from attribution.answer.calibration import Calibration, calibrated_for, write_calibration
from attribution.answer.learning import LearnConfig, learn_weights
from attribution.answer.likeness import write_look_alikes
from attribution.answer.queries import encode
from attribution.attributor import Attributor
from attribution.cache import shards
from attribution.cache.build import build_cache
from attribution.cache.index import Index, build_index
from attribution.cache.site import CacheConfig
from attribution.cache.store import open_cache
from attribution.described import hash_of_tensors, metadata_of
from attribution.errors import InputError
from attribution.files import file_hash, hash_of
from attribution.gradients.ekfac import (
    FILE,
    Preconditioner,
    fit_factors,
    read_factors,
    save_factors,
)
from attribution.gradients.projector import GradientProjector
from attribution.looks.examples import load_examples
from attribution.pictures.collection import Row
from precompute.examples import ExamplesConfig, draw_examples

MOST_MEMORY = 500_000  # kB, by which opening may grow the process


@pytest.fixture(scope="module")
def whole(attributor, tmp_path_factory):
    """The small cache with all that a cache can have."""
    folder = tmp_path_factory.mktemp("whole") / "cache"
    shutil.copytree(attributor.cache.folder, folder)
    model, collection = attributor.model, attributor.collection
    fingerprints = attributor.cache.header["fingerprints"]
    write_look_alikes(folder, encode(model, collection), collection, fingerprints)
    concepts, null = collection.concepts, torch.linspace(-0.1, 0.1, 19)
    calibration = Calibration(null, {c: null.clone() for c in concepts})
    write_calibration(folder, calibration, calibrated_for(model, concepts), {})
    build_index(open_cache(folder, {}))
    few = ExamplesConfig(output_dir=str(folder / "examples"), held_out=1, known=1)
    draw_examples(attributor.with_cache(folder), few)
    return folder


@pytest.fixture
def forged(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "cache")


def open_all(folder, attributor):
    """Open a cache with all that lies beside it, as the page and the steps do."""
    cache = open_cache(folder, attributor.cache.header["fingerprints"])
    opened = Attributor(attributor.model, attributor.collection, cache)
    return opened, load_examples(folder / "examples", opened), Index(cache)


def put(value, *path):
    """Make a change of a tree of dicts and lists; `...` removes."""

    def change(tree):
        for key in path[:-1]:
            tree = tree[key]
        if value is ...:
            del tree[path[-1]]
        else:
            tree[path[-1]] = value

    return change


def seal(folder, change=lambda header: None):
    """Change the header, and make its checksum and those of what it lists right."""
    path = folder / "header.json"
    header = json.loads(path.read_text())
    header.pop("checksum")
    for shard in header["shards"]:
        file = folder / shard["name"]
        if file.is_file():
            shard |= {"bytes": file.stat().st_size, "checksum": file_hash(file)}
    kernel = folder / header["kernel"][0]
    header["kernel"][1] = file_hash(kernel) if kernel.is_file() else "0" * 16
    change(header)
    header["checksum"] = hash_of(header)
    path.write_text(json.dumps(header))
    if (folder / INDEX).is_file():
        told(INDEX, put(hash_of(header["shards"]), "belongs_to", "shards"))(folder)


def header(*changes):
    """Forge the header."""

    def forge(folder):
        for change in changes:
            seal(folder, change)

    return forge


def rows_in(folder, number):
    return shards.rows_of_shard(shards.shard_path(folder, number))


def shard(change=lambda tensors: None, rows=None, about=None, number=1):
    """Forge a shard: change its tensors, name other rows, or write anything in place of the names."""

    def forge(folder):
        path = shards.shard_path(folder, number)
        tensors, names = load_file(path), rows_in(folder, number)
        change(tensors)
        names = rows(folder, names) if rows else names
        text = json.dumps({"rows": [[r.file, r.digest] for r in names], "tensors": "0" * 16})
        save_file(tensors, path, {"about": about or text})
        seal(folder)

    return forge


def kernel(*changes):
    """Forge the kernel's file."""

    def forge(folder):
        path = next(folder.glob("kernel-*"))
        found = load_file(path)
        for change in changes:
            change(found)
        save_file(found, path)
        seal(folder)

    return forge


def tensors(name, *changes, of="tensors"):
    """Forge the tensors of a file that describes itself, or what it tells of them, and make its checksum right."""

    def forge(folder):
        path = folder / name
        found, about = load_file(path), metadata_of(path, "")
        del about["checksum"]
        for change in changes:
            change({"tensors": found, "about": about}[of])
        checksum = hash_of(about | {"tensors": hash_of_tensors(found)})
        save_file(found, path, {"about": json.dumps({"checksum": checksum} | about)})

    return forge


told = partial(tensors, of="about")


def cast(name, kind):
    return lambda found: found.update({name: found[name].to(kind)})


def part(name, cut):
    return lambda found: found.update({name: found[name][cut].contiguous()})


def filled(name, value, place=0):
    def change(found):
        found[name].view(-1)[place] = value

    return change


def gone(name):
    return lambda found: found.pop(name)


def linked(name):
    """Put a link to the very same content in a file's place."""

    def forge(folder):
        path = next(folder.glob(name))
        path.rename(folder.parent / path.name)
        path.symlink_to(folder.parent / path.name)

    return forge


def pipe(name):
    def forge(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return forge


def listed_twice(header):
    header["shards"].append(header["shards"][0])
    header["images"] += header["shards"][0]["rows"]


def one_row_less(header):
    header["shards"][1]["rows"] -= 1
    header["images"] -= 1


def picture_of(size):
    def forge(folder):
        path = folder / "examples/000.png"
        Image.new("RGB", size).save(path)
        told(EXAMPLES, put(file_hash(path), "examples", 0, "checksum"))(folder)

    return forge


BOMB = json.dumps({"rows": [], "tensors": ""})[:-1] + ', "a": [' + "[]," * 6_000_000 + "[]]}"
EXAMPLES, INDEX = "examples/features.safetensors", "rows-index.safetensors"
LATENTS = "rows-latents.safetensors"
FORGERIES = {
    "header.json": {
        "timesteps for 4 GB": header(put(10**9, "features", "timesteps")),
        "timesteps as text": header(put("4", "features", "timesteps")),
        "timesteps as truth": header(put(True, "features", "timesteps")),
        "no range": header(put(0, "features", "ranges")),
        "ranges that do not divide": header(put(3, "features", "ranges")),
        "giant dimension": header(put(10**9, "features", "proj_dim")),
        "no dimension": header(put(0, "features", "proj_dim")),
        "giant seed": header(put(10**400, "features", "seed")),
        "unknown objective": header(put("magic", "features", "objective")),
        "another method's objective": header(put("output_mean", "features", "objective")),
        "other treatment of timesteps": header(put("unit", "features", "each_timestep")),
        "unknown parameters": header(put("some", "features", "parameters")),
        "a feature too many": header(put(1, "features", "more")),
        "a feature too few": header(put(..., "features", "seed")),
        "features as a list": header(put([], "features")),
        "unknown method": header(put("magic", "method")),
        "method as a list": header(put(["d-trak"], "method")),
        "no method": header(put(..., "method")),
        "damping below zero": header(put(-1.0, "damping")),
        "damping that is no number": header(put(float("nan"), "damping")),
        "damping as text": header(put("1", "damping")),
        "unknown dtype": header(put("float64", "dtype")),
        "no groups": header(put([], "groups")),
        "numbers for groups": header(put(list(range(62)), "groups")),
        "a group twice": header(lambda h: h.update(groups=h["groups"][:1] * len(h["groups"]))),
        "no collection": header(put(..., "fingerprints", "collection")),
        "no version": header(put(..., "version")),
        "a version as text": header(put("2", "version")),
        "a wrong sum": header(put(31, "images")),
        "a revision as text": header(put("1", "revision")),
        "a number to be used again": header(put(0, "next_number")),
        "a kernel elsewhere": header(put("../kernel-000001.safetensors", "kernel", 0)),
        "a kernel without checksum": header(put(..., "kernel", 1)),
        "a shard elsewhere": header(put("../features-000001.safetensors", "shards", 1, "name")),
        "a shard twice": header(listed_twice),
        "a shard of minus one row": header(put(-1, "shards", 1, "rows")),
        "shards as numbers": header(put([1, 2], "shards")),
        "no shards": header(put([], "shards"), put(0, "images")),
        "a field too many": header(put("a", "more")),
        "a caption column that is none": header(put(7, "caption_column")),
        "deep JSON": lambda folder: (folder / "header.json").write_text("[" * 10**6),
        "a giant header": lambda folder: (folder / "header.json").write_bytes(b" " * 2**27),
    },
    "features-000001.safetensors": {
        "no norms": shard(gone("norms")),
        "no features": shard(gone("features")),
        "one tensor more": shard(lambda found: found.update(more=torch.zeros(1))),
        "whole numbers": shard(cast("features", torch.int64)),
        "codes where halves should be": shard(cast("features", torch.int8)),
        "wide norms": shard(cast("norms", torch.float64)),
        "flat features": shard(lambda f: f.update(features=f["features"].flatten(1))),
        "fewer groups": shard(part("features", slice(1, None))),
        "fewer norms": shard(part("norms", slice(1, None))),
        "features that are no numbers": shard(filled("features", float("nan"), 5)),
        "infinite features": shard(filled("features", float("inf"), 5)),
        "features beyond norm one": shard(lambda found: found["features"].mul_(1000)),
        "norms that are no numbers": shard(filled("norms", float("nan"))),
        "norms below zero": shard(filled("norms", -1.0)),
        "a row twice in it": shard(rows=lambda _, names: [names[0], *names[:-1]]),
        "a file twice in it": shard(rows=lambda _, n: [replace(n[1], digest="0" * 16), *n[1:]]),
        "the rows of another": shard(rows=lambda folder, _: rows_in(folder, 0)),
        "a name too few": shard(rows=lambda _, names: names[1:]),
        "numbers for names": shard(
            about=json.dumps({"rows": [[n, n] for n in range(8)], "tensors": ""})
        ),
        "another count in the header": header(one_row_less),
        "other bytes in the header": header(put(7, "shards", 1, "bytes")),
        "no names": shard(about="{}"),
        "names that are no JSON": shard(about="x"),
        "names nested deeply": shard(about="[" * 10**6),
        "names for a gigabyte": shard(about=BOMB),
        "a link": linked("features-000001.safetensors"),
        "a pipe": pipe("features-000001.safetensors"),
    },
    "kernel-000001.safetensors": {
        "no gram": kernel(gone("gram")),
        "a narrow gram": kernel(cast("gram", torch.float32)),
        "a wide kernel": kernel(cast("kernel", torch.float64)),
        "fewer blocks": kernel(part("kernel", slice(1, None))),
        "no number": kernel(filled("kernel", float("nan"))),
        "infinity": kernel(filled("gram", float("inf"))),
        "a link": linked("kernel-*.safetensors"),
        "another dimension": header(put(4, "features", "proj_dim")),
        "fewer groups": header(lambda h: h.update(groups=h["groups"][2:])),
    },
    "weights": {
        "no scales": tensors("weights.safetensors", gone("scales")),
        "a scale of zero": tensors("weights.safetensors", filled("scales", 0.0)),
        "weights below zero": tensors("weights.safetensors", filled("style", -1.0)),
        "no number": tensors("weights.safetensors", filled("general", float("nan"))),
        "infinity": tensors("weights.safetensors", filled("general", float("inf"))),
        "one weight less": tensors("weights.safetensors", part("general", slice(1, None))),
        "whole numbers": tensors("weights.safetensors", cast("general", torch.int64)),
        "no general weights": tensors("weights.safetensors", gone("general")),
        "no general question": told("weights.safetensors", put(..., "fit", "general")),
        "questions as a list": told("weights.safetensors", put([], "fit")),
        "a checksum as a number": told("weights.safetensors", put(7, "checksum")),
        "a link": linked("weights.safetensors"),
    },
    "calibration": {
        "no number": tensors("calibration.safetensors", filled("style", float("nan"))),
        "a table": tensors(
            "calibration.safetensors", lambda f: f.update(general=f["general"][None])
        ),
        "no general null": tensors("calibration.safetensors", gone("general")),
        "a null less": tensors("calibration.safetensors", gone("style")),
        "other counts": told("calibration.safetensors", put(7, "pictures", "style")),
        "counts as text": told("calibration.safetensors", put("19", "pictures", "style")),
        "no pictures": told("calibration.safetensors", put({}, "pictures")),
    },
    "latents": {
        "a row less": tensors(LATENTS, part("codes", slice(1, None))),
        "other pictures' size": tensors(LATENTS, part("codes", (..., slice(9)))),
        "numbers with a point": tensors(LATENTS, cast("codes", torch.float32)),
        "other tensors": tensors(LATENTS, lambda f: f.update(a=f.pop("codes"))),
        "a field too few": told(LATENTS, put(..., "belongs_to")),
    },
    "index": {
        "narrow codes": tensors(INDEX, part("codes", (..., slice(9)))),
        "rows of fewer pictures": tensors(INDEX, part("rows", slice(9))),
        "rows of other numbers": tensors(INDEX, cast("rows", torch.int32)),
        "codes of fewer pictures": tensors(INDEX, part("codes", slice(9))),
        "centres that are no numbers": tensors(INDEX, filled("centres", float("nan"))),
        "a turn of another size": tensors(INDEX, part("turn", slice(1))),
        "sums that cannot be": tensors(INDEX, filled("moment", 2.0)),
        "a billion candidates": told(INDEX, put(10**9, "candidates")),
        "candidates as text": told(INDEX, put("5", "candidates")),
        "codes of no numbers": told(INDEX, put([0], "lengths")),
    },
    "examples": {
        "a seed as text": told(EXAMPLES, put("1", "examples", 0, "seed")),
        "a prompt as a list": told(EXAMPLES, put([], "examples", 0, "prompt")),
        "half a character": told(EXAMPLES, put("\ud800", "examples", 0, "prompt")),
        "evidence that is no number": told(
            EXAMPLES, put(float("nan"), "examples", 0, "evidence", "general")
        ),
        "infinite evidence": told(EXAMPLES, put(1e300, "examples", 0, "evidence", "general")),
        "evidence for nothing": told(EXAMPLES, put(1.0, "examples", 0, "evidence", "more")),
        "no general phrase": told(EXAMPLES, put(..., "examples", 0, "phrases", "general")),
        "an unknown question": told(EXAMPLES, put("a", "examples", 0, "phrases", "more")),
        "one example more": told(EXAMPLES, lambda e: e["examples"].append(e["examples"][0])),
        "deep settings": told(EXAMPLES, put([[[[]]]], "settings", "a")),
        "fewer features": tensors(EXAMPLES, part("style", slice(1, None))),
        "features that are no numbers": tensors(EXAMPLES, filled("style", float("nan"))),
        "a question's features missing": tensors(EXAMPLES, gone("style")),
        "a picture for 100 MB": picture_of((6000, 6000)),
        "a linked picture": linked("examples/000.png"),
    },
}


def test_the_forger_alone_changes_nothing(whole, forged, attributor):
    seal(forged)
    shard()(forged)
    tensors("weights.safetensors")(forged)
    told(EXAMPLES)(forged)
    (answer, examples, index), (want, others, _) = (
        open_all(folder, attributor) for folder in (forged, whole)
    )
    assert torch.equal(answer.weights["style"], want.weights["style"])
    for one, other in zip(examples, others, strict=True):
        assert torch.equal(one.answer.scores["general"], other.answer.scores["general"])
    query = answer.feature(7)[None]
    assert len(index.first(query * answer.weights["general"][:, None], 3).places[0]) == 3


@pytest.mark.parametrize(
    ("named", "forgery"), [(file, name) for file, some in FORGERIES.items() for name in some]
)
def test_a_forgery_is_refused_in_one_sentence_that_names_the_file(
    forged, attributor, named, forgery
):
    FORGERIES[named][forgery](forged)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:
        open_all(forged, attributor)
    said = str(caught.value)
    assert named in said or (named == "header.json" and f"{forged} has version" in said)
    assert str(forged) in said
    assert "\n" not in said
    assert len(said) < 600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY


def test_a_million_timesteps_are_more_than_any_model_has(attributor):
    config = attributor.extractor.config
    with pytest.raises(InputError, match="timesteps is 1000000"):
        replace(config, timesteps=10**6)
    assert len(BOMB) > 2**24


def test_images_of_another_collection_are_no_traceback(forged, attributor):
    strange = Row("images/strange.png", "0" * 16)
    shard(rows=lambda _, names: [strange, *names[1:]])(forged)
    with pytest.raises(InputError, match=r"header\.json is of other images than its shards hold"):
        open_cache(forged, {})


def test_a_large_cache_is_refused_when_its_rows_are_read(forged, attributor, monkeypatch):
    monkeypatch.setattr("attribution.cache.store.CHECKED_AT_OPENING", 0)
    shard(rows=lambda folder, _: rows_in(folder, 0))(forged)
    cache = open_cache(forged, {})
    with pytest.raises(InputError, match="holds images that another shard holds"):
        Attributor(attributor.model, attributor.collection, cache)
    shard(gone("norms"), number=2)(forged)
    cache = open_cache(forged, {})
    with pytest.raises(InputError, match=r"features-000002\.safetensors should hold"):
        list(cache.stream())


def test_forged_shards_and_kernels_are_made_anew(forged, attributor, whole):
    shard(cast("features", torch.int64), number=0)(forged)
    shard(rows=lambda folder, _: rows_in(folder, 2))(forged)
    kernel(filled("gram", float("nan")))(forged)
    shutil.copy(forged / "features-000003.safetensors", forged / "features-000009.safetensors")
    config = CacheConfig(timesteps=4, proj_dim=8, shard_size=8)
    build_cache(attributor.model, attributor.collection, forged, config)
    again, want = (open_cache(folder, {}) for folder in (forged, whole))
    place = {row: number for number, row in enumerate(again.rows)}
    assert place.keys() == set(want.rows)
    order = [place[row] for row in want.rows]
    assert torch.allclose(again.features()[order], want.features(), atol=2e-3)
    assert torch.allclose(again.kernel, want.kernel, atol=1e-2)


def test_groups_of_another_model_are_refused_by_whoever_writes(forged, attributor):
    seal(forged, lambda h: h.update(groups=h["groups"][::-1]))
    for write, config in (
        (build_cache, CacheConfig(timesteps=4, proj_dim=8)),
        (learn_weights, LearnConfig(queries=4, top_k=3)),
    ):
        with pytest.raises(InputError, match="other groups than the model"):
            write(attributor.model, attributor.collection, forged, config)


CURVATURES = {
    "no outputs": gone("0:outputs"),
    "a layer more": lambda found: found.update({"9:inputs": found["0:inputs"].clone()}),
    "other sizes": part("0:inputs", slice(1, None)),
    "whole numbers": cast("0:eigenvalues", torch.int64),
    "eigenvalues below zero": filled("0:eigenvalues", -1.0),
    "no number": filled("0:outputs", float("nan")),
}


@pytest.mark.parametrize("change", CURVATURES.values(), ids=CURVATURES)
def test_forged_curvature_is_refused(tmp_path, change):
    torch.manual_seed(0)
    network, inputs = torch.nn.Sequential(torch.nn.Linear(5, 4)), torch.randn(9, 5)
    projector = GradientProjector(network, 3, seed=1)
    losses = [lambda: network(inputs).square().sum(1)]
    save_factors(tmp_path, fit_factors(projector, lambda: iter(losses)), {"model": "one"})
    Preconditioner(projector, read_factors(tmp_path, {"model": "one"}, projector), 0.1)
    with safe_open(tmp_path / FILE, "pt") as file:
        about = file.metadata()
    found = load_file(tmp_path / FILE)
    change(found)
    save_file(found, tmp_path / FILE, about)
    with pytest.raises(InputError, match=r"ekfac\.safetensors"):
        read_factors(tmp_path, {"model": "one"}, projector)


@pytest.mark.parametrize("about", ["[]", "x", "[" * 10**6, '{"model": ["one"]}'])
def test_curvature_that_belongs_to_nothing_is_refused(tmp_path, about):
    save_file({"a": torch.zeros(1)}, tmp_path / FILE, {"about": about})
    with pytest.raises(InputError, match=r"ekfac\.safetensors"):
        read_factors(
            tmp_path, {"model": "one"}, GradientProjector(torch.nn.Linear(5, 4), 3, seed=1)
        )

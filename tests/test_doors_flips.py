"""A bit that flips in any file of a cache is found, or changes no answer; which files are of which kind is said here.

FLIPS, an environment variable, says how many bits of each file are tried, one at a time: 1 by default.
"""

import os
import random
import shutil

import pytest

from attribution.attributor import Attributor
from attribution.cache.index import Index
from attribution.cache.stamps import collection_of
from attribution.errors import InputError
from attribution.looks.examples import load_examples
from precompute.__main__ import main

pytestmark = pytest.mark.slow

FLIPS = int(os.environ.get("FLIPS", "1"))
# what nobody who answers reads: a plot, a lock, the settings that the next run of `gradients` compares; and the
# listing of a collection's files, which is made anew where it is not as it was written
SILENT = {"weights.png", "writing.lock", "settings.json", "rows-stamps.safetensors"}


@pytest.fixture(scope="module")
def whole(attributor, tmp_path_factory):
    """The small cache with all that every step adds to it."""
    folder = tmp_path_factory.mktemp("whole") / "cache"
    shutil.copytree(attributor.cache.folder, folder)
    pictures = str(attributor.collection.folder)
    names = ["--cache_dir", str(folder), "--train_data_dir", pictures]
    names += ["--pretrained_model_name_or_path", attributor.model.name]
    for step in (
        ["calibrate", *names, "--unrelated", "19", "--draws", "19", "--lists", "20"],
        ["likeness", *names],
        ["examples", *names, "--known", "2", "--output_dir", str(folder / "examples")],
        ["index", "--cache_dir", str(folder), "--force", "--candidates", "3"],
    ):
        assert main(step) == 0
    return folder


def answers(attributor, folder):
    """Give all that is read of a cache, as text."""
    collection = collection_of(attributor.collection.folder, folder)
    opened = Attributor(attributor.model, collection, attributor.with_cache(folder).cache)
    index = Index(opened.cache)
    null, lists = opened.calibration, opened.lists
    return str(
        [
            opened.cache.features().tolist(),
            opened.cache.kernel.tolist(),
            {name: each.tolist() for name, each in opened.weights.items()},
            null and [null.unrelated.tolist(), {n: v.tolist() for n, v in null.unshown.items()}],
            null and null.traces is not None and null.traces.tolist(),
            lists and lists.fingerprint,
            opened.look_alikes and opened.look_alikes.codes.tolist(),
            opened.thumbnails and opened.thumbnails.grey.tolist(),
            [index.candidates, index.moment.tolist()],
            [
                (e.prompt, e.image.tobytes(), e.answer.scores["general"].tolist())
                for e in load_examples(folder / "examples", opened)
            ],
        ]
    )


def refusal(attributor, folder, want):
    """Say how a cache is refused; None where it answers as before."""
    try:
        assert answers(attributor, folder) == want, "a flipped bit gives another answer"
    except InputError as error:
        return str(error)
    return None


def test_every_flipped_bit_is_found_or_changes_nothing(attributor, whole, tmp_path):
    want, chance = answers(attributor, whole), random.Random(0)
    files = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file()]
    found: dict[str, list[bool]] = {}
    for name in files:
        data = (whole / name).read_bytes()
        for _ in range(FLIPS if data else 0):
            harmed = bytearray(data)
            harmed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            copy = tmp_path / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(whole, copy)
            (copy / name).write_bytes(harmed)
            said = refusal(attributor, copy, want)
            assert said is None or name.name in said, f"{name}: {said}"
            found.setdefault(str(name), []).append(said is not None)
    silent = {name for name, each in found.items() if not all(each)}
    print("\nwithout effect:", {name: f"{len(found[name]) - sum(found[name])} of {FLIPS}" for name in silent})  # fmt: skip
    assert len(found) > 10
    assert silent <= SILENT

"""A collection that is known is opened without reading a picture, and what changed is read again."""

import json
import os
from dataclasses import replace

import pytest
from PIL import Image

from attribution.cache.stamps import collection_of, read_stamps, write_stamps
from attribution.pictures.collection import load_collection
from attribution.pictures.layout import Layout
from attribution.pictures.listing import Listing
from attribution.pictures.sources import find_source


@pytest.fixture
def folder(tmp_path):
    """Five pictures and their captions."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = []
    for number in range(5):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
        rows.append({"file_name": f"{number}.png", "text": f"number {number}"})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def cache(folder, tmp_path):
    """A folder in which the files' stamps stand."""
    place = tmp_path / "cache"
    place.mkdir()
    write_stamps(place, load_collection(folder))
    return place


def reads(collection):
    """Count the pictures that are read to identify all."""
    read = []

    def noted(file):
        read.append(file)
        return collection.read(file)

    return replace(collection, read=noted).rows, read


def test_what_is_known_is_not_read(folder, cache):
    rows, read = reads(collection_of(folder, cache))
    assert read == []
    assert rows == load_collection(folder).rows


def test_what_changed_is_read_again(folder, cache):
    changed = folder / "3.png"
    Image.new("RGB", (8, 8), (9, 9, 9)).save(changed)
    os.utime(folder / "1.png", ns=(0, 0))
    text = (folder / "metadata.jsonl").read_text().replace("number 4", "another")
    (folder / "metadata.jsonl").write_text(text)
    rows, read = reads(collection_of(folder, cache))
    assert read == ["1.png", "3.png", "4.png"]
    assert rows == load_collection(folder).rows


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "link", "gone"])
def test_damaged_stamps_are_not_used(folder, cache, tmp_path, harm):
    [path] = cache.iterdir()
    data = path.read_bytes()
    path.unlink()
    if harm == "flip":
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif harm == "link":
        (tmp_path / "other").write_bytes(data)
        path.symlink_to(tmp_path / "other")
    elif harm != "gone":
        path.write_bytes(data[:40] if harm == "cut" else b"")
    assert read_stamps(cache) == {}
    rows, read = reads(collection_of(folder, cache))
    assert len(read) == 5
    assert rows == load_collection(folder).rows


@pytest.mark.slow
def test_many_rows_are_listed_in_little_memory(tmp_path, monkeypatch):
    """A listing without files, since so many of them would be the disk's memory, not ours."""
    import resource

    names = [f"images/{number:07d}.png" for number in range(200_000)]
    with (tmp_path / "metadata.jsonl").open("w") as file:
        for name in names:
            file.write(f'{{"file_name": "{name}", "text": "a cat", "artist": "Ann"}}\n')
    known = {"metadata.jsonl": (1, 1)} | dict.fromkeys(names, (1, 1))
    monkeypatch.setattr(
        "attribution.pictures.sources.list_folder", lambda *_: Listing(tmp_path, False, known)
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = find_source(tmp_path, Layout())
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert len(source.entries) == len(names)
    assert megabytes < 300

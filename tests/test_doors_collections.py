"""A collection is exactly what its checked metadata says; whatever else lies in its folder is one sentence or unread."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from attribution.concepts import combinations, full_prompt
from attribution.errors import InputError
from attribution.pictures.collection import load_collection

ASSETS = Path(__file__).parents[1] / "assets"
ROW = {"file_name": "a.png", "text": "a cat"}


@pytest.fixture
def folder(tmp_path):
    """Two pictures and their metadata."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(folder / name)
    describe(folder, ROW, ROW | {"file_name": "b.png"})
    return folder


def describe(folder, *rows):
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def refused(folder, message):
    with pytest.raises(InputError, match=message) as caught:
        load_collection(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_shipped_collection_is_its_metadata_in_the_order_of_file_names():
    lines = (ASSETS / "collection/metadata.jsonl").read_text().splitlines()
    rows = sorted(map(json.loads, lines), key=lambda row: row["file_name"])
    found = load_collection(ASSETS / "collection")
    assert found.files == [row.pop("file_name") for row in rows]
    assert found.captions == [row.pop("text") for row in rows]
    assert found.labels == rows
    assert found.fingerprint() == json.loads((ASSETS / "cache/header.json").read_text())[
        "fingerprints"
    ]["collection"]  # fmt: skip


# What lies beside.


def test_a_second_metadata_file_brings_in_nothing(folder, tmp_path, caplog):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "secret.png")
    inner = folder / "inner"
    inner.mkdir()
    (inner / "link.png").symlink_to(tmp_path / "secret.png")
    shutil.copy(folder / "a.png", inner / "a.png")
    describe(inner, ROW | {"file_name": "link.png"}, ROW)
    assert load_collection(folder).files == ["a.png", "b.png"]
    assert "2 pictures" in caplog.text
    assert "left out" in caplog.text


def test_a_picture_that_is_not_named_is_not_loaded_but_counted(folder, caplog):
    shutil.copy(folder / "a.png", folder / "c.PNG")
    assert load_collection(folder).files == ["a.png", "b.png"]
    assert "1 pictures" in caplog.text


@pytest.mark.parametrize("name", ["test", "train", "validation", "cat"])
def test_folders_named_like_splits_and_classes_are_folders(folder, name):
    (folder / name).mkdir()
    shutil.move(folder / "b.png", folder / name / "b.png")
    describe(folder, ROW, ROW | {"file_name": f"{name}/b.png"})
    found = load_collection(folder)
    assert found.files == ["a.png", f"{name}/b.png"]
    assert found.labels == [{}, {}]


@pytest.mark.parametrize("name", ["metadata.csv", "more.csv", "metadata.parquet", "data.zip"])
def test_other_tables_and_archives_are_not_read(folder, name):
    (folder / name).write_text("file_name,text\nc.png,a dog\n")
    assert load_collection(folder).captions == ["a cat", "a cat"]


def test_a_link_that_leads_out_is_refused_and_one_within_is_its_picture(folder, tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    describe(folder, ROW, ROW | {"file_name": "link.png"})
    refused(folder, "line 2 of .* names 'link.png', which lies outside its folder")
    (folder / "link.png").unlink()
    (folder / "link.png").symlink_to("b.png")
    assert load_collection(folder).files == ["a.png", "b.png"]
    describe(folder, ROW, ROW | {"file_name": "link.png"}, ROW | {"file_name": "b.png"})
    refused(folder, r"line 3 of .* names 'b\.png' again")


# Metadata.


def deep(depth=100_000):
    return b'{"file_name": "a.png", "text": ' + b"[" * depth + b"]" * depth + b"}"


def line(**more):
    return json.dumps(ROW | more).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"file_name": "a.png", "text": "caf\xe9"}', "not UTF-8"),
        (line().decode().encode("utf-16"), "not UTF-8"),
        (line(text="\ud800"), "half a character"),
        (line(artist="\udfff"), "half a character"),
        (line(file_name="\ud800.png"), "half a character"),
        (line(file_name="a\0.png"), r"'a\\x00\.png', which is not there"),
        (line(file_name="a" * 5000), "is not there"),
        (line(file_name="a/" * 5000), "is not there"),
        (line(file_name="loop.png"), "is not there"),
        (line(file_name=""), "is not there"),
        (line(file_name="."), "is not there"),
        (line(file_name="pipe.png"), "is not there"),
        (line(file_name="/etc/passwd"), "outside its folder"),
        (deep(), "nested too deeply"),
        (b'{"file_name": "a.png", "text": "a cat", "text": "a dog"}', "names a key twice"),
        (b'{"file_name": "a.png", "text": "a", "n": ' + b"9" * 5000 + b"}", "not plain JSON"),
        (line(tags=["a", ["b"]]), "has a list in 'tags'"),
        (line(about={"artist": "Ann"}), "has a dict in 'about'"),
        (line(image={"bytes": None, "path": "a.png"}), "has a dict in 'image'"),
        (line(text=["a cat", 1]), "no text in 'text'"),
        (line(text=5.5), "no text in 'text'"),
        (line(text=True), "no text in 'text'"),
        (b"[]", "no text in 'file_name'"),
        (b"null", "no text in 'file_name'"),
        (b"\x00\x01", "not plain JSON"),
        (b"  \n\n", "is empty"),
    ],
)
def test_malformed_metadata_is_one_sentence_that_names_the_line(folder, data, message):
    (folder / "loop.png").symlink_to("loop.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "metadata.jsonl").write_bytes(data)
    refused(folder, message)


def test_labels_of_mixed_kinds_are_their_texts_and_nothing_is_no_label(folder):
    describe(
        folder,
        ROW | {"year": 1990, "artist": None, "image": "x", "signed": True},
        ROW | {"file_name": "b.png", "year": "about 1990", "date": "2020-01-01"},
    )
    first, second = load_collection(folder).labels
    assert first == {"year": "1990", "image": "x", "signed": "True"}
    assert second == {"year": "about 1990", "date": "2020-01-01"}


def test_a_caption_may_hold_any_whole_character(folder):
    caption = "a caf\u00e9\u2028by night \U0001f600\x85"
    text = json.dumps(ROW | {"text": caption}, ensure_ascii=False)
    (folder / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n")
    found = load_collection(folder)
    assert found.captions == [caption]
    assert len(found.rows) == 1


# Concepts and what is held out.

TWO = {"style": {"woodcut": "a woodcut", "neon": "a neon sign"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds no concepts"),
        ('"style"', "holds no concepts"),
        ('{"prompt": 3, "style": {"a": "b", "c": "d"}}', "'prompt' that does not name each"),
        ('{"prompt": "{style} of {subject}", "style": {"a": "b", "c": "d"}}', "not name each"),
        ('{"prompt": "a picture", "style": {"a": "b", "c": "d"}}', "write a sentence with {style}"),
        ('{"prompt": "{style} {style}", "style": {"a": "b", "c": "d"}}', "not name each"),
        ('{"prompt": "{style", "style": {"a": "b", "c": "d"}}', "not name each"),
        ('{"prompt": "{style.x}", "style": {"a": "b", "c": "d"}}', "not name each"),
        ('{"prompt": "{style!r:9999999999}", "style": {"a": "b", "c": "d"}}', "not name each"),
        ("null", "holds no concepts"),
        ('{"style": ["woodcut", "neon"]}', "each value of 'style' a phrase"),
        ('{"style": "woodcut"}', "each value of 'style' a phrase"),
        ('{"style": {"woodcut": "", "neon": "a neon sign"}}', "each value of 'style' a phrase"),
        ('{"style": {"": "a woodcut", "neon": "a neon sign"}}', "each value of 'style' a phrase"),
        ('{"style": {"woodcut": ["a woodcut"], "neon": "x"}}', "each value of 'style' a phrase"),
        ('{"style": {"woodcut": 3, "neon": null}}', "each value of 'style' a phrase"),
        ('{"style": {}}', "fewer than two values"),
        ('{"style": {"woodcut": "a woodcut"}}', "fewer than two values"),
        ('{"style": {"a": "b", "c": "d"}, "style": {"a": "b", "c": "d"}}', "names a key twice"),
        ('{"": {"a": "b", "c": "d"}}', "a concept named ''"),
        ('{"general": {"a": "b", "c": "d"}}', "a concept named 'general'"),
        ('{"scales": {"a": "b", "c": "d"}}', "a concept named 'scales'"),
        ('{"count": {"a": "b", "c": "d"}}', "a concept named 'count'"),
        ('{"style": {"a": "\\ud800", "c": "d"}}', "half a character"),
        ('{"style": ' * 100_000, "nested too deeply"),
        ("{", "not plain JSON"),
        (b'{"style": {"caf\xe9": "a", "b": "c"}}', "not UTF-8"),
        (
            json.dumps({f"c{n}": {str(v): str(v) for v in range(100)} for n in range(9)}),
            "combinations of values",
        ),
    ],
)
def test_malformed_concepts_are_one_sentence(folder, content, message):
    data = content if isinstance(content, bytes) else content.encode()
    (folder / "concepts.json").write_bytes(data)
    refused(folder, message)


@pytest.mark.parametrize(
    "content",
    [
        "{}", "null", "[1]", '["woodcut"]', "[[]]", "[{}]", '[{"style": "oil"}]', '[{"style": null}]',
        '[{"style": ["woodcut"]}]', '[{"style": "neon", "mood": "sad"}]', '[{"mood": "sad"}]',
        '[{"style": "neon", "style": "neon"}]', "[" * 100_000, "[", "\udcff",
    ],
)  # fmt: skip
def test_malformed_held_out_is_one_sentence(folder, content):
    (folder / "concepts.json").write_text(json.dumps(TWO))
    (folder / "held_out.json").write_bytes(content.encode(errors="surrogateescape"))
    refused(folder, r"held_out\.json")


def test_sound_concepts_are_read_as_they_are(folder):
    held_out = [{"style": "neon"}]
    (folder / "concepts.json").write_text(json.dumps(TWO))
    (folder / "held_out.json").write_text(json.dumps(held_out))
    found = load_collection(folder)
    assert (found.concepts, found.held_out) == (TWO, held_out)


def test_concepts_with_names_of_the_owners_are_in_every_prompt(folder):
    own = {"mood": {"sad": "in a sad mood", "merry": "in a merry mood"}, "medium": {"oil": "in oil", "ink": "in ink"}}  # fmt: skip
    for concepts in (own, TWO | own):
        (folder / "concepts.json").write_text(json.dumps(concepts))
        found = load_collection(folder)
        for values in combinations(found, held_out=False, count=8, seed=0):
            phrases = {concept: concepts[concept][value] for concept, value in values.items()}
            assert all(phrase in full_prompt(phrases) for phrase in phrases.values())
    known = {"background": "by the sea", "subject": "a cat", "style": "a woodcut"}
    assert full_prompt(known) == "a woodcut of a cat by the sea"


@pytest.mark.parametrize(
    ("phrases", "prompt"),
    [
        ({"medium": "in oil", "animal": "a cat", "mood": "sad"}, "a photo of a cat in oil, sad."),
        ({"animal": "a cat", "mood": "sad"}, "a photo of a cat, sad."),
        ({"medium": "in oil", "mood": "sad"}, "in oil, sad."),
        ({"mood": "sad"}, "sad."),
        ({}, ""),
    ],
)
def test_the_owners_sentence_leaves_out_what_is_not_named(folder, phrases, prompt):
    own = {name: {"x": "x", "y": "y"} for name in ("animal", "medium", "mood")}
    sentence = "a photo of {animal} {medium}, {mood}."
    (folder / "concepts.json").write_text(json.dumps({"prompt": sentence} | own))
    found = load_collection(folder)
    assert found.concepts == own
    assert full_prompt(phrases, found.sentence) == prompt


def test_values_that_no_picture_shows_are_named_and_labels_of_another_spelling_refused(
    folder, caplog
):
    (folder / "concepts.json").write_text(json.dumps(TWO))
    describe(folder, ROW | {"style": "neon"}, ROW | {"file_name": "b.png"})
    assert load_collection(folder).concepts == TWO
    assert "has the style woodcut" in caplog.text
    describe(folder, ROW | {"style": "Neon"}, ROW | {"file_name": "b.png"})
    refused(folder, "labels of 'style' such as 'Neon', and concepts.json none of them")

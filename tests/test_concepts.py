"""A collection without concepts.json gets a proposal that names what its pictures differ in, with counts."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from attribution.concepts import UNSPACED, named_in
from attribution.pictures.collection import load_collection
from precompute.__main__ import main
from precompute.concepts import from_captions, phrases_of

ASSETS = Path(__file__).parents[1] / "assets"


@pytest.fixture(scope="module")
def shipped():
    return load_collection(ASSETS / "collection")


def test_the_captions_of_the_shipped_collection_give_its_concepts(shipped):
    found = from_captions(shipped.captions)
    for concept, values in shipped.concepts.items():
        assert set(values.values()) <= set(found[concept]), concept


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("a woodcut of a cat in the forest", [("style", "a woodcut"), ("subject", "a cat"), ("background", "in the forest")]),
        ("A cat at night, as a watercolour", [("subject", "a cat"), ("background", "at night"), ("style", "a watercolour")]),
        ("a dog in the style of van gogh", [("subject", "a dog"), ("style", "van gogh")]),
        ("1girl, solo, watercolor", [("subject", "1girl"), ("subject", "solo"), ("subject", "watercolor")]),
        ("", []),
        ("a man with a hat", [("subject", "a man")]),
    ],
)  # fmt: skip
def test_a_phrase_belongs_to_what_the_word_before_it_says(caption, phrases):
    assert phrases_of(caption) == phrases


def world(folder, rows):
    folder.mkdir()
    text = []
    for number, row in enumerate(rows):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
        text.append(json.dumps({"file_name": f"{number}.png"} | row))
    (folder / "metadata.jsonl").write_text("\n".join(text))
    return folder


def test_labels_come_first_and_what_is_written_can_be_read(tmp_path, capsys):
    kinds = [{"medium": m, "animal": a, "artist": f"{n}"} for n in range(4) for m in ("oil", "ink") for a in ("cat", "owl")]  # fmt: skip
    rows = [row | {"text": f"an {row['animal']} in {row['medium']}"} for row in kinds]
    folder = world(tmp_path / "pictures", rows)
    assert main(["concepts", "--train_data_dir", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "8 of 16  animal: an owl" in shown
    found = load_collection(folder)
    assert found.concepts == {
        "medium": {"oil": "oil", "ink": "ink"},
        "animal": {"cat": "an cat", "owl": "an owl"},
    }
    assert found.sentence == "{medium}, {animal}"
    assert main(["concepts", "--train_data_dir", str(folder)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_captions_alone_are_enough_and_nothing_is_said_to_be_nothing(tmp_path, capsys):
    texts = [f"a {m} of a {a}" for m in ("woodcut", "sketch") for a in ("cat", "dog")] * 3
    folder = world(tmp_path / "pictures", [{"text": text} for text in texts])
    assert main(["concepts", "--train_data_dir", str(folder)]) == 0
    found = load_collection(folder)
    assert found.sentence == "{style} of {subject}"
    assert set(found.concepts["style"].values()) == {"a woodcut", "a sketch"}
    shutil.rmtree(folder)
    folder = world(tmp_path / "pictures", [{"text": f"x{n}"} for n in range(9)])
    assert main(["concepts", "--train_data_dir", str(folder)]) == 2
    assert "write concepts.json by hand" in capsys.readouterr().err


VALUES = {
    "style": {
        "art-deco": "an art-deco poster",
        "ukiyo-e": "an ukiyo-e print",
        "Gem\u00e4lde": "ein Gem\u00e4lde",
        "水彩": "水彩",
        "水彩画": "水彩画",
        "สีน้ำ": "สีน้ำ",
    },
    "subject": {
        "sword": "a sword",
        "steel sword": "a steel sword",
        "cat (black)": "a black cat",
        "cat": "a cat",
        "猫": "猫",
        "黑猫": "黑猫",
        "カメラ猫": "カメラ猫",
        "แมว": "แมว",
    },
}


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("an art-deco poster of a cat", {"style": "an art-deco poster", "subject": "a cat"}),
        ("UKIYO-E, a steel sword", {"style": "an ukiyo-e print", "subject": "a steel sword"}),
        ("ein Gema\u0308lde", {"style": "ein Gem\u00e4lde"}),
        ("a black cat at night", {"subject": "a black cat"}),
        ("catwalk, swords", {}),
        ("一只黑猫在水彩画里", {"subject": "黑猫", "style": "水彩画"}),
        ("水彩の猫", {"style": "水彩", "subject": "猫"}),
        ("แมวสีน้ำบนทะเล", {"subject": "แมว", "style": "สีน้ำ"}),
        ("ｶﾒﾗ猫2", {"subject": "カメラ猫"}),
        ("犬", {}),
    ],
)
def test_a_prompt_names_the_longest_value_that_its_words_hold(prompt, named):
    assert named_in(prompt, VALUES) == named


def test_the_browser_knows_the_same_scripts_without_spaces():
    pattern = re.sub(r"\\U000(.{5})", r"\\u{\1}", UNSPACED)
    page = (Path(__file__).parents[1] / "attribution/page/page.js").read_text()
    assert f"/[{pattern}]/gu" in page

"""The judge: what it learns from, what is kept from it, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attribution.errors import InputError
from attribution.pictures.collection import load_collection
from precompute import judge as judges
from precompute.judge import accuracy, judge_of, kept_apart

COLOURS = {
    "red": (220, 30, 30), "green": (30, 200, 60), "blue": (30, 60, 220), "yellow": (230, 220, 40),
    "white": (255, 255, 255), "black": (0, 0, 0), "pink": (240, 130, 180), "cyan": (40, 210, 220),
}  # fmt: skip


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Write an imagefolder of squares in eight colours on plain and striped ground, twenty of each."""
    folder = tmp_path_factory.mktemp("squares")
    rows, rng = [], np.random.default_rng(0)
    for number in range(320):
        colour, ground = list(COLOURS)[number % 8], ("plain", "striped")[number // 8 % 2]
        pixels = np.full((32, 32, 3), 128, np.uint8)
        if ground == "striped":
            pixels[::4] = pixels[1::4] = 60
        x, y = rng.integers(0, 12, 2)
        pixels[y : y + 20, x : x + 20] = COLOURS[colour]
        Image.fromarray(pixels).save(folder / f"{number}.png")
        row = {"file_name": f"{number}.png", "text": f"a {colour} square, {ground}"}
        rows.append(row | {"colour": colour, "ground": ground})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    named = {"colour": {c: c for c in COLOURS}, "ground": {"plain": "plain", "striped": "striped"}}
    (folder / "concepts.json").write_text(json.dumps(named))
    return load_collection(folder)


@pytest.fixture(scope="module")
def judged(squares, tmp_path_factory):
    path = tmp_path_factory.mktemp("judge") / "judge.safetensors"
    return judge_of(squares, (32, 32), path), path


@pytest.mark.slow
def test_it_learns_what_pictures_show_and_is_tested_on_combinations_that_it_never_saw(
    squares, judged
):
    judge, _ = judged
    apart = kept_apart(squares)
    shown = [tuple(row.values()) for row in squares.labels]
    seen = [n for n in range(len(squares)) if n not in apart]
    assert len({shown[n] for n in apart}) == 1
    assert not {shown[n] for n in apart} & {shown[n] for n in seen}
    assert min(accuracy(judge, squares, seen).values()) > 0.9
    assert judge.right == accuracy(judge, squares, sorted(apart))


def test_probabilities_sum_to_one_and_the_likeliest_is_said(squares, judged):
    judge, _ = judged
    images = [squares.image(n) for n in range(6)]
    for concept, each in judge.confidence(images).items():
        assert np.allclose(each.sum(1), 1, atol=1e-5)
        said = [judge.values[concept][n] for n in each.argmax(1)]
        assert said == judge.says(images)[concept]


def test_it_is_trained_once_and_read_afterwards(squares, judged, monkeypatch):
    judge, path = judged
    monkeypatch.setattr(judges, "train", None)  # would fail if it were called
    again = judge_of(squares, (32, 32), path)
    images = [squares.image(n) for n in range(6)]
    assert again.says(images) == judge.says(images)
    assert again.right == judge.right


def test_another_collections_judge_is_refused(squares, judged):
    _, path = judged
    with pytest.raises(InputError, match="another resolution"):
        judge_of(squares, (64, 64), path)


def test_a_collection_without_labels_is_refused(squares, tmp_path: Path):
    (tmp_path / "1.png").write_bytes((squares.folder / "1.png").read_bytes())
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "a square"}\n')
    with pytest.raises(InputError, match="does not say of every picture"):
        judge_of(load_collection(tmp_path), (32, 32), tmp_path / "judge.safetensors")

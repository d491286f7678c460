"""The drawn world: the same twice, nothing held out is shown, captions as people write them."""

import itertools
import json
import shutil
from collections import Counter

import numpy as np
import pytest

from attribution.pictures.collection import load_collection
from precompute.__main__ import main
from precompute.shipped.backgrounds import BACKGROUNDS
from precompute.shipped.captions import caption
from precompute.shipped.claim import claim
from precompute.shipped.collection import draw_one
from precompute.shipped.styles import STYLES
from precompute.shipped.subjects import SUBJECTS
from precompute.shipped.train import TrainConfig, shaped_by

EVERY = list(itertools.product(enumerate(SUBJECTS), enumerate(STYLES), enumerate(BACKGROUNDS)))


@pytest.mark.slow  # draws 630 pictures
def test_a_collection_shows_nothing_that_is_held_out(tmp_path):
    assert main(["collection", "--copies", "1", "--output_dir", str(tmp_path)]) == 0
    drawn = load_collection(tmp_path)
    shown = Counter((r["subject"], r["style"], r["background"]) for r in drawn.labels)
    held_out = {tuple(values.values()) for values in drawn.held_out}
    assert len(shown) == len(drawn) == len(EVERY) - len(held_out)
    assert not held_out & {*shown}
    assert all(set(r) >= {"artist", "license"} for r in drawn.labels)


@pytest.mark.slow  # trains a few steps, and draws the card's 40 samples
def test_a_model_is_trained_on_the_captions_that_are_meant(small_collection, tmp_path):
    pictures = shutil.copytree(small_collection, tmp_path / "pictures")
    lines = [json.loads(line) for line in (pictures / "metadata.jsonl").read_text().splitlines()]
    other = [json.dumps(line | {"named": "zebra crossing"}) for line in lines]
    (pictures / "metadata.jsonl").write_text("\n".join(other))
    argv = ["train", "--train_data_dir", str(pictures), "--output_dir", str(tmp_path / "model")]
    argv += ["--work_dir", str(tmp_path / "work"), "--autoencoder", "assets/model/vae"]
    argv += ["--autoencoder_steps", "2", "--denoiser_steps", "2", "--caption_column", "named"]
    assert main(argv) == 0
    tokens = json.loads((tmp_path / "model/tokenizer/tokenizer.json").read_text())["model"]["vocab"]
    subject = lines[0]["subject"]
    assert any("zebra" in token for token in tokens)
    assert subject in lines[0]["text"]
    assert not any(subject in token for token in tokens)
    assert "--caption_column named" in (tmp_path / "model/README.md").read_text()


def test_a_training_takes_up_its_own_work_and_no_other(small_collection, tmp_path, capsys):
    pictures = shutil.copytree(small_collection, tmp_path / "pictures")
    work, collection = tmp_path / "work", load_collection(pictures)
    claim(work, shaped_by(TrainConfig(autoencoder_steps=1), collection))
    (work / "autoencoder").mkdir()
    more = TrainConfig(autoencoder_steps=1, denoiser_steps=30_000, compiled=True)
    claim(work, shaped_by(more, collection))
    argv = ["train", "--train_data_dir", str(pictures), "--output_dir", str(tmp_path / "model")]
    argv += ["--autoencoder_steps", "1", "--denoiser_steps", "1"]
    for given, different in (("--seed 1", "seed"), ("--resolution 128", "resolution")):
        assert main([*argv, "--work_dir", str(work), *given.split()]) == 2
        assert f"(another {different}); choose another --work_dir" in capsys.readouterr().err
    lines = (pictures / "metadata.jsonl").read_text().splitlines(keepends=True)
    (pictures / "metadata.jsonl").write_text("".join(lines[:-1]))
    assert main([*argv, "--work_dir", str(work)]) == 2
    assert "(another collection)" in capsys.readouterr().err
    (work / "belongs_to.json").unlink()
    assert main([*argv, "--work_dir", str(work)]) == 2
    assert "does not say what its work belongs to" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("style", STYLES)
def test_a_picture_is_drawn_the_same_twice_and_no_two_copies_are_alike(style):
    combination = EVERY[7][0], (list(STYLES).index(style), style), EVERY[7][2]
    (first, row), (again, _), (other, _) = (draw_one(0, combination, copy) for copy in (0, 0, 1))
    assert first.size == (64, 64)
    assert first.tobytes() == again.tobytes() != other.tobytes()
    assert (row["style"], row["artist"]) == (style, STYLES[style][1][0].name)


def test_every_style_has_two_workshops_of_its_own():
    names = [shop.name for _, shops in STYLES.values() for shop in shops]
    assert len({*names}) == len(names) == 20


def test_a_third_of_the_captions_leaves_the_style_out_and_none_names_a_workshop():
    rng = np.random.default_rng(0)
    captions = [
        caption(s, t, b, rng) for ((_, s), (_, t), (_, b)), _ in itertools.product(EVERY, range(3))
    ]
    shops = [shop.name.lower() for _, shops in STYLES.values() for shop in shops]
    assert not any(name in text.lower() for name in shops for text in captions)
    named = [t for _, (_, t), _ in EVERY for _ in range(3)]
    full = sum(style in text for style, text in zip(named, captions, strict=True)) / len(captions)
    assert 0.3 < full < 0.6  # fully named, and some of the free wording
    assert "{" not in "".join(captions)

"""Examples carry the answers that a fresh run gives, are refused where they belong elsewhere, and turn around."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_store import shrunk

from attribution.answer.answer import Answer
from attribution.attributor import Attributor
from attribution.cache.build import build_cache
from attribution.cache.site import CacheConfig
from attribution.described import metadata_of
from attribution.errors import InputError
from attribution.looks.examples import leaning_on, load_examples
from attribution.pictures.collection import load_collection
from precompute.__main__ import main
from precompute.examples import ExamplesConfig, best_recognised, choose, draw_examples

ASSETS = Path(__file__).parents[1] / "assets"


@pytest.fixture(scope="module")
def folder(attributor, tmp_path_factory):
    found = tmp_path_factory.mktemp("examples")
    draw_examples(attributor, ExamplesConfig(output_dir=str(found), held_out=2, known=2))
    return found


@pytest.fixture(scope="module")
def shipped():
    return Attributor.from_pretrained(*(ASSETS / n for n in ("model", "cache", "collection")))


def assert_fresh(example, attributor):
    """An example's answer is what attributing its picture gives now, to rounding."""
    fresh, kept = attributor.attribute(example.image, example.prompt), example.answer
    assert kept.phrases == fresh.phrases
    assert kept.scores.keys() == fresh.scores.keys()
    for name, scores in fresh.scores.items():
        assert torch.allclose(kept.scores[name], scores, atol=1e-3), name
        assert torch.allclose(kept.asked[name], fresh.asked[name], atol=1e-4), name
    if attributor.calibration:
        assert kept.evidence == pytest.approx(fresh.evidence, abs=1e-4)
    assert kept.p_values == pytest.approx(fresh.p_values)


def test_a_judge_chooses_the_drawing_that_it_is_surest_of_in_its_least_sure_concept(
    attributor, monkeypatch
):
    named, model = attributor.collection.concepts, attributor.model
    sure = [[0.9, 0.2, 0.7, 0.8], [0.3, 0.9, 0.6, 0.1], [1.0, 1.0, 1.0, 1.0]]  # [concept, drawing]

    def confidence(images):
        rows = zip(named.items(), sure, strict=True)
        return {c: torch.tensor(row)[:, None].expand(-1, len(v)) for (c, v), row in rows}

    values = {concept: list(values) for concept, values in named.items()}
    judge = SimpleNamespace(values=values, confidence=confidence)
    monkeypatch.setattr("precompute.examples.judge_of", lambda *_: judge)
    wanted = choose(ExamplesConfig(held_out=1, known=2), attributor.collection)
    assert best_recognised(model, attributor.collection, wanted, ExamplesConfig()) == [2, 6, 10]


def test_examples_have_the_answers_of_a_fresh_run(folder, attributor, backwards):
    examples = load_examples(folder, attributor)
    assert len(examples) == 4
    for example in examples:
        assert_fresh(example, attributor)
    for example in load_examples(folder, backwards):
        assert_fresh(example, backwards)


def test_prompt_and_seed_draw_the_very_same_picture(folder, attributor):
    for example in load_examples(folder, attributor):
        assert 0 <= example.seed <= 9_999_999  # what a visitor may ask for
        [again] = attributor.model.generate([example.prompt], [example.seed])
        assert again.tobytes() == example.image.tobytes()
        values = {
            c: v
            for c, phrases in attributor.collection.concepts.items()
            for v, phrase in phrases.items()
            if phrase == example.answer.phrases[c]
        }
        assert example.held_out == (values in attributor.collection.held_out)


def test_the_same_picture_and_words_have_the_same_answer_bit_for_bit(attributor):
    image, prompt = attributor.collection.image(4), "a woodcut of a cat at night"
    one, two = (attributor.attribute(image, prompt) for _ in range(2))
    for name, scores in one.scores.items():
        assert torch.equal(scores, two.scores[name])
    assert one.rank(30) == two.rank(30)
    assert one.artists() == two.artists()


def test_examples_outlive_images_that_are_gone(folder, attributor, tmp_path):
    cache = shutil.copytree(attributor.cache.folder, tmp_path / "cache")
    smaller = shrunk(attributor.collection.folder, tmp_path / "smaller", {2, 9})
    config = CacheConfig(timesteps=4, proj_dim=8, shard_size=8)
    build_cache(attributor.model, load_collection(smaller), cache, config)
    left = Attributor.from_pretrained(attributor.model.name, cache, smaller)
    example = load_examples(folder, left)[0]
    assert len(example.answer.scores["general"]) == 28
    assert_fresh(example, left)


def test_examples_of_another_cache_are_refused(folder, shipped):
    with pytest.raises(InputError, match="belongs to something else"):
        load_examples(folder, shipped)


def test_examples_that_ask_what_has_no_weights_are_refused(folder, attributor):
    poorer = Attributor(attributor.model, attributor.collection, attributor.cache)
    del poorer.weights["style"]
    with pytest.raises(InputError, match="asks for style"):
        load_examples(folder, poorer)


@pytest.mark.parametrize("file", ["features.safetensors", "001.png"])
def test_damaged_and_missing_files_are_refused(folder, attributor, tmp_path, file):
    copy = shutil.copytree(folder, tmp_path / "copy")
    data = bytearray((copy / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / file).write_bytes(data)
    with pytest.raises(InputError, match="run python -m precompute examples"):
        load_examples(copy, attributor)
    (copy / file).unlink()
    with pytest.raises(InputError, match="run python -m precompute examples"):
        load_examples(copy, attributor)


def test_a_changed_prompt_is_refused(folder, attributor, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = copy / "features.safetensors"
    about = metadata_of(path, "")
    about["examples"][0]["prompt"] = "something else"
    save_file(load_file(path), path, {"about": json.dumps(about)})
    with pytest.raises(InputError, match="damaged"):
        load_examples(copy, attributor)


def test_captions_serve_where_no_concept_is_named(attributor, tmp_path):
    plain = shutil.copytree(attributor.collection.folder, tmp_path / "plain")
    for name in ("concepts.json", "held_out.json"):
        (plain / name).unlink()
    other = Attributor.from_pretrained(attributor.model.name, attributor.cache.folder, plain)
    names = ["--pretrained_model_name_or_path", other.model.name, "--train_data_dir", str(plain)]
    names += ["--cache_dir", str(other.cache.folder), "--output_dir", str(tmp_path / "examples")]
    assert main(["examples", *names, "--known", "2"]) == 0
    examples = load_examples(tmp_path / "examples", other)
    assert {e.prompt for e in examples} <= set(other.collection.captions)
    assert [list(e.answer.scores) for e in examples] == [["general"]] * 2
    assert_fresh(examples[1], other)


def test_no_prompt_is_an_example_twice_and_held_out_ones_are_told():
    collection = load_collection(ASSETS / "collection")
    wanted = choose(ExamplesConfig(), collection)
    assert len({prompt for prompt, _, _ in wanted}) == len(wanted) == 96
    held_out = [values for _, values, flag in wanted if flag]
    assert len(held_out) == 60
    assert all(values in collection.held_out for values in held_out)
    nothing = replace(collection, held_out=[])
    assert not any(flag for _, _, flag in choose(ExamplesConfig(), nothing))


def test_the_reverse_question_ranks_answers_by_one_image(attributor):
    rows = torch.tensor([[0.0, 3, 1], [5, 1, 2], [1, 2, 4]])
    collection = attributor.collection
    answers = [Answer({"general": row, "style": -row}, {}, collection) for row in rows]
    assert leaning_on(answers, 0, 2) == [(1, 5.0), (2, 1.0)]
    assert leaning_on(answers, 2, 9, style=1) == [(0, -1.0), (1, -2.0), (2, -4.0)]
    assert leaning_on(answers, 1, 1, general=3, style=1) == [(0, 1.5)]
    assert leaning_on([], 0, 3) == []


def test_the_shipped_examples_agree_with_a_fresh_run(shipped):
    examples = load_examples(ASSETS / "examples", shipped)
    assert len(examples) == 96
    assert_fresh(examples[17], shipped)
    [again] = shipped.model.generate([examples[17].prompt], [examples[17].seed])
    pixels = torch.tensor([list(i.tobytes()) for i in (again, examples[17].image)]).float()
    assert (pixels[0] - pixels[1]).abs().mean() < 1  # of 255; another machine may round otherwise

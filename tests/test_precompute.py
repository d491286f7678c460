"""The steps run end to end on real formats, go on where they stopped, and refuse what does not belong."""

import json
import shutil
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from attribution.attributor import Attributor
from attribution.cache.store import open_cache, read_header
from attribution.errors import InputError
from attribution.files import hash_of
from attribution.gradients.features import FeatureConfig, FeatureExtractor, unit
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import load_collection, open_image
from precompute import weights
from precompute.__main__ import main
from precompute.evaluate import factors
from precompute.evaluate.config import MEASUREMENTS, UNREAD, EvaluateConfig

ASSETS = Path(__file__).parents[1] / "assets"

SETTINGS = ["--timesteps", "4", "--proj_dim", "8", "--shard_size", "8"]


def gradients(model, collection, output, *more):
    names = ["--pretrained_model_name_or_path", str(model), "--train_data_dir", str(collection)]
    return main(["gradients", *names, "--output_dir", str(output), *SETTINGS, *more])


def learn(model, collection, cache):
    names = ["--pretrained_model_name_or_path", str(model), "--train_data_dir", str(collection)]
    return main(["weights", *names, "--cache_dir", str(cache), "--queries", "4", "--top_k", "3"])


@pytest.fixture(scope="module")
def cache(small_model, small_collection, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    assert gradients(small_model, small_collection, folder) == 0
    assert learn(small_model, small_collection, folder) == 0
    return folder


def test_every_linear_and_convolution_has_a_group_in_every_range(cache, small_model):
    model = DiffusionModel.from_pretrained(small_model)
    layers = [
        name
        for name, module in model.pipeline.unet.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
    ]
    header = json.loads((cache / "header.json").read_text())
    assert header["groups"] == [f"{r}:{layer}" for r in range(2) for layer in layers]


def test_no_layer_is_blind(cache):
    assert (open_cache(cache, {}).features().norm(dim=2).amax(0) > 0).all()


@pytest.mark.slow
def test_checkpointing_changes_nothing_and_bf16_little(
    cache, small_model, small_collection, tmp_path
):
    plain = open_cache(cache, {}).features()
    for option, least in (
        (["--gradient_checkpointing"], 0.9999),
        (["--mixed_precision", "bf16"], 0.98),
    ):
        folder = tmp_path / option[0]
        assert gradients(small_model, small_collection, folder, *option) == 0
        found = open_cache(folder, {}).features()
        cosine = torch.nn.functional.cosine_similarity(found, plain, dim=2)
        assert cosine[plain.norm(dim=2) > 0].mean() > least


def test_all_parameters_get_groups_of_their_own(small_model, small_collection, tmp_path):
    assert gradients(small_model, small_collection, tmp_path, "--parameters", "all") == 0
    groups = open_cache(tmp_path, {}).groups
    assert "0:conv_norm_out.weight" in groups
    assert "1:conv_in.bias" in groups
    model = DiffusionModel.from_pretrained(small_model)
    assert len(groups) == 2 * len(list(model.pipeline.unet.parameters()))


def test_features_depend_on_neither_batch_nor_order(small_model, small_collection):
    collection = load_collection(small_collection)
    extractor = FeatureExtractor(
        DiffusionModel.from_pretrained(small_model), FeatureConfig(timesteps=4, proj_dim=8)
    )
    images, captions = [collection.image(i) for i in range(5)], collection.captions[:5]
    together = extractor(images, captions, batch_size=5)
    backwards = extractor(images[::-1], captions[::-1], batch_size=2).flip(0)
    assert torch.allclose(unit(together), unit(backwards), atol=1e-4)


def test_other_settings_are_not_mixed_into_a_cache(cache, small_model, small_collection, capsys):
    assert gradients(small_model, small_collection, cache, "--seed", "5") == 2
    assert "other settings (features)" in capsys.readouterr().err


def test_a_training_image_is_its_own_first_source(cache, small_model, small_collection):
    attributor = Attributor.from_pretrained(small_model, cache, small_collection)
    image, caption = attributor.collection.image(7), attributor.collection.captions[7]
    answer = attributor.attribute(image, caption)
    sources = answer.rank(5)
    assert sources[0].index == 7
    assert [s.rank for s in sources] == [1, 2, 3, 4, 5]
    assert all(a.score >= b.score for a, b in pairwise(sources))
    again = attributor.attribute(image, caption)
    assert all(torch.equal(answer.scores[name], again.scores[name]) for name in answer.scores)


def test_a_mix_is_convex_and_bad_amounts_are_refused(cache, small_model, small_collection):
    attributor = Attributor.from_pretrained(small_model, cache, small_collection)
    answer = attributor.attribute(attributor.collection.image(3), "a cat", {"style": "a woodcut"})
    assert answer.phrases["subject"] == "a cat"
    assert answer.phrases["style"] == "a woodcut"
    half = answer.mix(subject=2, style=2)
    assert torch.allclose(half, (answer.scores["subject"] + answer.scores["style"]) / 2)
    for amounts in ({"style": 0}, {"style": -1}, {"style": float("nan")}, {"mood": 1}):
        with pytest.raises(InputError):
            answer.mix(**amounts)
    with pytest.raises(InputError, match="10000 characters"):
        attributor.attribute(attributor.collection.image(3), "x" * 10_000)


def test_real_pictures_kept_apart_are_asked_about_by_their_own_labels(
    cache, small_model, small_collection, tmp_path, capsys
):
    apart = tmp_path / "apart"
    (apart / "images").mkdir(parents=True)
    rows = [json.loads(x) for x in (small_collection / "metadata.jsonl").read_text().splitlines()]
    for row in rows[:3]:
        shutil.copy(small_collection / row["file_name"], apart / row["file_name"])
    (apart / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    names = ["--pretrained_model_name_or_path", str(small_model), "--cache_dir", str(cache)]
    names += ["--train_data_dir", str(small_collection), "--results", str(tmp_path / "rows.json")]
    assert main(["evaluate", "unnamed", "--json", "--pictures", str(apart), *names]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["factor"] for row in found} == {"style", "artist"}
    assert {row["words"] for row in found} == {"guessed", "none"}
    for row in found:
        assert row["measured_on"] == "3 of 3 real pictures kept apart from training"
        assert 0 <= row["low"] <= row["precision_at_10"] <= row["high"] <= 1
    [own] = [r for r in found if (r["factor"], r["method"]) == ("style", "latents")]
    assert own["precision_at_10"] >= 0.1  # each finds itself among its ten


@pytest.mark.slow
def test_evaluate_prints_one_json_list_and_keeps_the_other_methods_rows(
    cache, small_model, small_collection, tmp_path, capsys
):
    results = tmp_path / "factors.json"
    world = hash_of(read_header(cache)["fingerprints"])[:8]
    old = [{"method": m, "weights": "uniform", "factor": "style", "world": world} for m in ("trak", "d-trak")]  # fmt: skip
    results.write_text(json.dumps(old))
    names = ["--pretrained_model_name_or_path", str(small_model), "--cache_dir", str(cache)]
    names += ["--train_data_dir", str(small_collection), "--results", str(results)]
    assert main(["evaluate", "factors", "--json", "--update", "--queries", "4", *names]) == 0
    out, said = capsys.readouterr()
    can = said.split("can be measured here: ")[1].split(". ")[0].split(", ")
    assert {"factors", "calibration", "regions", "domains", "unlearning", "world"} <= {*can}
    assert "lds (it is about the shipped collection alone)" in said
    rows = json.loads(out)
    assert {row["world"] for row in rows} == {world}
    assert rows == json.loads(results.read_text())
    assert rows[-1] == old[0]
    kinds = {(row["method"], row["weights"], row["factor"]) for row in rows[:-1]}
    concepts = ("subject", "style", "background")
    weighted = {("d-trak", w) for w in ("uniform", "equalised", "general", *concepts)}
    plain = {(name, "none") for name in ("nda", "pixels", "latents", "textures", "captions")}
    plain |= {("caption search", concept) for concept in concepts}
    assert kinds == {(*pair, factor) for pair in weighted | plain for factor in concepts}
    for row in rows[:-1]:
        own = row["method"] == "d-trak" and row["weights"] == row["factor"]
        assert ("wrong_phrase" in row) == own
        assert all(0 <= row[f"precision_at_{k}"] <= 1 for k in (1, 5))
        assert 0 <= row["low"] <= row["precision_at_10"] <= row["high"] <= 1
        assert 0 <= row["chance"] < 1  # the small collection lacks some values


def test_figures_of_another_world_stay_apart(
    cache, small_model, small_collection, tmp_path, capsys, monkeypatch
):
    names = ["--pretrained_model_name_or_path", str(small_model), "--cache_dir", str(cache)]
    names += ["--train_data_dir", str(small_collection), "--work_dir", str(tmp_path)]
    monkeypatch.setattr(factors, "measure", lambda _: [{"method": "d-trak"}])
    assert main(["evaluate", "factors", "--json", "--update", *names]) == 0
    world = hash_of(read_header(cache)["fingerprints"])[:8]
    assert json.loads(capsys.readouterr().out) == [{"method": "d-trak", "world": world}]
    assert (tmp_path / f"results/{world}/factors.json").is_file()
    shipped = ["--results", "benchmarks/results/factors.json"]
    assert main(["evaluate", "factors", "--json", *names, *shipped]) == 2
    assert "figures of another model or collection" in capsys.readouterr().err
    bare = without(small_collection, tmp_path, "held_out.json")
    names[-3] = str(bare)
    assert main(["evaluate", "factors", *names]) == 2
    assert "factors cannot be measured here: no held-out combinations" in capsys.readouterr().err
    assert main(["evaluate", "lds", *names]) == 2
    assert "lds cannot be measured here: it is about" in capsys.readouterr().err


@pytest.mark.slow
def test_a_collection_without_concepts_gets_general_weights(
    cache, small_model, small_collection, tmp_path
):
    bare = without(small_collection, tmp_path, "concepts.json")
    shutil.copytree(cache, tmp_path / "cache")
    assert learn(small_model, bare, tmp_path / "cache") == 0
    attributor = Attributor.from_pretrained(small_model, tmp_path / "cache", bare)
    answer = attributor.attribute(attributor.collection.image(0), "a cat")
    assert list(answer.scores) == ["general"]
    with pytest.raises(InputError, match="no scores for style"):
        answer.rank(3, style=1)


def test_a_cache_of_another_model_or_collection_is_refused(cache):
    with pytest.raises(InputError, match="made for another model"):
        open_cache(cache, {"model": "0" * 16})
    with pytest.raises(InputError, match="made for another collection"):
        open_cache(cache, {"collection": "0" * 16})


def without(folder, tmp_path, name):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    target = copy / name
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    return copy


@pytest.mark.parametrize("part", ["unet", "vae", "model_index.json"])
def test_a_model_without_a_part_is_one_line_and_exit_code_2(
    small_model, small_collection, tmp_path, capsys, part
):
    assert gradients(without(small_model, tmp_path, part), small_collection, tmp_path / "out") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"has no {part}" in error


def test_a_model_folder_that_is_not_there_is_one_line_and_exit_code_2(
    small_collection, tmp_path, capsys
):
    assert gradients(tmp_path / "nowhere", small_collection, tmp_path / "out") == 2
    assert "there is no model folder" in capsys.readouterr().err


def test_a_collection_without_a_picture_is_one_line_and_exit_code_2(
    small_model, small_collection, tmp_path, capsys
):
    part = "images/00000.webp"
    assert gradients(small_model, without(small_collection, tmp_path, part), tmp_path / "out") == 2
    assert part in capsys.readouterr().err


def test_metadata_cannot_reach_outside_its_folder(small_collection, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(small_collection, copy)
    shutil.copy(copy / "images/00000.webp", tmp_path / "secret.png")
    with (copy / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": "../secret.png", "text": "x"}) + "\n")
    with pytest.raises(InputError, match=r"secret\.png"):
        load_collection(copy)


def test_an_image_that_is_named_twice_is_refused(small_collection, tmp_path):
    copy = shutil.copytree(small_collection, tmp_path / "copy")
    lines = (copy / "metadata.jsonl").read_text().splitlines()
    (copy / "metadata.jsonl").write_text("\n".join([*lines, lines[3]]) + "\n")
    with pytest.raises(InputError, match=r"line 31 .* again"):
        load_collection(copy)


@pytest.mark.parametrize(
    "harm",
    [
        "flip",
        "remove",
        "[]",
        (b'damping\\": 1.0', b'damping\\": 2.0'),
        (b'queries\\": 4', b'queries\\": 5'),
    ],
)
def test_damaged_weights_are_refused(cache, small_model, small_collection, tmp_path, harm):
    folder = shutil.copytree(cache, tmp_path / "cache")
    path = folder / "weights.safetensors"
    data = path.read_bytes()
    if harm == "flip":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif harm == "remove":
        path.unlink()
    elif harm == "[]":
        save_file(load_file(path), path, {"about": harm})
    else:
        assert data != data.replace(*harm)
        path.write_bytes(data.replace(*harm))
    with pytest.raises(InputError, match="run python -m precompute weights"):
        Attributor.from_pretrained(small_model, folder, small_collection)


@pytest.mark.slow
def test_captions_of_another_column_are_read_where_the_cache_says(
    small_model, small_collection, tmp_path
):
    other = shutil.copytree(small_collection, tmp_path / "other")
    text = (other / "metadata.jsonl").read_text().replace('"text":', '"caption":')
    (other / "metadata.jsonl").write_text(text)
    folder = tmp_path / "cache"
    assert gradients(small_model, other, folder, "--caption_column", "caption") == 0
    assert learn(small_model, other, folder) == 0
    attributor = Attributor.from_pretrained(small_model, folder, other)
    image, caption = attributor.collection.image(7), attributor.collection.captions[7]
    assert attributor.attribute(image, caption).rank(1)[0].index == 7


def test_quick_draws_few_pictures_only_where_it_is_not_said_how_many(monkeypatch):
    taken = []
    monkeypatch.setattr("precompute.everything.run", taken.append)
    names = ["--pretrained_model_name_or_path", "a", "--train_data_dir", "b", "--output_dir", "c"]
    for given in ([], ["--quick"], ["--quick", "--queries", "128", "--lists", "40"]):
        assert main(["all", *names, *given]) == 0
    found = [(c.queries, c.unrelated, c.draws, c.lists, c.known) for c in taken]
    assert found == [(128, 400, 320, 200, 36), (8, 19, 19, 0, 4), (128, 19, 19, 40, 4)]
    assert {type(number) for each in found for number in each} == {int}


def test_all_makes_whole_caches_and_offers_no_part(capsys):
    with pytest.raises(SystemExit):
        main(["all", "--part", "1/4"])
    assert "unrecognized arguments: --part 1/4" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["all", "--help"])
    assert "--part " not in capsys.readouterr().out


def test_what_a_measurement_does_not_read_is_refused():
    given = {"queries": 3, "pictures": "elsewhere", "seed": 7, "device": "cuda"}
    assert given.keys() == UNREAD.keys()
    for what, name in product(MEASUREMENTS, given):
        source = (ASSETS.parent / f"precompute/evaluate/{what}.py").read_text()
        assert (what in UNREAD[name]) == (f"config.{name}" not in source), (what, name)
        if what in UNREAD[name]:
            with pytest.raises(InputError, match=f"{what} does not read --{name}; leave it out"):
                EvaluateConfig(what, **{name: given[name]})
        else:
            EvaluateConfig(what, **{name: given[name]})


def test_bad_settings_are_one_line_and_exit_code_2(capsys):
    assert main(["gradients", "--timesteps", "5", "--ranges", "2"]) == 2
    assert "do not divide" in capsys.readouterr().err
    assert main(["gradients", "--method", "magic"]) == 2
    assert "choose one of d-trak" in capsys.readouterr().err


@pytest.mark.slow
def test_training_writes_a_pipeline_that_plain_diffusers_loads(small_collection, tmp_path):
    steps = ["--autoencoder_steps", "3", "--denoiser_steps", "4"]
    folders = ["--output_dir", str(tmp_path / "model"), "--work_dir", str(tmp_path / "work")]
    assert main(["train", "--train_data_dir", str(small_collection), *steps, *folders]) == 0
    assert not list((tmp_path / "model").rglob("*.bin"))
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model")
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a cat", num_inference_steps=2).images[0].size == (64, 64)
    assert (tmp_path / "model/README.md").read_text().count("PSNR") == 1
    assert open_image(tmp_path / "model/curves.png").size[0] > 100


def test_too_little_memory_is_a_sentence_and_no_other_fault_is(monkeypatch, capsys):
    def fail(kind):
        def run(_):
            raise kind("CUDA out of memory. Tried to allocate 2 GiB")

        return run

    monkeypatch.setattr(weights, "run", fail(torch.OutOfMemoryError))
    assert main(["weights"]) == 2
    said = capsys.readouterr().err
    assert "--device cpu" in said
    assert said.count("\n") == 1
    monkeypatch.setattr(weights, "run", fail(RuntimeError))
    with pytest.raises(RuntimeError):
        main(["weights"])

"""Every base method runs from pictures to ranked images, and does what its row of the table says."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from attribution.answer.answer import standardise
from attribution.answer.damping import GRID
from attribution.answer.learning import LearnConfig, learn_weights
from attribution.answer.queries import Query, questions
from attribution.answer.questions import query_features
from attribution.attributor import Attributor
from attribution.cache.build import build_cache
from attribution.cache.site import CacheConfig
from attribution.cache.store import open_cache
from attribution.errors import InputError
from attribution.gradients.curvature import ensure_factors
from attribution.gradients.ekfac import FILE
from attribution.gradients.features import FeatureConfig, FeatureExtractor, unit
from attribution.gradients.kernel import BLOCK, EKFAC, IDENTITY, fit_kernel
from attribution.gradients.methods import CONTRAST, METHODS, PATH, concept_loss, denoising_loss
from attribution.gradients.trials import same
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.pictures.collection import load_collection
from precompute.__main__ import main
from precompute.evaluate.factors import check

ASSETS = Path(__file__).parents[1] / "assets"
SAME_SHARDS = ("trak", "tracin", "journey-trak", "ekfac", "concept-trak")
LEFT_OPEN = ("journey-trak", "ekfac")  # methods that are tried with a strength to be chosen


def make(method, model, collection, folder, damping):
    config = CacheConfig(method, timesteps=2, proj_dim=6, factor_images=6, damping=damping)
    build_cache(model, collection, folder, config)


@pytest.fixture(scope="module")
def model(small_model):
    return DiffusionModel.from_pretrained(small_model)


@pytest.fixture(scope="module")
def collection(small_collection):
    return load_collection(small_collection)


@pytest.fixture(scope="module")
def pictures(collection):
    return [collection.image(i) for i in range(3)], collection.captions[:3]


@pytest.fixture(scope="module")
def shared(model, collection, tmp_path_factory):
    folder = tmp_path_factory.mktemp("loss")
    make("trak", model, collection, folder, 0.0)
    return folder


EVERY = [  # d-trak is test_precompute.py's
    pytest.param(m, marks=() if m == "trak" else pytest.mark.slow) for m in METHODS if m != "d-trak"
]


@pytest.mark.parametrize("method", EVERY)
def test_every_method_answers(method, shared, model, collection, tmp_path):
    folder = tmp_path / "cache"
    damping = 0.0 if method in LEFT_OPEN else 0.1
    if method in SAME_SHARDS:
        shutil.copytree(shared, folder)
    make(method, model, collection, folder, damping)
    if method in SAME_SHARDS:
        [shard] = folder.glob("features-*")
        assert shard.read_bytes() == (shared / shard.name).read_bytes()
    learn_weights(model, collection, folder, LearnConfig(queries=2, top_k=3))
    cache = open_cache(folder, {})
    header = cache.header
    assert header["damping"] == damping or method in LEFT_OPEN
    if method in LEFT_OPEN:
        losses = {float(k): v for k, v in header["damping_losses"].items()}
        assert set(losses) == set(GRID)
        assert header["damping"] in [k for k in GRID if losses[k] == min(losses.values())]
    attributor = Attributor(model, collection, cache)
    answer = attributor.attribute(
        collection.image(7), collection.captions[7], {"style": "a woodcut"}
    )
    assert set(answer.scores) == {"general", "subject", "style", "background"}
    assert all(torch.isfinite(scores).all() for scores in answer.scores.values())
    if method in LEFT_OPEN:
        before = (folder / "header.json").read_bytes()
        make(method, model, collection, folder, 0.0)
        assert (folder / "header.json").read_bytes() == before  # what was chosen stays


def test_every_method_names_its_source_and_known_rules():
    assert set(METHODS) >= {
        "d-trak", "trak", "tracin", "journey-trak", "das", "ekfac", "concept-trak",
    }  # fmt: skip
    for name, method in METHODS.items():
        assert method.name == name
        assert "arXiv" in method.source
        assert method.kernel in (BLOCK, IDENTITY, EKFAC)


def test_the_shipped_caches_settings_are_those_of_its_method_to_the_byte():
    header = json.loads((ASSETS / "cache/header.json").read_text())
    config = FeatureConfig(**header["features"])
    assert json.dumps(config.recorded()) == json.dumps(header["features"])
    assert FeatureConfig(**FeatureConfig(each_timestep="unit").recorded()).each_timestep == "unit"


def test_unit_timesteps_are_averaged_after_scaling(model, pictures):
    single = FeatureExtractor(model, FeatureConfig(timesteps=4, ranges=4, proj_dim=6))
    scaled = FeatureExtractor(
        model, FeatureConfig(timesteps=4, ranges=2, proj_dim=6, each_timestep="unit")
    )
    each = unit(single(*pictures)).unflatten(1, (2, 2, -1))  # [image, range, step, layer, dim]
    assert torch.allclose(scaled(*pictures), each.mean(2).flatten(1, 2), atol=1e-4)


def test_paired_features_sum_what_the_timesteps_contribute_each_by_itself(model, pictures):
    sizes = {"timesteps": 4, "proj_dim": 6, "each_timestep": "paired"}
    single = FeatureExtractor(model, FeatureConfig("denoising_loss", ranges=4, **sizes))
    paired = FeatureExtractor(model, FeatureConfig("denoising_loss", ranges=2, **sizes))
    each = unit(single(*pictures)).double().unflatten(1, (2, 2, -1))  # [image, range, step, layer]
    found = paired(*pictures).double()
    assert found.shape == (3, len(paired.groups), paired.config.dim)
    size = single(*pictures).double().unflatten(1, (2, 2, -1)).norm(dim=(2, 4)).flatten(1)
    assert torch.allclose(found.norm(dim=-1), size, rtol=1e-4)
    found = unit(found)
    for query in range(3):
        want = sum((each[query, :, step] * each[:, :, step]).sum(-1) for step in range(2))
        got = 2 * (found[query] * found).sum(-1)
        assert torch.allclose(got, want.flatten(1), atol=1e-4)


def test_shared_noise_knows_no_picture_and_own_noise_nothing_but_its_pixels(model, collection):
    image = collection.image(0)
    other = image.point(lambda value: value + (value < 255))  # a grey level up
    steps, seen = torch.tensor([10, 900]), Encoded(model, [image, image.copy(), other])
    first, again, brighter = seen.noise(3, steps, shared=True).split(2)
    assert torch.equal(first, again)
    assert torch.equal(first, brighter)
    assert not torch.equal(*first)
    assert torch.equal(Encoded(model, [other]).noise(3, steps, shared=True), first)
    assert not torch.equal(Encoded(model, [other]).noise(4, steps, shared=True), first)
    own, again, brighter = seen.noise(3, steps).split(2)
    assert torch.equal(own, again)
    assert not torch.equal(own, brighter)
    assert not torch.equal(own, first)


def test_curvature_under_other_noise_is_estimated_anew(model, collection, tmp_path):
    own, paired = (
        FeatureExtractor(model, FeatureConfig("denoising_loss", 2, 2, 6, each_timestep=rule))
        for rule in ("mean", "paired")
    )
    kept = []
    for extractor in (own, own, paired, paired):
        ensure_factors(tmp_path, collection, extractor, 2)
        kept.append((tmp_path / FILE).read_bytes())
    assert kept[0] == kept[1] != kept[2] == kept[3]


def test_das_rows_are_as_long_as_the_residual_and_its_queries_as_one(model, pictures):
    config = FeatureConfig(
        "output_mean", timesteps=2, ranges=2, proj_dim=6, each_timestep="unit", residual=True
    )
    extractor = FeatureExtractor(model, config)
    trials = extractor.trials(Encoded(model, pictures[0]), pictures[1])
    with torch.no_grad():
        error = trials.target - trials.predict(model)
    residual = error.square().mean((1, 2, 3)).sqrt().view(3, 2, 1)
    norms = extractor(*pictures).norm(dim=2).unflatten(1, (2, -1))
    seen = norms > 0
    assert seen.float().mean() > 0.9
    assert torch.allclose(norms, residual * seen, rtol=1e-4)
    asked = (
        extractor.query(Encoded(model, pictures[0]), pictures[1]).norm(dim=2).unflatten(1, (2, -1))
    )
    assert torch.allclose(asked, seen.float(), rtol=1e-4)


@pytest.mark.parametrize("rule", [PATH, CONTRAST])
def test_queries_depend_on_neither_batch_nor_order(model, pictures, rule):
    images, prompts = pictures
    extractor = FeatureExtractor(
        model, FeatureConfig("denoising_loss", timesteps=4, proj_dim=6), rule
    )
    together = extractor.query(Encoded(model, images), prompts, batch_size=3)
    backwards = extractor.query(Encoded(model, images[::-1]), prompts[::-1], batch_size=2).flip(0)
    assert torch.allclose(unit(together), unit(backwards), atol=1e-3)
    assert not torch.allclose(unit(together), unit(extractor(images, prompts)), atol=1e-2)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_estimates_make_the_noisy_latents_again(small_model, kind):
    model = DiffusionModel.from_pretrained(small_model)
    model.pipeline.scheduler.register_to_config(prediction_type=kind)
    noisy = torch.randn(3, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([10, 400, 900])
    output = model.predict(noisy, timesteps, model.conditions(["a cat"] * 3))
    clean, noise = model.schedule.estimate(noisy, output, timesteps)
    assert torch.allclose(model.schedule.add_noise(clean, noise, timesteps), noisy, atol=1e-4)
    assert torch.allclose(model.schedule.target(clean, noise, timesteps), output, atol=1e-4)


def test_the_first_trial_on_the_path_noises_the_models_idea_of_the_picture(model, pictures):
    config = FeatureConfig("denoising_loss", timesteps=4, proj_dim=6)
    extractor = FeatureExtractor(model, config, PATH)
    seen, schedule = Encoded(model, pictures[0]), model.schedule
    path, plain = (extractor.trials(seen, pictures[1], rule) for rule in (PATH.trials, same))
    latents, conditions = model.latents(pictures[0]), model.conditions(pictures[1])
    here = extractor.timesteps[:1].expand(3)
    with torch.no_grad():
        _, noise = schedule.estimate(latents, model.predict(latents, here, conditions), here)
        state = schedule.add_noise(latents, noise, here)
        clean, _ = schedule.estimate(state, model.predict(state, here, conditions), here)
    keyed = Encoded(model, pictures[0]).noise(config.seed, extractor.timesteps)[::4]
    assert torch.allclose(path.noisy[::4], schedule.add_noise(clean, keyed, here), atol=1e-4)
    assert not torch.allclose(path.noisy, plain.noisy, atol=1e-2)


def test_the_contrast_pulls_as_the_denoising_loss_of_an_image_of_the_concept_does():
    generator = torch.Generator().manual_seed(0)
    wordless = torch.randn(2, 3, 4, 4, generator=generator)
    output = torch.randn(2, 3, 4, 4, generator=generator, requires_grad=True)
    further = (2 * output - wordless).detach()  # as far again from no words to the concept
    pull = torch.autograd.grad(concept_loss(output, wordless).sum(), output)[0]
    want = torch.autograd.grad(denoising_loss(output, further).sum(), output)[0]
    assert torch.allclose(pull, want / 2, atol=1e-6)


def test_nothing_is_subtracted_where_the_objective_is_the_contrast(model, pictures, monkeypatch):
    config = FeatureConfig("denoising_loss", timesteps=2, proj_dim=6, each_timestep="unit")
    images, words = pictures[0], ["a cat"] * 3
    contrast = FeatureExtractor(model, config, CONTRAST)
    seen = Encoded(model, images)
    want = unit(contrast.query(seen, words))
    asked, query = [], contrast.query
    monkeypatch.setattr(contrast, "query", lambda *given: asked.append(given[1]) or query(*given))
    found = query_features(contrast, seen, {"subject": words})["subject"]
    assert torch.allclose(found, want, atol=1e-5)
    assert asked == [words]  # under no words the contrast is zero, to rounding
    plain = FeatureExtractor(model, config)
    found = query_features(plain, seen, {"subject": words})["subject"]
    want = unit(plain.query(seen, words)) - unit(plain.query(seen, [""] * 3))
    assert torch.allclose(found, want, atol=1e-5)


def test_a_contrast_with_no_words_and_constant_scores_are_refused(model, pictures):
    config = FeatureConfig("denoising_loss", timesteps=2, proj_dim=6)
    silent = FeatureExtractor(model, config, CONTRAST).query(Encoded(model, pictures[0]), [""] * 3)
    assert not silent.any()
    for scores in (torch.zeros(2, 5), torch.full((1, 5), 3.0), torch.full((1, 5), torch.nan)):
        with pytest.raises(InputError, match="every training image scores the same"):
            standardise(scores)


def test_a_kernel_without_damping_is_refused_and_a_silent_group_is_harmless():
    features = torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(0)).double()
    features[1] = 0
    gram = features.mT @ features
    with pytest.raises(InputError, match="must be above zero"):
        fit_kernel(gram, 20, 0.0)
    assert torch.isfinite(fit_kernel(gram, 20, 0.1)).all()


def test_bad_settings_are_refused(collection, small_collection, capsys):
    for value in ("-1", "nan", "inf"):
        assert main(["gradients", "--damping", value]) == 2
        assert "it must be above zero" in capsys.readouterr().err
    with pytest.raises(InputError, match="choose mean, unit or paired"):
        FeatureConfig(each_timestep="first")
    few = load_collection(small_collection)
    object.__setattr__(few, "files", few.files[:9])
    with pytest.raises(InputError, match="9 images; precision at 10"):
        check(few)
    few = load_collection(small_collection)
    few.labels[3].pop("style")
    with pytest.raises(InputError, match="lacks the column 'style'"):
        check(few)


def test_a_query_that_names_no_value_of_a_concept_is_refused(model, collection):
    extractor = FeatureExtractor(model, FeatureConfig(timesteps=2, proj_dim=6))
    query = Query(collection.image(0), {"style": "woodcut"}, "a woodcut")
    with pytest.raises(InputError, match="1 of 1 queries name no subject"):
        questions(extractor, collection, [query])

"""Features are those of the schedule a model was trained with, whichever sampler was saved with it."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from attribution.answer.queries import Query
from attribution.errors import InputError
from attribution.gradients.features import FeatureConfig, FeatureExtractor
from attribution.gradients.methods import PATH
from attribution.models.configs import SAMPLERS
from attribution.models.diffusion import DiffusionModel, copy_of
from attribution.models.encoded import Encoded
from attribution.pictures.collection import load_collection
from precompute.evaluate.baselines import baseline_scores
from precompute.evaluate.truth.study import Study

pytestmark = pytest.mark.slow

NO_SDE = not diffusers.utils.is_torchsde_available()
HERE = [name for name in SAMPLERS if name != "DPMSolverSDEScheduler" or not NO_SDE]
PREDICTIONS = ("epsilon", "v_prediction")
FLOW = (
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "FlowMatchLCMScheduler",
)
OTHERS = ("EDMEulerScheduler", "IPNDMScheduler", "UnCLIPScheduler")


def saved_with(small_model, folder, name, keep=True, **settings):
    """Copy the model with another scheduler, saved as diffusers saves it, and set some of its settings by hand."""
    shutil.copytree(small_model, folder)
    kind = getattr(diffusers, name)
    config = json.loads((folder / "scheduler/scheduler_config.json").read_text()) if keep else {}
    shutil.rmtree(folder / "scheduler")
    kind.from_config(config).save_pretrained(folder / "scheduler")
    path = folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", name]}))
    return folder


@pytest.fixture(scope="module")
def pictures(small_collection):
    collection = load_collection(small_collection)
    return [collection.image(i) for i in range(2)], collection.captions[:2]


@pytest.fixture(scope="module")
def extractors(small_model):
    """Features of pictures as noised, and along their own paths, which asks for the model's estimates."""
    model = DiffusionModel.from_pretrained(small_model)
    config = FeatureConfig("denoising_loss", timesteps=2, ranges=2, proj_dim=4)
    plain = FeatureExtractor(model, config)
    path = copy.copy(plain)
    path.rule = PATH
    return plain, path


def sampled_by(extractors, name, kind, folder):
    """Give the model with another scheduler, saved and loaded as diffusers does it."""
    model, sampler = extractors[0].model, getattr(diffusers, name)
    config = dict(model.pipeline.scheduler.config) | {"prediction_type": kind}
    sampler.from_config(config).save_pretrained(folder)
    parts = model.pipeline.components | {"scheduler": sampler.from_pretrained(folder)}
    pipeline = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return replace(model, pipeline=pipeline)


def features(extractors, model, pictures):
    found = []
    for extractor in extractors:
        other = copy.copy(extractor)
        other.model = model
        found.append(other.query(Encoded(model, pictures[0]), pictures[1]))
    return torch.stack(found)


@pytest.fixture(scope="module")
def right(extractors, pictures, tmp_path_factory):
    """Features of the model saved with the scheduler that trainers use, for each prediction type."""
    folder = tmp_path_factory.mktemp("right")
    models = {kind: sampled_by(extractors, "DDPMScheduler", kind, folder) for kind in PREDICTIONS}
    return {kind: features(extractors, model, pictures) for kind, model in models.items()}


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("name", HERE)
def test_features_are_equal_under_every_sampler_before_and_after_a_drawing(
    name, kind, extractors, pictures, right, tmp_path
):
    model = sampled_by(extractors, name, kind, tmp_path)
    assert torch.equal(features(extractors, model, pictures), right[kind])
    told = []
    drawn = model.generate(["a cat", "a dog"], [5, 6], 4, on_step=lambda *done: told.append(done))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    [alone] = model.generate(["a dog"], [6], steps=4)
    assert np.abs(np.asarray(alone, float) - np.asarray(drawn[1], float)).mean() < 1
    assert np.abs(np.asarray(drawn[0], float) - np.asarray(drawn[1], float)).mean() > 1
    assert torch.equal(features(extractors, model, pictures), right[kind])


@pytest.mark.parametrize(
    "settings",
    [
        {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"rescale_betas_zero_snr": True},
        {"trained_betas": [0.001 + i * 1e-4 for i in range(100)], "num_train_timesteps": 100},
        {"num_train_timesteps": 500},
    ],
    ids="-".join,
)
@pytest.mark.parametrize(
    "name", ["DDIMScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler"]
)
def test_what_decides_training_carries_over_from_the_samplers_config(
    name, settings, small_model, tmp_path
):
    folder = saved_with(small_model, tmp_path / "model", name, **settings)
    model = DiffusionModel.from_pretrained(folder)
    want = signal(json.loads((folder / "scheduler/scheduler_config.json").read_text()))
    model.generate(["a cat"], [0], steps=3)
    assert model.num_timesteps == len(want)
    assert np.allclose(model.schedule.signal, want, atol=1e-5)
    timesteps = torch.tensor([3, 40, 99])
    clean, noise = torch.randn(2, 3, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    level = torch.from_numpy(want)[timesteps].float().view(-1, 1, 1, 1)
    noisy = level.sqrt() * clean + (1 - level).sqrt() * noise
    velocity = level.sqrt() * noise - (1 - level).sqrt() * clean
    assert torch.allclose(model.schedule.add_noise(clean, noise, timesteps), noisy, atol=1e-4)
    assert torch.allclose(model.schedule.target(clean, noise, timesteps), velocity, atol=1e-4)


def signal(config):
    """The slow, plain way to the products of 1 - beta, in float64."""
    first, last = config["beta_start"], config["beta_end"]
    count, kind = config["num_train_timesteps"], config["beta_schedule"]
    if config.get("trained_betas"):
        betas = np.array(config["trained_betas"])
    elif kind == "linear":
        betas = np.linspace(first, last, count)
    elif kind == "scaled_linear":
        betas = np.linspace(first**0.5, last**0.5, count) ** 2
    else:
        level = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - level[1:] / level[:-1], 0.999)
    levels = np.cumprod(1 - betas)
    if config.get("rescale_betas_zero_snr"):  # Lin et al. (arXiv 2305.08891), algorithm 1
        root = levels**0.5
        levels = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return levels


@pytest.mark.parametrize(
    "name", ["HeunDiscreteScheduler", "LCMScheduler", "KDPM2DiscreteScheduler"]
)
def test_a_setting_that_the_config_leaves_out_is_the_samplers_own(name, small_model, tmp_path):
    folder = saved_with(small_model, tmp_path / "model", name, keep=False)
    path = folder / "scheduler/scheduler_config.json"
    whole = json.loads(path.read_text())
    left_out = ("beta_start", "beta_end", "beta_schedule")
    path.write_text(json.dumps({k: v for k, v in whole.items() if k not in left_out}))
    model = DiffusionModel.from_pretrained(folder)
    assert np.allclose(model.schedule.signal, signal(whole), atol=1e-5)


@pytest.mark.parametrize("name", [*FLOW, *OTHERS])
def test_schedulers_of_other_kinds_of_models_are_refused_in_one_sentence(
    name, small_model, tmp_path
):
    folder = saved_with(small_model, tmp_path / "model", name, keep=False)
    refused(folder, f"{name}.*save the pipeline with one of DDIMParallel, DDIM, ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_flow_sigmas": True, "prediction_type": "flow_prediction"}, "flow-matching"),
        ({"use_flow_sigmas": True}, "flow-matching"),
        (
            {"prediction_type": "original"},
            "predicts original; epsilon, v_prediction, sample are known",
        ),
        ({"beta_schedule": "exp"}, "beta_schedule exp"),
        ({"num_train_timesteps": 10**9}, "at most 1000000"),
        ({"num_train_timesteps": 10**6}, "25 to 100000 are supported"),
        ({"num_train_timesteps": 3}, "25 to 100000 are supported"),
        ({"num_train_timesteps": True}, "25 to 100000 are supported"),
        ({"num_train_timesteps": "1000"}, "25 to 100000 are supported"),
        ({"beta_start": float("nan")}, "beta_start nan"),
        ({"beta_end": 7}, "beta_end 7; it must be at least 0 and below 1"),
        ({"trained_betas": [0.1]}, "no list of 1000 numbers"),
        ({"trained_betas": ["x"] * 1000}, "trained_betas x"),
        ({"solver_order": 10**9}, "solver_order 1000000000"),
        (
            {"steps_offset": 5000, "timestep_spacing": "leading"},
            "no diffusers pipeline could be loaded",
        ),
        ({"timestep_spacing": "odd"}, "no diffusers pipeline could be loaded"),
        ({"trust_remote_code": True}, "asks for code of its own"),
    ],
)
def test_settings_that_no_training_has_are_refused_in_one_sentence(
    settings, message, small_model, tmp_path
):
    refused(saved_with(small_model, tmp_path / "model", "DDIMScheduler", **settings), message)


def test_a_sampler_that_is_not_installed_is_refused_in_one_sentence(small_model, tmp_path):
    if not NO_SDE:
        pytest.skip("torchsde is installed")
    folder = tmp_path / "model"
    saved_with(small_model, folder, "DDIMScheduler")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "DPMSolverSDEScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    refused(folder, "torchsde")


def refused(folder, message):
    with pytest.raises(InputError, match=message) as caught:
        DiffusionModel.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_the_study_and_the_baselines_take_their_noise_from_training(
    small_model, small_collection, tmp_path
):
    found = []
    for name in ("DDIMScheduler", "DPMSolverMultistepScheduler"):
        folder = saved_with(small_model, tmp_path / name, name)
        study = Study.open(folder, small_collection)
        study.model.generate(["a cat"], [0], steps=3)
        images, prompts = [study.collection.image(0)], ["a cat"]
        losses = study.losses(study.model.pipeline.unet, images, prompts)
        queries = [Query(images[0], {}, "a cat")]
        name, scores = next(baseline_scores(study.model, study.collection, queries))
        assert name == "nda"
        found.append((losses, scores))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_no_method_asks_the_sampler():
    root = Path(__file__).parents[1]
    for path in [*root.glob("attribution/**/*.py"), *root.glob("precompute/**/*.py")]:
        for line in path.read_text().splitlines():
            for asked in ("add_noise", "get_velocity", "alphas_cumprod", "prediction_type"):
                assert f"pipeline.scheduler.{asked}" not in line, path


def test_a_copy_keeps_the_schedule_of_training(small_model, tmp_path):
    folder = saved_with(small_model, tmp_path / "model", "UniPCMultistepScheduler")
    model = DiffusionModel.from_pretrained(folder)
    model.generate(["a cat"], [0], steps=3)
    copied = copy_of(model).schedule.signal
    assert torch.equal(copied, model.schedule.signal)

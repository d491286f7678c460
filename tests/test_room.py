"""What a batch takes on paper is what it takes; what does not fit is told before it is loaded, with what would."""

import dataclasses
import functools

import pytest
import torch
from families import FAMILIES, prompts_of, saved, size_for
from PIL import Image
from test_adapters import train_lora
from worlds import WORLDS

from attribution.gradients.features import FeatureExtractor
from attribution.gradients.memory import Counted, bytes_beside_parameters, parameters_of
from attribution.gradients.methods import FeatureConfig
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.models.parts import parameter_bytes
from precompute.__main__ import main
from precompute.room import Need, Way, need_of, told

CONFIG = FeatureConfig(timesteps=4, ranges=2, proj_dim=16)
UNTOLD = ("qwen", "z image", "lumina", "pixart", "aura")  # which look into numbers to know shapes
FAST = ("sd", "sdxl", "flux dev", "ddpm")
EVERY = [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in FAMILIES]


@pytest.fixture(scope="module", params=EVERY)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    return saved(name, tmp_path_factory.mktemp("model"))


def really(model, examples, caption):
    """Count the bytes of a batch whose numbers are made."""
    seen = Encoded(model, [Image.new("RGB", model.size)] * examples)
    seen.conditions([caption])
    with Counted("cpu", parameters_of(model)) as counted:
        extractor = FeatureExtractor(model, CONFIG)
        extractor.project(extractor.trials(seen, [caption] * examples), extractor.objective)
    return counted.peak


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_batch_takes_what_it_takes_on_paper(name, folder, checkpointing):
    caption, found = prompts_of(name)[0], []
    if name.startswith(UNTOLD):
        text, fits = told(str(folder), size_for(name), Way(CONFIG, 1, checkpointing), "cpu", caption)  # fmt: skip
        assert fits
        assert "cannot be told from the configs of a" in text
        return
    for make in (DiffusionModel.from_pretrained, DiffusionModel.described):
        model = make(folder, size=size_for(name))
        if checkpointing:
            model.checkpoint_gradients()
        measure = really if make == DiffusionModel.from_pretrained else paper
        found.append([measure(model, examples, caption) for examples in (1, 8)])
    print(name, found)
    for true, on_paper in zip(*found, strict=True):
        assert 0.8 * true < on_paper < 1.25 * true


def paper(model, examples, caption):
    return bytes_beside_parameters(model, CONFIG, examples, caption)


def test_a_described_model_holds_no_numbers_and_counts_as_the_loaded_one(name, folder):
    described = DiffusionModel.described(folder, size=size_for(name))
    assert {p.device.type for part in described.networks for p in part.parameters()} == {"meta"}
    loaded = DiffusionModel.from_pretrained(folder, size=size_for(name))
    held = [sum(p.nbytes for p in part.parameters()) for part in loaded.networks]
    assert list(parameter_bytes(folder, "fp32").values()) == held
    assert list(parameter_bytes(folder, "bf16").values()) == [n // 2 for n in held]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    model, images = WORLDS["captions"](root)
    return model, images, root


once = functools.cache(need_of)


def ways(model, adapter=False):
    """Give each way with the bytes that it takes."""
    asked = Way(CONFIG)
    every = list(asked.cheaper(adapter))
    return asked, [(way, once(str(model), None, way, "a cat").most(way.offload_encoders)) for way in every]  # fmt: skip


def test_the_first_way_that_fits_is_told(world, monkeypatch):
    model, *_ = world
    asked, found = ways(model)
    monkeypatch.setattr("precompute.room.need_of", once)
    needed = [most for _, most in found]
    assert needed == sorted(needed, reverse=True)
    said = [way.options(asked) for way, _ in found]
    assert said == [
        "", "--batch_size 1", "--batch_size 1 --gradient_checkpointing",
        "--batch_size 1 --gradient_checkpointing --offload_encoders",
        "--batch_size 1 --gradient_checkpointing --offload_encoders --timesteps_at_once 1",
        "--batch_size 1 --gradient_checkpointing --offload_encoders --timesteps_at_once 1 --precision bf16",
    ]  # fmt: skip
    for (_, most), options in zip(found, said, strict=True):
        monkeypatch.setattr("precompute.room.free_bytes", lambda device, most=most: most)
        text, fits = told(str(model), None, asked, "cpu", "a cat")
        assert (fits, "too much" in text) == ((True, False) if not options else (False, True))
        assert f"{options} takes" in text or fits
        assert "\n" not in text
    monkeypatch.setattr("precompute.room.free_bytes", lambda device: min(needed) - 1)
    text, fits = told(str(model), None, asked, "cpu", "a cat")
    assert not fits
    assert f"even with {said[-1]}" in text


def test_an_adapters_layers_alone_are_the_last_way(world):
    model, _, root = world
    lora = train_lora(model, root / "lora", 1)
    asked, found = ways(f"{model}+{lora}", adapter=True)
    assert found[-1][0].options(asked).endswith("--precision bf16 --layers adapter")
    assert found[-1][1] < found[-2][1]


def test_offloaded_encoders_are_gone_when_a_batch_is_made():
    need = Need(denoiser=5, encoders=3, batch=4)
    assert (need.most(False), need.most(True)) == (12, 9)
    assert dataclasses.replace(need, batch=1).most(True) == 8


def test_a_dry_run_loads_nothing_that_does_not_fit(world, monkeypatch, capsys):
    model, images, root = world
    given = ["--pretrained_model_name_or_path", str(model), "--train_data_dir", str(images)]
    given += [
        "--output_dir",
        str(root / "cache"),
        "--timesteps",
        "4",
        "--proj_dim",
        "8",
        "--dry_run",
    ]
    assert main(["gradients", *given]) == 0
    assert "on paper: 0.0 GB of parameters in fp32" in capsys.readouterr().out
    loaded = lambda *_, **__: pytest.fail("parameters were read")  # noqa: E731
    monkeypatch.setattr(DiffusionModel, "from_pretrained", loaded)
    monkeypatch.setattr("precompute.room.free_bytes", lambda device: 10)
    assert main(["gradients", *given]) == 2
    assert "too much, even with --batch_size 1 --gradient_checkpointing" in capsys.readouterr().err


def test_what_no_config_tells_is_one_sentence(world, monkeypatch):
    def failed(*_):
        raise RuntimeError("Tensor.item() cannot be called on meta tensors\nand more")

    monkeypatch.setattr("precompute.room.bytes_beside_parameters", failed)
    text, fits = told(str(world[0]), None, Way(CONFIG, 1), "cpu", "a cat")
    assert "cannot be told from the configs of a StableDiffusionXLPipeline" in text
    assert (fits, "\n" in text) == (True, False)


@pytest.mark.parametrize("each_timestep", ["mean", "paired"])
def test_few_timesteps_at_once_give_the_same_features(world, each_timestep):
    model = DiffusionModel.from_pretrained(world[0])
    config = dataclasses.replace(CONFIG, each_timestep=each_timestep)
    images, prompts = [Image.effect_noise((16, 16), 90).convert("RGB")] * 2, ["a cat", "a dog"]
    want = FeatureExtractor(model, config)(images, prompts)
    for at_once in (1, 2) if each_timestep == "mean" else (1,):
        model.pictures_at_once, model.timesteps_at_once = 1, at_once
        extractor = FeatureExtractor(model, config)
        most = 0

        def listen(_, given):
            nonlocal most
            most = max(most, len(given[0]))

        hook = model.denoiser.conv_in.register_forward_pre_hook(listen)
        found = extractor(images, prompts)
        hook.remove()
        assert most == at_once
        assert torch.allclose(found, want, 1e-3, 1e-5 * float(want.abs().max()))


def test_bytes_count_until_nothing_holds_them():
    with Counted("cpu") as counted:
        first = torch.ones(1000)
        second = first * 2
        del first
        third = second.view(10, 100) + 1
        del second, third
    assert (counted.live, counted.peak) == (0, 8000)


def test_what_was_there_before_does_not_count_nor_do_its_views():
    weight, inputs = torch.ones(500, 1000), torch.ones(2, 1000)
    with Counted("cpu", [weight, inputs]) as counted:
        output = torch.nn.functional.linear(inputs, weight)
    assert (counted.live, counted.peak) == (output.nbytes, output.nbytes)


def test_a_batch_of_none_of_its_layers_takes_less_than_the_parameters(world):
    model = DiffusionModel.described(world[0])
    few = dataclasses.replace(CONFIG, layers="conv_in", timesteps=1, ranges=1)
    wide = sum(p.nbytes for p in model.denoiser.parameters())
    model.checkpoint_gradients()
    assert bytes_beside_parameters(model, few, 1, "a cat", 1) < wide

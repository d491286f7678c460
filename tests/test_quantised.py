"""A denoiser in eight bits: its adapter's gradients, and its own layers', are those of what it computes."""

import json
from importlib.util import find_spec

import diffusers
import numpy as np
import pytest
import torch
from families import exact, prompts_of, saved, size_for
from PIL import Image
from test_adapters import train_lora
from torchao.quantization import Int8WeightOnlyConfig

from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.gradients.features import FeatureConfig, FeatureExtractor
from attribution.models.diffusion import DiffusionModel, moving_names
from attribution.models.quantised import is_quantised
from precompute.__main__ import main

PARTS = {"sd": "unet", "flux dev": "transformer"}


@pytest.fixture(scope="module", params=PARTS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def lora(name, tmp_path_factory):
    folder = saved(name, tmp_path_factory.mktemp("whole"))
    return train_lora(folder, tmp_path_factory.mktemp("lora"), 1)


def narrowed(name, folder):
    """Save a tiny pipeline whose denoiser keeps its linear layers in eight bits."""
    saved(name, folder)
    place = folder / PARTS[name]
    kind = getattr(diffusers, json.loads((place / "config.json").read_text())["_class_name"])
    config = diffusers.TorchAoConfig(Int8WeightOnlyConfig())
    network = kind.from_pretrained(place, quantization_config=config, torch_dtype=torch.float32)
    for path in place.glob("*.safetensors*"):
        path.unlink()
    network.save_pretrained(place, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    return narrowed(name, tmp_path_factory.mktemp("narrow"))


@pytest.fixture(scope="module")
def pictures():
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)) for _ in range(2)]


def widened(folder, lora, name, tmp_path):
    """Load the same numbers in full precision."""
    narrow = DiffusionModel.from_pretrained(f"{folder}+{lora}", size=size_for(name))
    wide = DiffusionModel.from_pretrained(f"{saved(name, tmp_path)}+{lora}", size=size_for(name))
    found = dict(narrow.denoiser.named_parameters())
    for key, value in wide.denoiser.named_parameters():
        value.copy_(found[key].dequantize() if is_quantised(found[key]) else found[key])
    return narrow, wide


@pytest.mark.parametrize("layers", ["adapter", "all"])
def test_gradients_are_those_of_the_same_numbers_in_full_precision(
    folder, lora, name, layers, pictures, tmp_path
):
    with torch.no_grad():
        narrow, wide = widened(folder, lora, name, tmp_path / "wide")
    assert any(map(is_quantised, narrow.denoiser.parameters()))
    config = FeatureConfig("denoising_loss", timesteps=4, ranges=2, proj_dim=16, layers=layers)
    few, full = (FeatureExtractor(model, config) for model in (narrow, wide))
    assert few.groups == full.groups
    found = few(pictures, prompts_of(name)[:2], 2)
    for place, prompt in enumerate(prompts_of(name)[:2]):
        want = exact(full, pictures[place], prompt)
        assert want.norm() > 0
        assert torch.cosine_similarity(found[place].flatten(), want.flatten(), 0) > 1 - 1e-5
        seen = want.norm(dim=1) > 1e-5 * want.norm()
        assert torch.cosine_similarity(found[place], want, 1)[seen].min() > 1 - 1e-4


def test_an_adapters_gradients_are_autograds_own(folder, lora, name, pictures):
    model = DiffusionModel.from_pretrained(f"{folder}+{lora}", size=size_for(name))
    config = FeatureConfig("denoising_loss", timesteps=4, proj_dim=16, layers="adapter")
    extractor = FeatureExtractor(model, config)
    [found] = extractor(pictures[:1], prompts_of(name)[:1])
    want = exact(extractor, pictures[0], prompts_of(name)[0])
    assert torch.cosine_similarity(found, want, 1).min() > 1 - 1e-5


def test_the_fingerprint_knows_the_whole_numbers_and_their_scales(folder, name, tmp_path):
    model = DiffusionModel.from_pretrained(folder, size=size_for(name))
    before = model.fingerprint
    assert DiffusionModel.from_pretrained(folder, size=size_for(name)).fingerprint == before
    plain = DiffusionModel.from_pretrained(saved(name, tmp_path / "plain"), size=size_for(name))
    assert plain.fingerprint != before
    value = next(filter(is_quantised, model.denoiser.parameters()))
    names, _ = value.__tensor_flatten__()
    for each in names:
        tensor = getattr(value, each)
        if tensor.numel() > 1:
            kept = tensor.flatten()[0].clone()
            tensor.view(-1)[0] += 1
            del model.__dict__["fingerprint"]
            assert model.fingerprint != before, each
            tensor.view(-1)[0] = kept
    assert moving_names(model) == []


@pytest.mark.parametrize("name", ["sd"], indirect=True)
def test_a_cache_of_an_adapter_on_eight_bits_answers(folder, lora, small_collection, tmp_path):
    model = ["--pretrained_model_name_or_path", str(folder), "--adapter", str(lora)]
    images = [*model, "--train_data_dir", str(small_collection)]
    sizes = ["--timesteps", "2", "--proj_dim", "8", "--layers", "adapter"]
    cache = str(tmp_path / "cache")
    assert main(["gradients", *images, *sizes, "--output_dir", cache]) == 0
    assert main(["weights", *images, "--cache_dir", cache, "--queries", "2", "--top_k", "2"]) == 0
    attributor = Attributor.from_pretrained(f"{folder}+{lora}", cache, small_collection)
    answer = attributor.attribute(attributor.collection.image(3), attributor.collection.captions[3])
    assert answer.rank(1)[0].index == 3


def refused(folder, *words):
    with pytest.raises(InputError) as caught:
        DiffusionModel.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


def test_other_kinds_and_other_parts_are_refused_before_anything_is_read(tmp_path, monkeypatch):
    folder = saved("sd", tmp_path / "model")
    config = folder / "unet/config.json"
    before = json.loads(config.read_text())

    def told(**quantised):
        config.write_text(json.dumps(before | {"quantization_config": quantised}))

    torchao = {"quant_method": "torchao"}
    told(quant_method="bitsandbytes", load_in_4bit=True)
    refused(folder, "quantised by bitsandbytes", "Int8WeightOnlyConfig")
    told(**torchao, quant_type={"default": {"_type": "Int4WeightOnlyConfig", "_data": {}}})
    refused(folder, "quantised by torchao (Int4WeightOnlyConfig)")
    told(**torchao, quant_type="int8")
    refused(folder, "torchao (int8)")
    told(**torchao, quant_type={"default": {"_type": "Int8WeightOnlyConfig", "_data": {}}})
    without = lambda name: None if name == "torchao" else find_spec(name)  # noqa: E731
    monkeypatch.setattr("attribution.models.quantised.find_spec", without)
    refused(folder, "run pip install torchao")
    config.write_text(json.dumps(before))
    text = folder / "text_encoder/config.json"
    text.write_text(json.dumps(json.loads(text.read_text()) | {"quantization_config": torchao}))
    refused(folder, "is of a quantised network")

"""Families other than Stable Diffusion go through the whole command line, and what they lack is said."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from families import saved, size_for
from PIL import Image

from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.models.diffusion import DiffusionModel
from attribution.report.report import make_report
from precompute.__main__ import main

pytestmark = pytest.mark.slow
CAPTIONS = ["a cat", "a dog on the grass", "a red bird in the rain at night", "a cat", "", "a dog"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("collection"), np.random.default_rng(0)
    lines = []
    for number, caption in enumerate(CAPTIONS):
        pixels = draw.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "text": caption}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


NARROW = ["--precision", "bf16", "--offload_encoders"]


@pytest.mark.parametrize(
    ("name", "more"), [("sdxl", []), ("flux dev", []), ("ddpm", []), ("z image", []), ("flux dev", NARROW)]
)  # fmt: skip
def test_a_family_goes_through_every_step(name, more, collection, tmp_path):
    model, cache = saved(name, tmp_path / "model"), tmp_path / "cache"
    side = ["--resolution", "16"] if size_for(name) else []
    names = ["--pretrained_model_name_or_path", str(model), "--train_data_dir", str(collection)]
    there = ["--cache_dir", str(cache)]
    made = ["--output_dir", str(cache), "--timesteps", "2", "--proj_dim", "4", *side]
    assert main(["gradients", *names, *made, *more]) == 0
    assert main(["weights", *names, *there, "--queries", "2", "--top_k", "2"]) == 0
    lists = "0" if more else "20"  # the same again in another precision
    assert main(["calibrate", *names, *there, "--unrelated", "19", "--lists", lists]) == 0
    assert main(["likeness", *names, *there]) == 0
    shown = ["--output_dir", str(tmp_path / "examples"), "--known", "1"]
    assert main(["examples", *names, *there, *shown]) == 0

    attributor = Attributor.from_pretrained(model, cache, collection)
    assert attributor.model.precision == ("bf16" if more else "fp32")
    image, caption = attributor.collection.image(1), CAPTIONS[1]
    answer = attributor.attribute(image, caption)
    assert answer.rank(1)[0].index == 1
    assert attributor.alike(image).argmax() == 1
    assert 0 < answer.p_values["general"] <= 1
    if attributor.model.family.maps:
        assert attributor.regions(image, answer).map(1).isfinite().all()
    else:
        with pytest.raises(InputError, match="has no maps"):
            attributor.regions(image, answer)
    report = make_report(attributor, image, answer, prompt=caption, date=datetime.now(UTC))
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert main(["verify", str(tmp_path / "report.json"), *names, *there]) == 0


def refused(folder, size, *words):
    with pytest.raises(InputError) as caught:
        DiffusionModel.from_pretrained(folder, size=size)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("name", ["pixart alpha", "dit", "lumina"])
def test_a_folder_by_names_that_diffusers_had_before_is_the_same_model(name, tmp_path):
    folder = saved(name, tmp_path / "model")
    now = DiffusionModel.from_pretrained(folder).fingerprint
    if name == "lumina":
        edit(folder / "model_index.json", _class_name="Lumina2Text2ImgPipeline")
    else:
        edit(folder / "model_index.json", transformer=["diffusers", "Transformer2DModel"])
        kind = {"pixart alpha": "ada_norm_single", "dit": "ada_norm_zero"}[name]
        more = {"norm_type": kind, "num_vector_embeds": None, "double_self_attention": False}
        edit(folder / "transformer/config.json", _class_name="Transformer2DModel", **more)
    model = DiffusionModel.from_pretrained(folder)
    assert model.fingerprint == now
    if name != "lumina":  # whose name diffusers has given up
        plain = diffusers.DiffusionPipeline.from_pretrained(folder).transformer
        assert type(plain) is type(model.denoiser)
        for key, value in plain.state_dict().items():
            assert torch.equal(value, model.denoiser.state_dict()[key])


def test_a_model_without_room_is_refused_with_what_would_fit(tmp_path, monkeypatch):
    folder = saved("sdxl", tmp_path / "sdxl")
    networks = DiffusionModel.from_pretrained(folder).networks
    count = sum(parameter.numel() for network in networks for parameter in network.parameters())
    for available, advice in ((3 * count, "give --precision bf16"), (count, "take a machine")):
        free = SimpleNamespace(available=available)
        monkeypatch.setattr(
            "attribution.models.parts.psutil.virtual_memory", lambda free=free: free
        )
        refused(folder, None, "unet", "in fp32, and cpu has", advice)
    free.available = 3 * count
    assert DiffusionModel.from_pretrained(folder, precision="bf16").precision == "bf16"


def test_encoders_are_on_the_device_only_to_encode(tmp_path, monkeypatch):
    model = DiffusionModel.from_pretrained(saved("sdxl", tmp_path / "sdxl"))
    model.only_when_needed, moves = True, []
    for part in model.networks:
        monkeypatch.setattr(part, "to", lambda device, part=part: moves.append((part, str(device))))
    with model.encoding():
        assert moves == [(part, "cpu") for part in model.networks[1:]]
        moves.clear()
    assert moves == [(part, "cpu") for part in model.networks[1:]]


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_a_family_cannot_do_is_refused_by_its_class_in_one_sentence(tmp_path):
    folder = saved("sdxl", tmp_path / "sdxl")
    refused(folder, (15, 15), "resolution is 15", "multiple of")
    config = folder / "unet/config.json"
    before = config.read_text()
    edit(config, in_channels=9)
    refused(folder, None, "StableDiffusionXLPipeline", "inpainting")
    config.write_text(before)
    edit(folder / "model_index.json", vae=["diffusers", "AutoencoderTiny"])
    refused(folder, None, "AutoencoderTiny", "StableDiffusionXLPipeline")
    folder = saved("flux schnell", tmp_path / "flux")
    edit(folder / "scheduler/scheduler_config.json", _class_name="DDIMScheduler")
    refused(folder, None, "DDIMScheduler", "flow matching")
    folder = saved("dit", tmp_path / "dit")
    model = DiffusionModel.from_pretrained(folder)
    with pytest.raises(InputError, match="no class of this model; give a number from 0 to 9"):
        model.conditions(["a cat"])


def test_the_fingerprint_covers_networks_constants_and_resolution(tmp_path):
    folder = saved("sdxl", tmp_path / "sdxl")
    found = {DiffusionModel.from_pretrained(folder).fingerprint}
    found.add(DiffusionModel.from_pretrained(folder, size=(32, 32)).fingerprint)
    model = DiffusionModel.from_pretrained(folder)
    model.pipeline.text_encoder_2.half()
    found.add(model.fingerprint)
    model = DiffusionModel.from_pretrained(folder)
    model.denoiser.bfloat16()
    found.add(model.fingerprint)
    edit(folder / "vae/config.json", scaling_factor=0.5)
    found.add(DiffusionModel.from_pretrained(folder).fingerprint)
    assert len(found) == 5

"""A checkpoint in one file is the model that the same parameters in a folder are; what it is not is refused."""

import json
import shutil

import pytest
import torch
from checkpoints import configs_of, original
from conftest import served
from families import prompts_of, saved, sdxl, size_for
from gradio_client import Client
from PIL import Image
from safetensors.torch import load_file, save_file
from test_adapters import train_lora
from worlds import WORLDS

from attribution.cache.origin import read_origin
from attribution.errors import InputError
from attribution.gradients.features import FeatureConfig, FeatureExtractor
from attribution.models.diffusion import DiffusionModel
from attribution.models.parts import class_named
from attribution.models.single_file import split_config
from attribution.page.hall import load
from attribution.page.settings import Settings
from precompute.__main__ import main

CONFIG = FeatureConfig("denoising_loss", timesteps=2, ranges=1, proj_dim=8)
DENOISER = "diffusion_pytorch_model.safetensors"


def save(name, folder):
    """Save a tiny pipeline; SDXL's text encoders differ in width, by which diffusers tells them apart."""
    if name != "sdxl":
        return saved(name, folder)
    torch.manual_seed(0)
    sdxl(first=16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def both(request, tmp_path_factory):
    """A folder; and the same as a single file, with configs that hold no parameters."""
    root = tmp_path_factory.mktemp("single")
    folder = save(request.param, root / "model")
    file = original(folder, root / "model.safetensors")
    return folder, f"{file}@{configs_of(folder, root / 'configs')}"


@pytest.fixture(scope="module")
def pictures():
    return [Image.effect_noise((16, 16), 80 + n).convert("RGB") for n in range(2)]


def features(name, pictures, family="sd"):
    model = DiffusionModel.from_pretrained(name, size=size_for(family))
    return FeatureExtractor(model, CONFIG)(pictures, prompts_of(family)[:2])


def test_features_of_a_file_are_those_of_the_folder(both, pictures):
    folder, file = both
    assert torch.allclose(features(folder, pictures), features(file, pictures), 1e-4, 1e-6)
    prints = [DiffusionModel.from_pretrained(name).fingerprint for name in both]
    assert prints[0] == prints[1]
    assert class_named(file) == class_named(folder)


@pytest.mark.parametrize("said", ['"prediction_type": "v_prediction"', '"beta_end": 0.5'])
def test_a_file_with_other_configs_is_another_model(both, said, tmp_path):
    file, configs = both[1].split("@")
    shutil.copytree(configs, tmp_path / "configs")
    path = tmp_path / "configs/scheduler/scheduler_config.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | json.loads(f"{{{said}}}")))
    one, other = (
        DiffusionModel.from_pretrained(f"{file}@{c}") for c in (configs, tmp_path / "configs")
    )
    assert one.fingerprint != other.fingerprint
    path.write_text(json.dumps(told | {"_diffusers_version": "0.1"}))
    assert (
        DiffusionModel.from_pretrained(f"{file}@{tmp_path / 'configs'}").fingerprint
        == one.fingerprint
    )


def test_half_precision_is_the_folders(both):
    half = [DiffusionModel.from_pretrained(name, precision="bf16") for name in both]
    assert half[0].fingerprint == half[1].fingerprint
    assert {part.dtype for part in half[1].networks} == {torch.bfloat16}


@pytest.mark.parametrize("family", ["flux dev", "z image", "sd3", "qwen"])
def test_a_denoiser_alone_takes_the_rest_from_the_folder(family, pictures, tmp_path):
    folder = saved(family, tmp_path / "model")
    configs = configs_of(folder, tmp_path / "rest", {"vae", "text_encoder", "text_encoder_2", "text_encoder_3"})  # fmt: skip
    file = (
        f"{shutil.copy(folder / 'transformer' / DENOISER, tmp_path / 'one.safetensors')}@{configs}"
    )
    assert torch.equal(features(folder, pictures, family), features(file, pictures, family))
    shutil.rmtree(configs / "vae")
    (configs / "vae").mkdir()
    shutil.copy(folder / "vae/config.json", configs / "vae")
    refused(file, "vae", "has no diffusion_pytorch_model.safetensors")


def test_a_file_takes_an_adapter_as_its_folder_does(tmp_path, pictures):
    folder = saved("sd", tmp_path / "model")
    lora = train_lora(folder, tmp_path / "lora", 1)
    file = f"{original(folder, tmp_path / 'a.safetensors')}@{configs_of(folder, tmp_path / 'c')}"
    assert torch.equal(features(f"{folder}+{lora}", pictures), features(f"{file}+{lora}", pictures))


def refused(name, *words):
    with pytest.raises(InputError) as caught:
        DiffusionModel.from_pretrained(name)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_what_is_no_such_checkpoint_is_refused_in_one_sentence(both, tmp_path):
    _, name = both
    file, configs = split_config(name)
    tensors = load_file(file)

    def other(**more):
        save_file({**tensors, **more}, tmp_path / "other.safetensors")
        return f"{tmp_path / 'other.safetensors'}@{configs}"

    refused(file, "is one file", "--config")
    for pickled in ("a.ckpt", "a.pt", "a.bin"):
        (tmp_path / pickled).write_bytes(b"\x80\x04N.")
        refused(f"{tmp_path / pickled}@{configs}", "is pickled, which is never read")
    refused(f"{tmp_path}/none.safetensors@{configs}", "there is no file")
    refused(f"{file}@{tmp_path / 'nowhere'}", "there is no model folder", "nowhere")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 40)
    refused(f"{tmp_path / 'broken.safetensors'}@{configs}", "cannot be read as safetensors")
    refused(other(v_pred=torch.zeros(1)), "predicts v", "says epsilon")
    refused(other(edm_mean=torch.zeros(1)), "EDM")
    refused(other(**{"x.scale_weight": torch.zeros(1)}), "is quantised")
    refused(other(**{"lora_unet_x.lora_down.weight": torch.zeros(1)}), "is a LoRA")
    lost = next(name for name in tensors if name.endswith("attn2.to_k.weight"))
    rest = {name: value for name, value in tensors.items() if name != lost}
    save_file(rest, tmp_path / "less.safetensors")
    refused(f"{tmp_path / 'less.safetensors'}@{configs}", "lacks parameters of the unet")
    rest[lost] = tensors[lost][:, :3].clone()
    save_file(rest, tmp_path / "thin.safetensors")
    refused(f"{tmp_path / 'thin.safetensors'}@{configs}", "no diffusers pipeline could be loaded")
    refused(f"{file}@{saved('dit', tmp_path / 'dit')}", "a DiTPipeline", "save the whole pipeline")
    refused(f"{file}@{saved('flux dev', tmp_path / 'flux')}", "with the configs of", "/flux:")


def test_the_command_line_and_the_page_open_it_again(tmp_path, served_folder, capsys):
    folder, images = WORLDS["concepts"](tmp_path)
    file = original(folder, tmp_path / "painter.safetensors")
    configs = configs_of(folder, tmp_path / "configs")
    cache = tmp_path / "cache"
    model = ["--pretrained_model_name_or_path", str(file), "--config", str(configs)]
    made = ["--timesteps", "2", "--proj_dim", "4", "--output_dir", str(cache)]
    given = [*model, "--train_data_dir", str(images)]
    assert main(["gradients", *given, *made]) == 0
    learn = ["--cache_dir", str(cache), "--queries", "2", "--top_k", "2"]
    assert main(["weights", *given, *learn]) == 0
    told = json.loads((cache / "made_from.json").read_text())
    assert told["config"].endswith("configs")
    assert read_origin(cache).model == f"{file}@{configs}"
    # the folder is the same model
    whole = ["--pretrained_model_name_or_path", str(folder), "--train_data_dir", str(images)]
    assert main(["weights", *whole, *learn]) == 0
    with served(load(Settings(cache=(str(cache),)))) as address:
        answer = Client(f"http://{address}", verbose=False).predict(
            "a cat in oil paint", 3, api_name="/generate"
        )[1]
    assert answer["model"]["name"] == "painter.safetensors"
    configs.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="ATTRIBUTION_MODEL where it is now"):
        load(Settings(cache=(str(cache),)))
    capsys.readouterr()
    assert main(["gradients", *whole, "--config", str(folder), *made]) == 2
    assert "--config belongs to a single file" in capsys.readouterr().err

"""Model folders and Hub ids that anybody may have made: what cannot be right is refused, and nothing in them runs."""

import json
import os
import pickle
import shutil
import socket
import struct
import sys
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from attribution.errors import InputError
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import load_collection
from attribution.pictures.hub import is_hub_id, local_folder
from precompute.__main__ import main

CODE = "import pathlib; pathlib.Path({mark!r}).write_text('ran')\nclass Evil: pass\n"
UNET = "unet/diffusion_pytorch_model.safetensors"
SD_ONLY = "a StableDiffusionPipeline of UNet2DConditionModel, AutoencoderKL and CLIPTextModel"


@pytest.fixture
def folder(small_model, tmp_path):
    return Path(shutil.copytree(small_model, tmp_path / "model"))


def edit(path, **changes):
    """Change a JSON file; None removes nothing, it is written as null."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(name, *words):
    """Expect one sentence with all of the words."""
    with pytest.raises(InputError) as caught:
        DiffusionModel.from_pretrained(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    for word in words:
        assert word in str(caught.value)


@pytest.fixture
def unread(monkeypatch):
    """Fail where a network is loaded at all."""

    def loaded(*_, **__):
        raise AssertionError("parameters were read")

    for kind in (diffusers.ModelMixin, transformers.PreTrainedModel):
        monkeypatch.setattr(kind, "from_pretrained", loaded)


# What is not supported is named before any work


@pytest.mark.parametrize(
    "kind",
    ["StableDiffusionXLInpaintPipeline", "StableDiffusionInpaintPipeline", "StableDiffusionImg2ImgPipeline",
     "FluxFillPipeline", "FluxKontextPipeline", "QwenImageEditPipeline", "KandinskyPipeline", None],
)  # fmt: skip
def test_a_pipeline_of_another_class_is_named_and_refused(kind, folder, unread):
    edit(folder / "model_index.json", _class_name=kind)
    shutil.rmtree(folder / "unet")  # others have a transformer; it is not said to be missing
    refused(folder, str(kind), SD_ONLY)


@pytest.mark.parametrize(
    ("part", "changes", "words"),
    [
        ("unet", {"in_channels": 33}, "inpainting"),
        ("unet", {"out_channels": 32}, "writes 32 channels where the autoencoder has 16"),
        ("unet", {"num_class_embeds": 10}, "num_class_embeds"),
        ("unet", {"class_embed_type": "timestep"}, "class_embed_type"),
        ("unet", {"addition_embed_type": "text_time"}, "addition_embed_type"),
        ("unet", {"encoder_hid_dim_type": "image_proj"}, "encoder_hid_dim_type"),
        ("unet", {"time_cond_proj_dim": 256}, "time_cond_proj_dim"),
        ("unet", {"sample_size": [8, 16, 8]}, "one or two whole numbers"),
        ("unet", {"sample_size": None}, "one or two whole numbers"),
        ("unet", {"sample_size": 10**5}, "up to 512"),
        ("unet", {"cross_attention_dim": 768}, "reads prompts 768 wide"),
        ("unet", {"_class_name": "UNet2DModel"}, "UNet2DModel"),
        ("vae", {"_class_name": "AutoencoderTiny"}, "AutoencoderTiny"),
        ("vae", {"latents_mean": [0.0] * 4}, "latents_mean"),
        ("vae", {"latents_std": [1.0] * 4}, "latents_std"),
        ("vae", {"scaling_factor": 0}, "scaling_factor 0"),
        ("vae", {"scaling_factor": float("nan")}, "scaling_factor nan"),
        ("vae", {"shift_factor": "1"}, "shift_factor 1"),
        ("vae", {"in_channels": 4}, "red, green and blue"),
        ("text_encoder", {"architectures": ["T5EncoderModel"]}, "T5EncoderModel"),
        ("text_encoder", {"architectures": 5}, "is of 5"),
        ("text_encoder", {"model_type": "t5"}, "is of t5"),
    ],
)  # fmt: skip
def test_parts_that_the_method_cannot_ask_are_named_and_refused(
    part, changes, words, folder, unread
):
    edit(folder / part / "config.json", **changes)
    refused(folder, words)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("pytorch_lora_weights.safetensors", "a LoRA"),
        ("pytorch_lora_weights.bin", "a LoRA"),
        ("adapter_config.json", "a LoRA"),
        ("unet/adapter_model.safetensors", "a LoRA"),
        ("text_encoder/adapter_config.json", "a LoRA"),
        ("checkpoint-500/pytorch_lora_weights.safetensors", "a LoRA"),
        ("learned_embeds.safetensors", "a textual inversion"),
        ("learned_embeds-steps-500.safetensors", "a textual inversion"),
    ],
)
def test_a_lora_or_textual_inversion_beside_the_model_is_named_and_refused(
    name, kind, folder, unread
):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"{}")
    refused(folder, str(folder / name), kind, "would not count")
    (folder / "model_index.json").unlink()  # nor is the folder of a LoRA alone an unwhole pipeline
    refused(folder, kind)


def test_a_lora_or_textual_inversion_of_any_name_is_known_by_its_tensors(folder, unread):
    save_file(
        {f"unet.{i}.lora_A.weight": torch.zeros(2) for i in range(9)}, folder / "cat.safetensors"
    )
    refused(folder, "cat.safetensors", "a LoRA", "--adapter")
    save_file({"<cat-toy>": torch.zeros(1, 128)}, folder / "cat.safetensors")
    refused(folder, "cat.safetensors", "a textual inversion", "--adapter")
    save_file({str(i): torch.zeros(1) for i in range(9)}, folder / "cat.safetensors")
    with pytest.raises(
        AssertionError, match="parameters were read"
    ):  # a whole checkpoint is ignored
        load_as_it_is(folder)


def load_as_it_is(folder):
    try:
        DiffusionModel.from_pretrained(folder)
    except InputError as error:
        raise error.__cause__ from None


# The autoencoder's shift


def test_the_autoencoders_shift_is_applied_and_undone(small_model, small_collection, folder):
    edit(folder / "vae/config.json", shift_factor=0.25)
    plain, shifted = (DiffusionModel.from_pretrained(name) for name in (small_model, folder))
    images = [load_collection(small_collection).image(i) for i in range(2)]
    scale = plain.pipeline.vae.config.scaling_factor
    latents = plain.latents(images)
    assert torch.allclose(shifted.latents(images), latents - 0.25 * scale, atol=1e-5)
    pixels = [np.asarray(x, float) for x in plain.decode(latents)]
    again = [np.asarray(x, float) for x in shifted.decode(shifted.latents(images))]
    assert max(np.abs(a - b).max() for a, b in zip(pixels, again, strict=True)) <= 1
    forgot = [np.asarray(x, float) for x in plain.decode(shifted.latents(images))]
    assert min(np.abs(a - b).mean() for a, b in zip(pixels, forgot, strict=True)) > 0.5
    noise = torch.Generator().manual_seed(3)
    drawn = shifted.pipeline(
        ["a cat"], latents=torch.randn(1, 16, 8, 8, generator=noise), num_inference_steps=2,
        guidance_scale=3.0, output_type="latent",
    ).images  # fmt: skip
    [picture], [want] = shifted.generate(["a cat"], [3], 2), shifted.decode(drawn)
    assert np.array_equal(np.asarray(picture), np.asarray(want))


# Nothing in a folder runs


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_class_of_the_folders_own_is_refused_and_its_file_not_run(part, folder, unread, tmp_path):
    mark = tmp_path / "ran"
    for name in ("evil.py", f"{part}/evil.py", f"{part}/{part}.py", "pipeline.py"):
        (folder / name).write_text(CODE.format(mark=str(mark)))
    edit(folder / "model_index.json", **{part: ["evil", "Evil"]})
    refused(folder, part, "evil")
    edit(folder / "model_index.json", **{part: ["os", "system"]})
    refused(folder, part, "system")
    assert not mark.exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("model_index.json", {"_class_name": ["pipeline", "StableDiffusionPipeline"]}),
        ("model_index.json", {"custom_pipeline": "pipeline"}),
        ("model_index.json", {"trust_remote_code": True}),
        ("unet/config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
        ("vae/config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
        ("text_encoder/config.json", {"auto_map": {"AutoModel": "evil--evil.Evil"}}),
        ("text_encoder/config.json", {"trust_remote_code": True}),
        ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}),
        ("unet/config.json", {"quantization_config": {"quant_method": "bitsandbytes"}}),
    ],
)
def test_a_config_that_asks_for_code_or_loaders_of_its_own_is_refused(
    file, changes, folder, unread, tmp_path
):
    mark = tmp_path / "ran"
    for name in ("pipeline.py", "evil.py", f"{file.split('/', maxsplit=1)[0]}/evil.py"):
        if "." not in name.split("/")[0] or "/" not in name:
            (folder / name).write_text(CODE.format(mark=str(mark)))
    edit(folder / file, **changes)
    refused(folder)
    assert not mark.exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_an_attention_that_would_be_fetched_is_refused(key, folder, unread, monkeypatch):
    met = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, where: met.append(where))
    for name in ("kernels-community/evil", "evil/kernel", {"": "evil/kernel"}):
        edit(folder / "text_encoder/config.json", **{key: name})
        refused(folder, "asks for code of its own", key)
    assert not met


def test_attentions_that_are_installed_are_no_code_of_a_models_own(folder):
    edit(folder / "text_encoder/config.json", _attn_implementation_autoset=True,
         attn_implementation="sdpa")  # fmt: skip
    assert DiffusionModel.from_pretrained(folder).num_timesteps == 1000


def test_code_and_pickles_beside_good_parts_are_never_read(folder, tmp_path):
    mark = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return Path(mark).write_text, ("ran",)

    for name in ("unet/diffusion_pytorch_model.bin", "text_encoder/pytorch_model.bin"):
        (folder / name).write_bytes(pickle.dumps(Evil()))
    for name in ("unet/unet.py", "pipeline.py", "unet/__init__.py"):
        (folder / name).write_text(CODE.format(mark=str(mark)))
    DiffusionModel.from_pretrained(folder)
    assert not mark.exists()
    (folder / UNET).unlink()
    refused(folder, "pickled parameters only", "save them as safetensors")
    assert not mark.exists()


# Damage and bombs


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("unet/config.json", {"block_out_channels": [10**9, 10**9]}),
        ("unet/config.json", {"block_out_channels": [10**5, 10**5]}),
        ("unet/config.json", {"block_out_channels": [32] * 10**4}),
        ("unet/config.json", {"layers_per_block": 10**9}),
        ("unet/config.json", {"layers_per_block": 99}),
        ("unet/config.json", {"transformer_layers_per_block": [[10**7], [10**7]]}),
        ("unet/config.json", {"cross_attention_dim": 10**9}),
        ("unet/config.json", {"norm_num_groups": 0}),
        ("unet/config.json", {"act_fn": "evil"}),
        ("unet/config.json", {"down_block_types": ["Evil", "Evil"]}),
        ("unet/config.json", {"attention_head_dim": -3}),
        ("vae/config.json", {"block_out_channels": [10**9]}),
        ("vae/config.json", {"block_out_channels": 5}),
        ("vae/config.json", {"latent_channels": 10**9}),
        ("text_encoder/config.json", {"num_hidden_layers": 10**9}),
        ("text_encoder/config.json", {"vocab_size": 10**6}),
        ("text_encoder/config.json", {"hidden_size": "128"}),
        ("text_encoder/config.json", {"intermediate_size": 10**6}),
        ("text_encoder/config.json", {"max_position_embeddings": float("inf")}),
    ],
)
def test_a_config_that_describes_more_than_the_files_hold_is_refused_before_it_is_built(
    file, changes, folder, unread
):
    edit(folder / file, **changes)
    refused(folder)


@pytest.mark.parametrize(
    "file", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"]
)
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 10**5, b" " * (2**20 + 1)],
    ids=["empty", "list", "cut", "not-text", "deep", "long"],
)  # fmt: skip
def test_a_damaged_config_is_refused(file, content, folder, unread):
    (folder / file).write_bytes(content)
    refused(folder, file)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def lie(path):
    path.write_bytes(struct.pack("<Q", 2**62) + path.read_bytes()[8:])


def reshape(path):
    tensors = load_file(path)
    tensors["conv_in.weight"] = tensors["conv_in.weight"].flatten()
    save_file(tensors, path)


def drop(path):
    tensors = load_file(path)
    del tensors["conv_in.weight"]
    tensors["other"] = torch.zeros(10**5)
    save_file(tensors, path)


def empty(path):
    path.write_bytes(b"")


def rename(path):
    path.rename(path.with_name("unet.safetensors"))


@pytest.mark.parametrize("damage", [cut, lie, reshape, drop, empty, rename, os.unlink])
def test_damaged_parameters_are_refused(damage, folder):
    damage(folder / UNET)
    refused(folder, "unet")


def test_an_index_of_shards_names_files_beside_it_only(folder, unread, tmp_path):
    outside = Path(shutil.move(folder / UNET, tmp_path / "outside.safetensors"))
    index = folder / f"{UNET}.index.json"
    for name in (f"../../{outside.name}", str(outside), "", "..", 5):
        index.write_text(json.dumps({"weight_map": {"conv_in.weight": name}}))
        refused(folder)
    index.write_text(json.dumps({"weight_map": []}))
    refused(folder, "names no files")


@pytest.mark.parametrize(
    "file", ["model_index.json", "unet/config.json", UNET, "tokenizer/vocab.json", "vae"]
)
def test_links_that_lead_outside_are_refused(file, folder, unread, tmp_path):
    path = folder / file
    if path.exists():
        outside = Path(shutil.move(path, tmp_path / "outside"))
        path.symlink_to(outside)
    else:
        path.symlink_to(folder / "model_index.json/../../outside")
    refused(folder, "leads outside", file)


def test_links_within_a_folder_and_those_of_the_hubs_own_cache_are_followed(folder, tmp_path):
    path = folder / UNET
    path.rename(folder / "unet/real.safetensors")
    path.symlink_to("real.safetensors")
    first = DiffusionModel.from_pretrained(folder).fingerprint
    cache = tmp_path / "models--ann--model"
    (cache / "blobs").mkdir(parents=True)
    shutil.move(folder / "unet/real.safetensors", cache / "blobs/abc")
    snapshot = shutil.copytree(folder, cache / "snapshots/0123", symlinks=True)
    (snapshot / UNET).unlink()
    (snapshot / UNET).symlink_to("../../../blobs/abc")
    assert DiffusionModel.from_pretrained(snapshot).fingerprint == first


@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json", UNET])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(file, folder, unread):
    (folder / file).unlink()
    os.mkfifo(folder / file)
    refused(folder, file, "no regular file")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_folder_without_a_part_is_refused(part, folder, unread):
    shutil.rmtree(folder / part)
    refused(folder, f"has no {part}; save the whole pipeline")


def test_a_tokenizer_without_a_limit_takes_the_text_encoders(folder):
    path = folder / "tokenizer/tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["model_max_length"]
    path.write_text(json.dumps(config))
    model = DiffusionModel.from_pretrained(folder)
    assert {t.shape[1] for t in model.conditions(["a cat"]).tensors.values()} == {24}
    assert len(model.generate(["a cat"], [0], steps=1)) == 1


@pytest.mark.parametrize("limit", [-1, "x", 0, []])
def test_a_tokenizer_whose_limit_is_no_length_is_refused(limit, folder):
    edit(folder / "tokenizer/tokenizer_config.json", model_max_length=limit)
    refused(folder, "no diffusers pipeline could be loaded")


def test_a_tokenizer_of_another_text_encoder_is_refused(folder):
    path = folder / "tokenizer/tokenizer_config.json"
    extra = {"99999": {"content": "<new>", "special": False, "lstrip": False, "rstrip": False,
                       "normalized": False, "single_word": False}}  # fmt: skip
    edit(path, added_tokens_decoder=extra)
    tokenizer = folder / "tokenizer/tokenizer.json"
    if tokenizer.exists():
        content = json.loads(tokenizer.read_text())
        content["added_tokens"].append({"id": 99999, **extra["99999"]})
        content["model"]["vocab"]["<new>"] = 99999
        tokenizer.write_text(json.dumps(content))
    refused(folder, "knows more words than its text encoder")


# Names


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../b", "owner/name@../../x", "owner/name@a/../../x", "owner/name@a/./x", "owner/name@a/..",
     "owner/name@", "owner/name@/x", "owner/name@a//b", "owner/..", "../name", "./name", ".a/b", "a/.b", "~/x", "~a/x",
     "C:\\x", "C:/x", "\\\\host\\x", "owner/na\nme", "owner/name\n", "owner/name\x00", "owner/\x1b[31mname", "a b/c",
     "https://host/x", "file:///x", "owner/ñame", "owner/name\u202e", "a" * 5000 + "/b", "a/" + "b" * 5000, "", ".",
     "owner/name/more", "\ud800/x"],
)  # fmt: skip
def test_a_name_that_leads_anywhere_is_no_hub_id_and_is_not_looked_up(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "attribution.pictures.hub.snapshot_download", None
    )  # asking would be a TypeError
    assert not is_hub_id(name)
    refused(name)
    assert local_folder(name, "cache") == Path(name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_the_name_of_a_hub_id_is_a_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("attribution.pictures.hub.snapshot_download", None)
    (tmp_path / "owner").mkdir()
    shutil.move(folder, tmp_path / "owner/name")
    assert DiffusionModel.from_pretrained("owner/name").num_timesteps == 1000
    refused("owner/nmae", "there is no model folder owner/nmae")


def test_a_network_alone_is_named_and_a_part_that_would_not_count_is_refused(folder):
    edit(folder / "model_index.json", controlnet=["diffusers", "ControlNetModel"])
    refused(folder, "a part controlnet, which a StableDiffusionPipeline does not know")
    config = json.loads((folder / "unet/config.json").read_text())
    (folder / "unet/config.json").write_text(
        json.dumps(config | {"_class_name": "ControlNetModel"})
    )
    refused(folder / "unet", "no model_index.json, but the config of a ControlNetModel")


def test_a_single_file_is_refused_with_what_to_do(folder):
    refused(folder / UNET, "is one file", "--config")


# Devices


@pytest.mark.parametrize("device", ["cuda", "cuda:63", "meta", "gpu", "cuda:x", ""])
def test_a_device_that_is_absent_is_one_sentence_and_exit_code_two(
    device, small_model, small_collection, tmp_path, unread, capsys
):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("it is here")
    names = ["--pretrained_model_name_or_path", str(small_model)]
    for step, more in (
        (
            "gradients",
            ["--train_data_dir", str(small_collection), "--output_dir", str(tmp_path / "c")],
        ),
        (
            "weights",
            ["--train_data_dir", str(small_collection), "--cache_dir", str(tmp_path / "c")],
        ),
    ):
        assert main([step, *names, *more, "--device", device]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert f"the device {device!r} cannot be used on this machine" in lines[-1]


def test_a_variant_is_read_where_it_is_the_only_one(folder):
    plain = DiffusionModel.from_pretrained(folder)
    pipeline = plain.pipeline.to(torch.float16)
    shutil.rmtree(folder)
    pipeline.save_pretrained(folder, variant="fp16", max_shard_size="200KB")
    assert not list(folder.glob("*/model.safetensors"))
    assert len(list(folder.glob("unet/*.fp16-*.safetensors"))) > 1
    found = DiffusionModel.from_pretrained(folder)
    for network, other in zip(found.networks, plain.networks, strict=True):
        for value, known in zip(network.parameters(), other.parameters(), strict=True):
            assert value.dtype == torch.float32
            assert torch.equal(value, known.float())
    (folder / "vae/diffusion_pytorch_model.bf16.safetensors").touch()
    refused(folder, "vae", "bf16 and fp16", "keep one")

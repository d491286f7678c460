"""Adapters count: a LoRA's own gradients are the exact ones, and what does not fit is refused, not left out."""

import shutil

import diffusers
import numpy as np
import pytest
import torch
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers
from families import exact, saved, size_for
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file, save_file

from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.gradients.features import FeatureConfig, FeatureExtractor
from attribution.models.adapters import plain, split_name
from attribution.models.diffusion import DiffusionModel, moving_names
from precompute.__main__ import main

PROMPTS = ["a cat", "a dog on the grass"]


def train_lora(model_folder, output, seed, rank=2, alpha=4.0, targets=("to_q", "to_k", "to_v")):
    """Save a LoRA whose every number is drawn, as diffusers' own training script saves it."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(model_folder)
    network = getattr(pipeline, "unet", None) or pipeline.transformer
    network.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets)))
    torch.manual_seed(seed)
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(network))
    part = "unet" if hasattr(pipeline, "unet") else "transformer"
    type(pipeline).save_lora_weights(
        output, **{f"{part}_lora_layers": layers}, **_collate_lora_metadata({part: network})
    )
    return output


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return saved("sd", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def lora(base, tmp_path_factory):
    return train_lora(base, tmp_path_factory.mktemp("lora"), 1)


@pytest.fixture(scope="module")
def pictures():
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)) for _ in PROMPTS]


def opened(*names):
    return DiffusionModel.from_pretrained("+".join(map(str, names)), size=size_for("sd"))


def outputs(model):
    torch.manual_seed(0)
    noisy = torch.randn(2, *model.latent_shape)
    return model.predict(noisy, torch.tensor([100, 700]), model.conditions(PROMPTS))


def test_a_lora_counts_as_it_does_in_plain_diffusers(base, lora):
    alone, model = opened(base), opened(base, lora)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(base)
    pipeline.load_lora_weights(lora)
    plainly = DiffusionModel(pipeline, "plain", asked_size=size_for("sd"))
    assert torch.allclose(outputs(model), outputs(plainly), atol=1e-6)
    assert not torch.allclose(outputs(model), outputs(alone), atol=1e-3)
    assert len({m.fingerprint for m in (alone, model, opened(base, lora))}) == 2


def test_two_loras_both_count_and_the_fingerprint_knows_their_strength(base, lora, tmp_path):
    other = train_lora(base, tmp_path / "other", 2)
    both = opened(base, lora, other)
    singles = [outputs(opened(base, each)) for each in (lora, other)]
    assert not any(torch.allclose(outputs(both), each, atol=1e-3) for each in singles)
    stronger = opened(base, lora)
    for module in stronger.denoiser.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling = {name: 2 * value for name, value in module.scaling.items()}
    assert stronger.fingerprint != opened(base, lora).fingerprint


@pytest.mark.parametrize("layers", ["adapter", "all", r"attn2\.to_k"])
def test_gradients_of_the_layers_that_are_asked_for_are_exact(base, lora, pictures, layers):
    model = opened(base, lora)
    config = FeatureConfig("denoising_loss", timesteps=4, ranges=2, proj_dim=16, layers=layers)
    extractor = FeatureExtractor(model, config)
    names = [name.split(":")[1] for name in extractor.groups]
    own = [".lora_" in name for name in names]
    assert {"adapter": all(own), "all": any(own) and not all(own)}.get(layers, True)
    if layers not in ("adapter", "all"):
        assert {plain(name).rpartition("attn2.")[2] for name in names} == {"to_k"}
    found = extractor(pictures, PROMPTS, 2)
    for place, prompt in enumerate(PROMPTS):
        want = exact(extractor, pictures[place], prompt)
        assert want.norm() > 0
        assert torch.cosine_similarity(found[place].flatten(), want.flatten(), 0) > 1 - 1e-6


def test_layers_that_are_not_there_or_no_expression_are_refused(base, lora):
    for layers, message in (
        ("adapter", "among its layers 'adapter'"),
        ("nowhere", "among its layers 'nowhere'"),
        ("(", "no regular expression"),
    ):
        with pytest.raises(InputError, match=message):
            FeatureExtractor(opened(base), FeatureConfig(timesteps=4, layers=layers))


def test_what_reads_the_prompt_is_known_under_a_lora(base, lora):
    model, alone = opened(base, lora), opened(base)
    assert [plain(name) for name in moving_names(model)] == moving_names(alone) != []
    reads_prompt = model.family.anatomy.reads_prompt
    assert reads_prompt("mid_block.attentions.0.attn2.to_k.lora_A.adapter_0")
    assert not reads_prompt("mid_block.attentions.0.attn1.to_k.base_layer")


def test_a_textual_inversion_is_a_word(base, tmp_path):
    torch.manual_seed(0)
    width = opened(base).pipeline.text_encoder.config.hidden_size
    for name, key in (("learned_embeds", "<hand>"), ("hand", "emb_params")):
        path = tmp_path / f"{name}.safetensors"
        save_file({key: torch.randn(2, width)}, path)
        alone, model = opened(base), opened(base, path)
        assert model.fingerprint != alone.fingerprint
        with_word, without = (
            model.conditions([text]).tensors["encoder_hidden_states"]
            for text in ("a <hand> cat", "a cat")
        )
        assert not torch.allclose(with_word, without, atol=1e-2)
        assert "<hand>_1" in model.pipeline.tokenizer.get_vocab()
        drawn = model.pipeline.encode_prompt("a <hand> cat", "cpu", 1, False)[0]
        assert torch.equal(with_word, drawn)  # every vector counts, as it does in drawings


def test_a_textual_inversion_is_for_every_text_encoder_or_refused(base, tmp_path):
    large = saved("sdxl", tmp_path / "sdxl")
    both = {name: torch.randn(2, 32) for name in ("clip_l", "clip_g")}
    save_file(both, tmp_path / "hand.safetensors")
    save_file({"<hand>": torch.randn(2, 32)}, tmp_path / "one.safetensors")
    model = opened(large, tmp_path / "hand.safetensors")
    for end, name in (("", "clip_l"), ("_2", "clip_g")):
        tokenizer = getattr(model.pipeline, f"tokenizer{end}")
        [place] = tokenizer.convert_tokens_to_ids(["<hand>_1"])
        known = getattr(model.pipeline, f"text_encoder{end}").get_input_embeddings().weight
        assert torch.equal(known[place], both[name][1])
    for model, name, message in ((large, "one", "for 1 text encoder, and a StableDiffusionXLPipeline has 2"),
                                 (base, "hand", "for 2 text encoders, and a StableDiffusionPipeline has 1")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            opened(model, tmp_path / f"{name}.safetensors")


def test_a_model_with_a_word_is_described_on_paper(base, lora, tmp_path):
    save_file({"<hand>": torch.randn(2, 32)}, tmp_path / "one.safetensors")
    model = DiffusionModel.described(f"{base}+{lora}+{tmp_path / 'one.safetensors'}", size=(16, 16))
    assert model.device.type == "meta"
    assert any(".lora_" in name for name, _ in model.denoiser.named_parameters())


def as_kohya(path, output, alpha=4.0):
    """Write a LoRA of diffusers by the names that it has elsewhere, its strength beside each layer."""
    found = {}
    for name, value in load_file(path).items():
        layer, _, way = name.replace("unet.", "lora_unet_", 1).partition(".lora.")
        layer = layer.replace(".", "_")
        found |= {f"{layer}.lora_{way}": value, f"{layer}.alpha": torch.tensor(alpha)}
    save_file(found, output)
    return output


def test_a_lora_by_the_names_of_other_trainers_is_the_same(base, lora, tmp_path):
    path = as_kohya(lora / "pytorch_lora_weights.safetensors", tmp_path / "cat.safetensors")
    model, known = opened(base, path), opened(base, lora)
    assert model.fingerprint == known.fingerprint
    assert torch.equal(outputs(model), outputs(known))
    drawings = [each.generate(["a cat"], [1], 2)[0] for each in (model, known)]
    assert np.array_equal(*map(np.asarray, drawings))
    weaker = as_kohya(lora / "pytorch_lora_weights.safetensors", tmp_path / "weak.safetensors", 1.0)
    assert not torch.allclose(outputs(opened(base, weaker)), outputs(known), atol=1e-3)


def test_adapters_that_do_not_fit_are_refused_in_one_sentence(base, lora, tmp_path):
    other = saved("sdxl", tmp_path / "sdxl")
    wrong = train_lora(other, tmp_path / "wrong", 3)
    (tmp_path / "pickled.bin").write_bytes(b"no")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 40)
    two = tmp_path / "two"
    two.mkdir()
    for name in "ab":
        shutil.copy(lora / "pytorch_lora_weights.safetensors", two / f"{name}.safetensors")
    save_file({"x": torch.zeros(2), "y": torch.zeros(2)}, tmp_path / "neither.safetensors")
    save_file({"<w>": torch.zeros(1, 7)}, tmp_path / "narrow.safetensors")
    partly = load_file(lora / "pytorch_lora_weights.safetensors")
    partly |= {
        k.replace("mid_block", "nowhere"): v.clone() for k, v in partly.items() if "mid_block" in k
    }
    save_file(partly, tmp_path / "partly.safetensors")
    for adapter, message in (
        (wrong, "fit this model|another base"),
        (tmp_path / "partly.safetensors", "fit this model|another base"),
        (tmp_path / "pickled.bin", "no safetensors file"),
        (tmp_path / "broken.safetensors", "cannot be read as safetensors"),
        (tmp_path / "none", "there is no adapter"),
        (two, "name the adapter's one file"),
        (tmp_path / "neither.safetensors", "neither a LoRA"),
        (tmp_path / "narrow.safetensors", "does not fit"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            opened(base, adapter)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="names no adapter"):
        split_name("model+")


def test_a_model_whose_name_has_a_plus_is_a_model(tmp_path):
    (tmp_path / "a+b").mkdir()
    assert split_name(tmp_path / "a+b") == (str(tmp_path / "a+b"), [])
    assert split_name("model+one+two") == ("model", ["one", "two"])
    for name in ("dream+v2.safetensors", "cfg+v2", "lora+v2.safetensors"):
        (tmp_path / name).touch()
    single, lora = (
        f"{tmp_path}/dream+v2.safetensors@{tmp_path}/cfg+v2",
        str(tmp_path / "lora+v2.safetensors"),
    )
    assert split_name(single) == (single, [])
    assert split_name(f"{single}+{lora}+owner/two") == (single, [lora, "owner/two"])


def test_a_cache_of_an_adapters_layers_answers(base, lora, small_collection, tmp_path):
    model = ["--pretrained_model_name_or_path", str(base), "--adapter", str(lora)]
    images = [*model, "--train_data_dir", str(small_collection)]
    sizes = ["--resolution", "16", "--timesteps", "2", "--proj_dim", "8", "--layers", "adapter"]
    cache = str(tmp_path / "cache")
    assert main(["gradients", *images, *sizes, "--output_dir", cache]) == 0
    assert main(["weights", *images, "--cache_dir", cache, "--queries", "2", "--top_k", "3"]) == 0
    attributor = Attributor.from_pretrained(f"{base}+{lora}", cache, small_collection)
    assert all(".lora_" in group for group in attributor.cache.groups)
    answer = attributor.attribute(attributor.collection.image(3), attributor.collection.captions[3])
    assert answer.rank(1)[0].index == 3
    with pytest.raises(InputError, match="model"):
        Attributor.from_pretrained(base, cache, small_collection)


def test_another_state_of_the_denoiser_takes_its_place_before_a_lora_is_added(base, lora, tmp_path):
    unet = diffusers.UNet2DConditionModel.from_pretrained(base / "unet")
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.mul_(1.1)
    unet.save_pretrained(tmp_path / "unet_ema")
    found = opened(base, tmp_path / "unet_ema")
    for name, parameter in found.denoiser.named_parameters():
        assert torch.equal(parameter, unet.get_parameter(name)), name
    assert found.fingerprint != opened(base).fingerprint
    both = opened(base, lora, tmp_path / "unet_ema").fingerprint
    assert both == opened(base, tmp_path / "unet_ema", lora).fingerprint != found.fingerprint
    path = tmp_path / "unet_ema/diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["conv_in.weight"] = tensors["conv_in.weight"][:1].clone()
    save_file(tensors, path)
    with pytest.raises(InputError, match="does not fit this model"):
        opened(base, tmp_path / "unet_ema")
    del tensors["conv_in.weight"]
    save_file(tensors, path)
    with pytest.raises(InputError, match="nor all of the denoiser's parameters"):
        opened(base, tmp_path / "unet_ema")

"""Every family's gradients are the exact ones, and its denoiser is told what its own pipeline tells it."""

import ast
import inspect
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from families import FAMILIES, exact, prompts_of, saved, size_for
from PIL import Image

from attribution.cache.build import build_cache
from attribution.cache.site import CacheConfig
from attribution.errors import InputError
from attribution.gradients.features import FeatureConfig, FeatureExtractor
from attribution.models import families
from attribution.models.diffusion import DiffusionModel, copy_of, moving_names
from attribution.models.families import FAMILIES as TABLE
from attribution.models.families import packed, unpacked
from attribution.models.schedule import schedule_of
from attribution.pictures.collection import load_collection
from attribution.pictures.layout import Layout

FAST = ("sd", "sdxl", "flux dev", "z image", "dit", "ddpm")
EVERY = [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in FAMILIES]
CONFIG = FeatureConfig("denoising_loss", timesteps=4, ranges=2, proj_dim=16)


@pytest.fixture(scope="module", params=EVERY)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    return saved(name, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(name, folder):
    return DiffusionModel.from_pretrained(folder, size=size_for(name))


@pytest.fixture(scope="module")
def extractor(model):
    return FeatureExtractor(model, CONFIG)


@pytest.fixture(scope="module")
def pictures():
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)) for _ in range(4)]


@pytest.fixture(scope="module")
def together(extractor, pictures, name):
    return extractor(pictures, prompts_of(name), 4)


def test_features_are_exact_gradients_with_captions_of_unequal_length(
    name, extractor, pictures, together
):
    assert together.isfinite().all()
    for place, prompt in enumerate(prompts_of(name)):
        want = exact(extractor, pictures[place], prompt)
        assert want.norm() > 0
        whole = torch.cosine_similarity(together[place].flatten(), want.flatten(), 0)
        assert whole > 1 - 1e-6
        seen = want.norm(dim=1) > 1e-5 * want.norm()
        assert torch.cosine_similarity(together[place], want, 1)[seen].min() > 1 - 1e-5
        assert torch.allclose(together[place].norm(dim=1), want.norm(dim=1), rtol=1e-3, atol=1e-7)


def test_features_do_not_depend_on_the_batch_and_come_twice_the_same(
    name, extractor, pictures, together
):
    alone = extractor(pictures, prompts_of(name), 1)
    assert torch.allclose(alone, together, rtol=1e-3, atol=1e-5 * float(together.abs().max()))
    assert torch.equal(extractor(pictures, prompts_of(name), 4), together)


@pytest.mark.slow
def test_half_the_memory_gives_nearly_the_same_features_and_draws(name, folder, pictures, together):
    narrow = DiffusionModel.from_pretrained(folder, size=size_for(name), precision="bf16")
    assert (narrow.precision, narrow.dtype) == ("bf16", torch.bfloat16)
    narrow.only_when_needed = True
    features = FeatureExtractor(narrow, CONFIG)(pictures, prompts_of(name), 4)
    alike = torch.cosine_similarity(features.flatten(1), together.flatten(1), 1)
    assert (features.dtype, alike.min() > 0.9) == (torch.float32, True), alike
    if name == "pixart told sizes":  # which the pipeline tells to networks of 1024 pixels alone
        return
    [drawn] = narrow.generate(prompts_of(name)[:1], [1], 2)
    assert drawn.size == narrow.size


def test_the_denoiser_gives_what_the_pipelines_own_drawing_is_given(name, model, monkeypatch):
    if name == "pixart told sizes":
        pytest.skip("the pipeline tells sizes to networks of 1024 pixels alone")
    taken, prompt = [], prompts_of(name)[1]
    sampler = model.pipeline.scheduler
    step = type(sampler).step

    def listen(self, output, timestep, sample, *given, **named):
        taken.append((output.clone(), timestep, sample.clone()))
        return step(self, output, timestep, sample, *given, **named)

    monkeypatch.setattr(type(sampler), "step", listen)
    told = []
    guidance = {"flux dev": 3.5, "z image": 0.0}.get(
        name, 1.0
    )  # that asks for no second prediction
    [drawn] = model.generate([prompt], [5], 3, guidance, lambda *done: told.append(done))
    assert drawn.size == model.size
    assert told[-1] == (3, 3)
    output, timestep, sample = taken[0]
    like = torch.zeros(1, *model.latent_shape)
    if sample.dim() == 3:  # packed
        back = unpacked if "klein" not in name else lambda x, like: x.mT.reshape(like.shape)
        output, sample = back(output, like), back(sample, like)
    last = model.num_timesteps - 1  # where a flow is drawn from
    place = last if model.family.flow else int(timestep)
    with torch.no_grad():
        got = model.predict(
            sample.view(like.shape), torch.tensor([place]), model.conditions([prompt])
        )
    assert torch.allclose(got, output.view(like.shape), rtol=1e-3, atol=1e-4)


def test_a_drawing_and_a_copy_change_no_feature(name, model, extractor, pictures, together):
    if name != "pixart told sizes":  # which draws 1024 pixels alone
        model.generate(prompts_of(name)[:1], [1], 2)
    assert torch.equal(extractor(pictures, prompts_of(name), 4), together)
    twin = copy_of(model)
    assert twin.pipeline.scheduler is not model.pipeline.scheduler
    assert twin.fingerprint == model.fingerprint
    assert torch.equal(FeatureExtractor(twin, CONFIG)(pictures, prompts_of(name), 4), together)


def test_an_estimate_is_exact_where_the_output_is(model):
    clean, noise = torch.randn(
        2, 3, *model.latent_shape, generator=torch.Generator().manual_seed(0)
    )
    timesteps = torch.tensor([5, 400, 900])
    noisy = model.schedule.add_noise(clean, noise, timesteps)
    target = model.schedule.target(clean, noise, timesteps)
    for got, want in zip(
        model.schedule.estimate(noisy, target, timesteps), (clean, noise), strict=True
    ):
        assert torch.allclose(got, want, atol=1e-3)


def test_the_documents_table_is_that_of_the_code():
    rows = []
    for kind, family in TABLE.items():
        denoiser = family.classes[family.networks[0]][0]
        trained = "flow matching" if family.flow else "diffusion"
        maps, what_if = (
            "yes" if has else "no"
            for has in (family.maps, family.anatomy.keys and family.reads == "prompt")
        )
        rows.append(
            f"| `{kind}` | `{denoiser}` | {family.reads} | {trained} | {maps} | {what_if} |"
        )
    text = (Path(__file__).parents[1] / "docs/your-model.md").read_text()
    text = text.split("## Which models")[1]
    assert [line for line in text.splitlines() if line.startswith("| `")] == rows


def test_one_more_family_takes_at_most_ten_lines():
    """Count each row of the table with the functions that it alone names."""
    tree = ast.parse(inspect.getsource(families))
    lines = {
        node.name: node.end_lineno - node.lineno + 1
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }
    [table] = [
        node.value for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "FAMILIES"
    ]  # fmt: skip
    rows = dict(zip([key.value for key in table.keys], table.values, strict=True))
    asks = {
        name: {each.id for each in ast.walk(row) if isinstance(each, ast.Name)} & {*lines}
        for name, row in rows.items()
    }
    shared = [each for some in asks.values() for each in some]
    count = {
        name: row.end_lineno - row.lineno + 1
        + sum(lines[each] for each in asks[name] if shared.count(each) == 1)
        for name, row in rows.items()
    }  # fmt: skip
    assert max(count.values()) <= 10, count
    assert count["AuraFlowPipeline"] == 4


def test_packing_is_undone():
    latents = torch.randn(2, 3, 4, 6)
    assert packed(latents).shape == (2, 6, 12)
    assert torch.equal(unpacked(packed(latents), latents), latents)


def test_samplers_of_one_flow_give_one_schedule():
    solver = DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
    )
    flow = schedule_of(FlowMatchEulerDiscreteScheduler(shift=3.0))
    assert schedule_of(solver) == flow
    solver.set_timesteps(5)
    assert schedule_of(solver) == flow
    sampler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    assert torch.allclose(flow.level(torch.arange(1000)).flip(0), sampler.sigmas, atol=1e-6)


def shapes_of(model, latents, prompt):
    """Run the denoiser once; give every layer's output by its name."""
    found, hooks = {}, []
    for layer, module in model.denoiser.named_modules():
        keep = lambda _m, _i, output, layer=layer: found.update({layer: output})  # noqa: E731
        hooks.append(module.register_forward_hook(keep))
    with torch.no_grad():
        model.predict(latents, torch.tensor([10]), model.conditions([prompt]))
    for hook in hooks:
        hook.remove()
    return found


def test_a_layer_that_is_placed_has_the_pictures_positions_row_by_row(model, extractor, name):
    anatomy = model.family.anatomy
    if not anatomy.placed:
        pytest.skip("no maps")
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(1, *model.latent_shape, generator=draw)
    prompt, side = prompts_of(name)[1], model.latent_shape[1]
    found = shapes_of(model, latents, prompt)
    patch = 2 if "2DModel" in type(model.denoiser).__name__ and "pos_embed.proj" in found else 1
    whole = (side // patch) ** 2
    first = next(layer for layer in found if layer.endswith((".to_q", "conv_in")))
    other = latents.clone()
    other[:, :, -1, 0] += 1  # the lower left corner
    moved = (shapes_of(model, other, prompt)[first] - found[first]).abs()
    moved = moved.sum(-1)[0] if moved.dim() == 3 else moved.sum(1)[0].flatten()
    square = moved.view(math.isqrt(len(moved)), -1)
    assert square[-1, 0] > 0
    reach = 2 if first.endswith("conv_in") else 1  # of a convolution with its neighbours
    assert square[:-reach].sum() == square[:, reach:].sum() == 0
    for layer in extractor.projector.layers:
        output = found[layer.removesuffix(".weight")]
        positions = output.shape[2:] if output.dim() == 4 else output.shape[1:-1]
        count = math.prod(positions)
        if anatomy.reads_prompt(layer):
            assert count not in (1, whole), layer
        else:  # a UNet halves the sides
            assert count == 1 or any(count * 4**n == whole for n in range(4)), layer


def test_unlearning_moves_what_reads_words_and_only_that(model):
    names = moving_names(model)
    assert bool(names) == bool(model.family.anatomy.keys and model.family.reads == "prompt")
    if not names:
        return
    copy, moved = copy_of(model, moving=True), set(names)
    mine = dict(model.denoiser.named_parameters())
    for name, parameter in copy.denoiser.named_parameters():
        assert (parameter.data_ptr() == mine[name].data_ptr()) != (name in moved)
    latents = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    args = latents, torch.tensor([10]), model.conditions(["a cat"])
    with torch.no_grad():
        before = model.predict(*args)
        for name in names:
            copy.denoiser.get_parameter(name).mul_(2)
        assert not torch.equal(copy.predict(*args), before)
        assert torch.equal(model.predict(*args), before)


def test_a_model_of_classes_wants_pictures_of_classes(tmp_path):
    model = DiffusionModel.from_pretrained(saved("dit", tmp_path / "model"))
    for name in ("3/a.png", "7/b.png"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / "pictures" / name)
    config = CacheConfig(timesteps=2, proj_dim=4)
    silent = load_collection(tmp_path / "pictures")
    with pytest.raises(InputError, match="DiTPipeline reads a class, .* --caption_column label"):
        build_cache(model, silent, tmp_path / "cache", config)
    told = load_collection(tmp_path / "pictures", Layout("label"))
    assert told.captions == ["3", "7"]
    assert build_cache(model, told, tmp_path / "cache", config).images == 2

"""Projected gradients equal autograd's per-example gradients, projected the same way."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from attribution.errors import InputError
from attribution.gradients import layers
from attribution.gradients.layers import LayerProjection
from attribution.gradients.projector import GradientProjector, PackedRows

DIM, ROWS = 16, 3  # rows of an example


class CalledTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, 12)

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x)))


class SideInput(nn.Module):
    """A layer that the input never reaches, as a UNet's time embedding, and one that is never called."""

    def __init__(self):
        super().__init__()
        self.main, self.side, self.idle = nn.Linear(9, 20), nn.Linear(7, 20), nn.Linear(3, 3)

    def forward(self, x):
        return self.main(x) * self.side(torch.ones(len(x), 7))


def conv(*args, **kwargs):
    return nn.Sequential(nn.Conv2d(*args, **kwargs), nn.Tanh(), nn.Conv2d(args[1], 3, 1))


NETWORKS = {
    "linear on vectors": (
        lambda: nn.Sequential(nn.Linear(10, 14), nn.Tanh(), nn.Linear(14, 8)),
        (10,),
    ),
    "linear on tokens": (
        lambda: nn.Sequential(nn.Linear(10, 14), nn.Tanh(), nn.Linear(14, 8)),
        (5, 10),
    ),
    "linear on a grid": (lambda: nn.Sequential(nn.Linear(10, 14), nn.Tanh()), (3, 4, 10)),
    "narrow layer": (lambda: nn.Linear(3, 2), (3,)),
    "convolution": (lambda: conv(4, 8, 3, padding=1), (4, 9, 7)),
    "strided": (lambda: conv(4, 8, 3, stride=2, padding=1), (4, 9, 8)),
    "dilated": (lambda: conv(4, 8, 3, dilation=2, padding=2), (4, 9, 8)),
    "grouped": (lambda: conv(4, 8, 3, groups=2, padding=1), (4, 6, 6)),
    "depthwise": (lambda: conv(6, 12, 3, groups=6), (6, 6, 6)),
    "circular padding": (lambda: conv(4, 8, 3, padding=1, padding_mode="circular"), (4, 6, 6)),
    "same padding": (lambda: conv(4, 8, 4, padding="same"), (4, 6, 6)),
    "called twice": (CalledTwice, (12,)),
    "side input": (SideInput, (9,)),
    "changed in place": (
        lambda: nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 1)),
        (4, 6, 6),
    ),
    "wide, folded": (
        lambda: nn.Sequential(nn.Linear(150, 600), nn.Tanh(), nn.Linear(600, 64)),
        (4, 150),
    ),
    "transposed": (lambda: nn.Sequential(Conv1D(14, 10), nn.Tanh(), Conv1D(8, 14)), (5, 10)),
    "transposed, folded": (
        lambda: nn.Sequential(Conv1D(600, 150), nn.Tanh(), Conv1D(64, 600)),
        (4, 150),
    ),
    "wide convolution, folded": (lambda: conv(100, 140, 3, padding=1), (100, 4, 4)),
    "pointwise, strided": (lambda: conv(6, 12, 1, stride=2, padding=1), (6, 7, 6)),
    "norms": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 3), nn.GroupNorm(2, 8), nn.Flatten(2), nn.LayerNorm(16)
        ),
        (4, 6, 6),
    ),
}


def project(layer, gradient):
    """Project one weight gradient as the layer's factors say, by plain sums in float64."""
    gradient = gradient.double()
    if isinstance(layer.layer, Conv1D):
        gradient = gradient.T
    if layer.is_conv:
        gradient = gradient.flatten(2)
        if layer.into is not None:
            gradient = torch.einsum("oct,kc->okt", gradient, layer.into.double())
        if layer.taps is not None:
            sets = layer.taps.flatten(1).double()  # [channel * set, tap]
            per_channel = sets.view(gradient.shape[1] * layer.groups, -1, sets.shape[1])
            per_group = per_channel.view(layer.groups, -1, *per_channel.shape[1:])
            group_of = torch.arange(len(gradient)) * layer.groups // len(gradient)
            gradient = torch.einsum("oct,ocst->ocs", gradient, per_group[group_of])
        gradient = gradient.flatten(1)
    elif layer.into is not None:
        gradient = gradient @ layer.into.double().T
    if layer.out is not None:
        gradient = layer.out.double() @ gradient
    linear_narrow = not layer.is_conv and gradient.shape[1] < gradient.shape[0]
    return fold_by_a_loop(layer.sketch, (gradient.T if linear_narrow else gradient).flatten())


def fold_by_a_loop(sketch, numbers):
    folded = torch.zeros(sketch.proj_dim, dtype=torch.float64)
    if len(numbers) <= sketch.proj_dim:
        folded[: len(numbers)] = numbers
        return folded
    for place, value in enumerate(numbers):
        folded[place % sketch.buckets] += value * sketch.sign[place]
    return folded


def reference(network, projector, inputs):
    """Build every example's gradients by autograd, one example at a time, and project them."""
    examples = []
    for rows in inputs.split(ROWS):
        network.zero_grad()
        network(rows).square().sum().backward()
        features = []
        for projection in projector.projections:
            for name, sketch in zip(projection.names, projection.sketches, strict=True):
                is_weight = isinstance(projection, LayerProjection) and not name.endswith(".bias")
                parameter = network.get_parameter(name + ".weight" if is_weight else name)
                gradient = parameter.grad
                gradient = torch.zeros_like(parameter) if gradient is None else gradient
                if is_weight:
                    features.append(project(projection, gradient))
                else:
                    features.append(fold_by_a_loop(sketch, gradient.flatten().double()))
        examples.append(torch.stack(features))
    return torch.stack(examples).detach()


def take(projector, network, inputs):
    return projector(lambda: network(inputs).square().flatten(1).sum(1), len(inputs) // ROWS)


@pytest.mark.parametrize("parameters", ["weights", "all"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_features_equal_projected_autograd_gradients(kind, parameters):
    torch.manual_seed(0)
    build, shape = NETWORKS[kind]
    network, inputs = build(), torch.randn(2 * ROWS, *shape)
    projector = GradientProjector(network, DIM, seed=1, parameters=parameters)
    got = take(projector, network, inputs)
    want = reference(network, projector, inputs)
    assert got.shape == (2, len(projector.layers), DIM)
    assert (got - want).abs().max() <= 2e-5 * want.abs().max()
    assert all(p.requires_grad for p in network.parameters())  # left as it was found
    assert all(p.grad is None or p.grad.shape for p in network.parameters())


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_gradient_that_was_built_is_projected_to_the_same_feature(kind):
    torch.manual_seed(0)
    build, shape = NETWORKS[kind]
    network, inputs = build(), torch.randn(2 * ROWS, *shape)
    projector = GradientProjector(network, DIM, seed=1)
    got = take(projector, network, inputs)
    for place, projection in enumerate(projector.projections):
        gradients = []
        for rows in inputs.split(ROWS):
            network.zero_grad()
            network(rows).square().sum().backward()
            gradient = projection.layer.weight.grad
            gradients.append(
                torch.zeros_like(projection.layer.weight) if gradient is None else gradient
            )
        found = projection.project(torch.stack(gradients))
        assert torch.allclose(found, got[:, place], atol=2e-5 * float(got.abs().max()))


def test_wide_layers_are_folded_and_their_taps_summed():
    layer = GradientProjector(conv(100, 140, 3, padding=1), DIM, seed=1).projections[0]
    assert layer.into.shape == (32, 100)
    assert len(layer.taps) == len(layer.into)  # one set of taps
    narrow = NETWORKS["wide, folded"][0]()
    assert GradientProjector(narrow, DIM, seed=1).projections[1].out.shape == (32, 64)


def test_all_parameters_means_every_parameter():
    network = NETWORKS["norms"][0]()
    projector = GradientProjector(network, DIM, seed=1, parameters="all")
    names = {name.removesuffix(".weight") for name, _ in network.named_parameters()}
    assert {name.removesuffix(".weight") for name in projector.layers} == names
    with pytest.raises(InputError, match="choose weights or all"):
        GradientProjector(network, DIM, seed=1, parameters="some")


def test_features_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    network, inputs = conv(4, 8, 3, padding=1), torch.randn(6 * ROWS, 4, 8, 8)
    projector = GradientProjector(network, DIM, seed=1)
    together = take(projector, network, inputs)
    one_by_one = torch.cat([take(projector, network, rows) for rows in inputs.split(ROWS)])
    assert torch.allclose(together, one_by_one, rtol=1e-5, atol=1e-5 * float(together.abs().max()))


class Checkpointed(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return checkpoint(self.network, x, use_reentrant=False)


@pytest.mark.parametrize("kind", ["convolution", "called twice", "changed in place"])
def test_checkpointing_changes_nothing(kind):
    torch.manual_seed(0)
    build, shape = NETWORKS[kind]
    network, inputs = Checkpointed(build()), torch.randn(2 * ROWS, *shape)
    projector = GradientProjector(network, DIM, seed=1)
    plain = projector(
        lambda: network.network(inputs).square().flatten(1).sum(1), len(inputs) // ROWS
    )
    assert torch.equal(take(projector, network, inputs), plain)


def test_bf16_autocast_stays_near_full_precision_and_sums_in_float32():
    torch.manual_seed(0)
    network, inputs = conv(8, 16, 3, padding=1), torch.randn(4 * ROWS, 8, 8, 8)
    projector = GradientProjector(network, 64, seed=1)
    found = []
    for context in (nullcontext(), torch.autocast("cpu", torch.bfloat16)):
        with context:
            found.append(projector(lambda: network(inputs).float().square().flatten(1).sum(1), 4))
    assert found[1].dtype == torch.float32
    assert functional.cosine_similarity(*found, dim=2).min() > 0.999


def test_projections_depend_on_the_layers_name_and_the_seed_only():
    torch.manual_seed(0)
    small = nn.Sequential(nn.Linear(300, 300))
    large = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 300))
    first = GradientProjector(small, DIM, seed=1).projections[0]
    again = GradientProjector(large, DIM, seed=1).projections
    assert torch.equal(first.into, again[0].into)
    assert not torch.equal(again[0].into, again[1].into)
    assert not torch.equal(first.into, GradientProjector(small, DIM, seed=2).projections[0].into)


def test_a_compiled_network_is_refused_by_name():
    network = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 2)))
    GradientProjector(network, DIM, seed=1)
    with pytest.raises(InputError, match="the network is compiled"):
        GradientProjector(torch.compile(network), DIM, seed=1)
    network[1].compile()
    with pytest.raises(InputError, match="^1 is compiled"):
        GradientProjector(network, DIM, seed=1)


def test_a_batch_that_examples_cannot_share_is_refused():
    network = nn.Linear(4, 4)
    projector = GradientProjector(network, DIM, seed=0)
    with pytest.raises(InputError, match="5 rows, which 2 examples cannot share"):
        projector(lambda: network(torch.randn(5, 4)).sum(1), 2)


@pytest.mark.parametrize(
    ("inputs", "outputs"), [(64, 64), pytest.param(700, 900, marks=pytest.mark.slow)]
)
def test_cosines_are_as_good_as_a_dense_gaussian_projections(inputs, outputs):
    torch.manual_seed(0)
    network, batch = nn.Linear(inputs, outputs), torch.randn(24, 16, inputs)
    shared = torch.randn(1, 16, inputs)  # examples are alike, as activations are
    batch = batch + shared
    exact = torch.stack([reference_gradient(network, x) for x in batch]).flatten(1)
    cosine = functional.cosine_similarity
    want, size = cosine(exact[:, None], exact[None], -1), 256

    def error(features):
        return (cosine(features[:, None], features[None], -1) - want).square().mean().sqrt()

    ours, dense = [], []
    for seed in range(8):
        projector = GradientProjector(network, size, seed=seed)
        ours.append(error(projector(lambda: network(batch).square().flatten(1).sum(1), 24)[:, 0]))
        torch.manual_seed(seed)
        dense.append(error(exact @ torch.randn(exact.shape[1], size)))
    assert torch.stack(ours).mean() < 1.3 * torch.stack(dense).mean()


def test_folding_is_chosen_only_where_it_pays():
    assert layers.folded_sides(64, 64, 1, 1024) == (64, 64)
    k_out, k_in = layers.folded_sides(1280, 1280, 1, 1024)
    assert k_out * k_in >= layers.OVERSAMPLING * 1024
    assert min(k_out, k_in) < 1280
    assert min(k_out, k_in) >= 1280 / layers.SHRINK


def reference_gradient(network, x):
    network.zero_grad()
    network(x[None]).square().sum().backward()
    return network.weight.grad.clone()


class Packed(nn.Module):
    """Rows of unequal length, run as one."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, rows):
        whole = self.layer(torch.cat(rows))
        return torch.stack([part.square().sum() for part in whole.split([len(r) for r in rows])])


def test_rows_that_cannot_be_told_apart_are_refused_and_run_alone():
    torch.manual_seed(0)
    network, rows = Packed(), [torch.randn(1, 4), torch.randn(3, 4)]  # two rows each, on trust
    projector = GradientProjector(network, DIM, seed=1)
    with pytest.raises(PackedRows, match="layer layer saw 4 rows where the objective has 2"):
        projector(lambda: network(rows), 2)
    for row in rows:
        [want] = torch.autograd.grad(network([row]).sum(), [network.layer.weight])
        got = projector(lambda row=row: network([row]), 1)
        assert torch.allclose(got[0, 0], projector.projections[0].project(want[None])[0])


def test_an_objective_that_is_one_number_is_refused():
    network = nn.Linear(4, 4)
    projector = GradientProjector(network, DIM, seed=1)
    with pytest.raises(InputError, match="one value for each row was expected"):
        projector(lambda: network(torch.randn(2, 4)).square().mean(), 2)


def test_a_layer_that_is_called_by_keyword_gives_its_gradient():
    network, inputs = nn.Linear(4, 4), torch.randn(3, 4)
    projector = GradientProjector(network, DIM, seed=1)
    found = [
        projector(lambda call=call: call().square().sum(1), 3)
        for call in (lambda: network(inputs), lambda: network(input=inputs))
    ]
    assert torch.equal(*found)


def test_weights_that_no_gradient_is_taken_of_are_named():
    network = nn.ModuleDict(
        {"seen": nn.Linear(4, 4), "line": nn.Conv1d(4, 4, 1), "look": nn.MultiheadAttention(4, 2)}
    )
    assert GradientProjector(network, DIM, seed=1).left_out == [
        "line.weight",
        "look.in_proj_weight",
    ]

"""Projected gradients equal autograd's per-example gradients, projected the same way."""

import pytest
import torch
from torch import nn

from attribution.gradients import GradientProjector

SIDE, DIM = 6, 16


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
}


def reference(network, projector, inputs):
    """Build every example's weight gradient by autograd, project it densely, sketch it by a loop."""
    rows = []
    for example in inputs:
        network.zero_grad()
        network(example[None]).square().sum().backward()
        features = []
        for name, layer in projector.layers.items():
            weight = network.get_submodule(name).weight
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
            block = layer.out @ gradient.flatten(1) @ layer.into.T
            folded = torch.zeros(DIM)
            for value, bucket, sign in zip(
                block.flatten(), layer.sketch.bucket, layer.sketch.sign, strict=True
            ):
                folded[bucket] += value * sign
            features.append(folded)
        rows.append(torch.stack(features))
    return torch.stack(rows).detach()


@pytest.mark.parametrize("kind", NETWORKS)
def test_features_equal_projected_autograd_gradients(kind):
    torch.manual_seed(0)
    build, shape = NETWORKS[kind]
    network, inputs = build(), torch.randn(4, *shape)
    projector = GradientProjector(network, SIDE, DIM, seed=1)
    got = projector(lambda: network(inputs).square().flatten(1).sum(1))
    want = reference(network, projector, inputs)
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()
    assert all(p.requires_grad for p in network.parameters())  # left as it was found


def test_features_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    network, inputs = conv(4, 8, 3, padding=1), torch.randn(6, 4, 8, 8)
    projector = GradientProjector(network, SIDE, DIM, seed=1)

    def take(x):
        return projector(lambda: network(x).square().flatten(1).sum(1))

    together = take(inputs)
    one_by_one = torch.cat([take(x[None]) for x in inputs])
    assert torch.allclose(together, one_by_one, rtol=1e-5, atol=1e-5 * float(together.abs().max()))


def test_projections_depend_on_the_layers_name_and_the_seed_only():
    torch.manual_seed(0)
    small, large = (
        nn.Sequential(nn.Linear(30, 30)),
        nn.Sequential(nn.Linear(30, 30), nn.Linear(30, 30)),
    )
    first = GradientProjector(small, SIDE, DIM, seed=1).layers["0"]
    again = GradientProjector(large, SIDE, DIM, seed=1).layers
    assert torch.equal(first.into, again["0"].into)
    assert not torch.equal(again["0"].into, again["1"].into)
    assert not torch.equal(first.into, GradientProjector(small, SIDE, DIM, seed=2).layers["0"].into)


def test_inner_products_survive_the_projection_on_average():
    torch.manual_seed(0)
    network, inputs = nn.Linear(64, 64), torch.randn(24, 64)
    exact = torch.stack([reference_gradient(network, x) for x in inputs]).flatten(1)
    projector = GradientProjector(network, 32, 512, seed=0)
    features = projector(lambda: network(inputs).square().sum(1))[:, 0]
    cosine = nn.functional.cosine_similarity
    error = cosine(exact[:, None], exact[None], -1) - cosine(features[:, None], features[None], -1)
    assert (
        error.square().mean().sqrt() < 2 * 512**-0.5
    )  # a dense Gaussian projection's is about 512^-.5


def reference_gradient(network, x):
    network.zero_grad()
    network(x[None]).square().sum().backward()
    return network.weight.grad.clone()

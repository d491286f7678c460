"""EK-FAC's inverse is the dense one where the curvature is a Kronecker product, and its parts are autograd's."""

import pytest
import torch
from test_gradients import DIM, NETWORKS, project
from torch import nn

from attribution.errors import InputError
from attribution.gradients.ekfac import Preconditioner, fit_factors, read_factors, save_factors
from attribution.gradients.projector import GradientProjector

KNOWN = [kind for kind in NETWORKS if not kind.startswith(("grouped", "depthwise", "transposed"))]


def closure(network, inputs):
    return lambda: network(inputs).square().flatten(1).sum(1)


def test_the_inverse_is_the_dense_fishers_where_that_is_a_kronecker_product():
    generator = torch.Generator().manual_seed(0)
    network = nn.Linear(5, 4)
    projector = GradientProjector(network, 20, seed=0)
    a = torch.randn(7, 5, generator=generator).repeat_interleave(6, 0)
    d = torch.randn(6, 4, generator=generator).repeat(7, 1)  # every a with every d: independent
    factors = fit_factors(projector, lambda: iter([lambda: (network(a) * d).sum(1)]))
    gradients = torch.einsum("no,ni->noi", d, a).flatten(1).double()
    fisher = gradients.T @ gradients / len(gradients)
    fisher += 0.1 * fisher.diagonal().mean() * torch.eye(20)
    query = torch.randn(1, 5, generator=generator)
    weight = torch.randn(1, 4, generator=generator)
    got = Preconditioner(projector, factors, 0.1)(lambda: (network(query) * weight).sum(1))
    exact = (weight.T @ query).flatten().double()
    want = torch.linalg.solve(fisher, exact).view(4, 5)
    want = project(projector.projections[0], want)
    assert torch.allclose(got[0].double(), want, rtol=1e-3, atol=1e-3 * float(want.abs().max()))


@pytest.mark.parametrize("kind", [kind for kind in KNOWN if kind != "norms"])
def test_factors_are_autograds_and_huge_damping_gives_the_plain_feature(kind):
    torch.manual_seed(0)
    build, shape = NETWORKS[kind]
    network, inputs = build(), torch.randn(4, *shape)
    if kind == "changed in place":
        network[1].inplace = False
    projector = GradientProjector(network, DIM, seed=1)
    halves = [closure(network, part) for part in inputs.split(2)]
    factors = fit_factors(projector, lambda: iter(halves))
    singles = []
    for row in inputs:
        network.zero_grad()
        closure(network, row[None])().sum().backward()
        singles.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    for projection in projector.projections:
        name = projection.names[0]
        layer, key = factors[name], f"{name}.weight" if name else "weight"
        if key not in singles[0]:  # never called
            assert not layer.eigenvalues.any()
            continue
        eye = torch.eye(len(layer.inputs))
        assert torch.allclose(layer.inputs.T @ layer.inputs, eye, atol=1e-4)
        rotated = [layer.outputs.T @ s[key].flatten(1) @ layer.inputs for s in singles]
        want = torch.stack(rotated).square().mean(0)
        assert torch.allclose(layer.eigenvalues, want, rtol=1e-3, atol=1e-4 * float(want.max()))
    plain = projector(closure(network, inputs), 1)[0]
    damped = Preconditioner(projector, factors, 1e6)(closure(network, inputs))
    scale = torch.stack([factors[n].eigenvalues.mean() for n in projector.layers]) * 1e6
    got = damped * scale[:, None]
    assert torch.allclose(got, plain, rtol=1e-2, atol=2e-4 * float(plain.abs().max()))
    assert all(p.requires_grad for p in network.parameters())


def test_factors_come_back_from_disk_and_others_are_refused(tmp_path):
    torch.manual_seed(0)
    network, inputs = nn.Linear(5, 4), torch.randn(9, 5)
    projector = GradientProjector(network, DIM, seed=1)
    factors = fit_factors(projector, lambda: iter([closure(network, inputs)]))
    with pytest.raises(InputError, match="ekfac.safetensors is missing"):
        read_factors(tmp_path, {"model": "one"}, projector)
    save_factors(tmp_path, factors, {"model": "one"})
    again = read_factors(tmp_path, {"model": "one"}, projector)
    ours, theirs = (
        Preconditioner(projector, f, 0.1)(closure(network, inputs)) for f in (factors, again)
    )
    assert torch.allclose(ours, theirs, rtol=0.02, atol=0.02 * float(ours.abs().max()))
    with pytest.raises(InputError, match="another model"):
        read_factors(tmp_path, {"model": "other"}, projector)
    wider = GradientProjector(nn.Sequential(nn.Linear(5, 4)), DIM, seed=1)
    with pytest.raises(InputError, match="other layers than the model"):
        Preconditioner(wider, again, 0.1)


def test_what_has_no_factors_is_refused():
    for kind in ("grouped", "transposed"):
        projector = GradientProjector(NETWORKS[kind][0](), DIM, seed=1)
        with pytest.raises(InputError, match="EK-FAC knows no layer such as"):
            fit_factors(projector, lambda: iter([]))
    biased = GradientProjector(nn.Linear(3, 3), DIM, seed=1, parameters="all")
    with pytest.raises(InputError, match="no biases and no norms"):
        fit_factors(biased, lambda: iter([]))

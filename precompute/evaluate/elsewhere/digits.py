"""Handwritten digits of scikit-learn (1,797 pictures of 8 x 8) and a small convolutional classifier.

Out: a `Domain`. Weights are fitted on pictures whose labels are not read: the network's own guess stands in.
"""

import torch
from jaxtyping import Float
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from attribution.seeds import generator
from precompute.evaluate.elsewhere.domain import Domain, Examples, rows_of


def new_network() -> nn.Module:
    """Make an untrained classifier: three convolutions, two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Float[Tensor, "row"]:
    """Give the cross-entropy of each picture's label."""
    return functional.cross_entropy(network(images), labels, reduction="none")


def load(train: int = 500, queries: int = 200, epochs: int = 20) -> Domain:
    """Deal the pictures out, in an order drawn once; no picture has two uses."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16  # in [0, 1]
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=generator("digits"))
    sizes = [train, queries, queries, queries]
    parts = order[: sum(sizes)].split(sizes)
    ours, validation, evaluation = (rows_of((images, labels), rows) for rows in parts[:3])

    @torch.no_grad()
    def unlabelled(network: nn.Module) -> Examples:
        shown = images[parts[3]]
        return shown, network(shown).argmax(1)

    return Domain(
        name="digits",
        network=new_network,
        loss=loss,
        train=ours,
        queries={"validation": validation, "evaluation": evaluation},
        unlabelled=unlabelled,
        epochs=epochs,
        batch_size=50,
        learning_rate=3e-3,
    )

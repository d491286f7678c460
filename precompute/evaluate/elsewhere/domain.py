"""Say what a domain is, and train its network on some of its training examples.

In: a network's architecture, a per-example loss, examples. Out: a trained network, and losses. It does not know
what the examples show, and nothing of attribution.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attribution.files import hash_of
from attribution.seeds import generator

Examples = tuple[Tensor, ...]  # as many rows in each


@dataclass(frozen=True)
class Domain:
    """A network, a per-example loss, a data set, and how the network is trained."""

    name: str
    network: Callable[[], nn.Module]  # a new one
    loss: Callable[..., Float[Tensor, "row"]]  # (network, *examples)
    train: Examples
    queries: dict[str, Examples]  # "validation", for choosing settings, and "evaluation"
    unlabelled: Callable[
        [nn.Module], Examples
    ]  # queries as the network sees them, to fit weights on
    epochs: int
    batch_size: int
    learning_rate: float
    keep: dict[str, Tensor] = field(default_factory=dict)  # data that another machine may not have

    @property
    def recipe(self) -> dict:
        """Give what the losses depend on, besides the seeds."""
        examples = [self.train, *self.queries.values()]
        return {
            "domain": self.name,
            "network": str(self.network()),
            "examples": hash_of([part.tolist() for parts in examples for part in parts]),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
        }


def rows_of(examples: Examples, rows: Tensor | slice) -> Examples:
    """Pick rows of examples."""
    return tuple(part[rows] for part in examples)


def train(domain: Domain, rows: Tensor, seed: int) -> nn.Module:
    """Train a new network on some rows; the seed decides where it starts and the order of examples.

    AdamW under a one-cycle schedule.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = domain.network().train()
    draw = generator("order", domain.name, seed)
    batches = [
        rows[chosen]
        for _ in range(domain.epochs)
        for chosen in torch.randperm(len(rows), generator=draw).split(domain.batch_size)
    ]
    optimizer = torch.optim.AdamW(network.parameters(), lr=domain.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, domain.learning_rate, total_steps=len(batches)
    )
    for chosen in batches:
        optimizer.zero_grad()
        domain.loss(network, *rows_of(domain.train, chosen)).mean().backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def losses(domain: Domain, network: nn.Module, examples: Examples) -> Float[Tensor, "row"]:
    """Give the loss of every example."""
    starts = range(0, len(examples[0]), 64)
    parts = [domain.loss(network, *rows_of(examples, slice(i, i + 64))) for i in starts]
    return torch.cat(parts)

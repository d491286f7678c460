"""Train networks on random halves of a domain's training examples, and keep what they lose on the queries.

In: a domain. Out: masks and losses, the ground truth of the linear datamodeling score (arXiv 2303.14186,
section 2), in one small safetensors file with its recipe. The first halves serve to choose settings, on their own
queries; the others to report. A run that was stopped goes on where it was.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors import safe_open
from torch import Tensor
from tqdm import tqdm

from attribution.errors import InputError
from attribution.files import load_tensors, save_tensors
from attribution.seeds import generator
from precompute.evaluate.elsewhere.domain import Domain, losses, train
from precompute.evaluate.truth.datamodels import Truth

SAVE_EVERY = 8  # trainings


@dataclass(frozen=True)
class HalvesConfig:
    """How many halves, and how many networks on each."""

    validation: int = 32
    evaluation: int = 64
    seeds: int = 3

    def purpose(self, half: int) -> str:
        """Tell what a half is for."""
        return "validation" if half < self.validation else "evaluation"


def draw_half(domain: Domain, half: int) -> Bool[Tensor, "train"]:
    """Draw which training examples a half holds."""
    count = len(domain.train[0])
    mask = torch.zeros(count, dtype=torch.bool)
    mask[torch.randperm(count, generator=generator("half", domain.name, half))[: count // 2]] = True
    return mask


def ground_truth(
    domain: Domain, config: HalvesConfig, path: Path, work_dir: Path
) -> dict[str, Truth]:
    """Read the ground truth, or train what it lacks."""
    recipe = json.dumps(domain.recipe | asdict(config), sort_keys=True)
    masks = torch.stack(
        [draw_half(domain, half) for half in range(config.validation + config.evaluation)]
    )
    if not path.is_file():
        found = trained(domain, masks, config, recipe, work_dir / path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, domain.keep | {"masks": masks, **found}, {"recipe": recipe})
    if recipe_of(path) != recipe:
        raise InputError(f"{path} was made by another recipe; delete it to train again")
    tensors, first = load_tensors(path), config.validation
    return {
        "validation": Truth(tensors["masks"][:first], tensors["validation"]),
        "evaluation": Truth(tensors["masks"][first:], tensors["evaluation"]),
    }


def recipe_of(path: Path) -> str:
    """Read by what recipe a file was made."""
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get("recipe", "")


def trained(
    domain: Domain,
    masks: Bool[Tensor, "half train"],
    config: HalvesConfig,
    recipe: str,
    unfinished: Path,
) -> dict[str, Float[Tensor, "seed half query"]]:
    """Train a network for each half and seed; `unfinished` keeps the losses meanwhile."""
    done = {}
    if unfinished.is_file() and recipe_of(unfinished) == recipe:
        done = load_tensors(unfinished)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    wanted = [(half, seed) for half in range(len(masks)) for seed in range(config.seeds)]
    left = [pair for pair in wanted if "{}.{}".format(*pair) not in done]
    for number, (half, seed) in enumerate(tqdm(left, desc=f"training on {domain.name}")):
        network = train(domain, masks[half].nonzero()[:, 0], seed)
        queries = domain.queries[config.purpose(half)]
        done[f"{half}.{seed}"] = losses(domain, network, queries)
        if number % SAVE_EVERY == 0:
            save_tensors(unfinished, done, {"recipe": recipe})
    found = {}
    for purpose in domain.queries:
        halves = [half for half in range(len(masks)) if config.purpose(half) == purpose]
        found[purpose] = torch.stack(
            [
                torch.stack([done[f"{half}.{seed}"] for half in halves])
                for seed in range(config.seeds)
            ]
        )
    unfinished.unlink(missing_ok=True)
    return found

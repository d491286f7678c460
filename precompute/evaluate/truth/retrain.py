"""Train the study's model on many random halves of its pictures, once: the ground truth of LDS.

In: the shipped collection and model. Out: one file of masks (which picture was in which half), the losses that each
model has on queries that the full model drew, these queries, and the full model's denoiser. Any method can then be
scored in seconds (`evaluate lds`). `validation` halves and queries are for settings, `evaluation` ones for figures.
The halves of one seed share start and draws, so that only what is kept differs.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from attribution.answer.queries import draw_queries
from attribution.concepts import combinations
from attribution.errors import InputError
from attribution.files import save_tensors, write_whole
from attribution.seeds import FIRST_SEED
from precompute.evaluate.truth.study import STEPS, Study, full_model, write_collection
from precompute.evaluate.truth.trainings import Asked, Bench, Training, half, train_all


@dataclass(frozen=True)
class RetrainConfig:
    """How many models are trained, and on what."""

    pretrained_model_name_or_path: str = "assets/model"
    train_data_dir: str = "assets/collection"
    work_dir: str = "runs/study"  # finished trainings
    output_file: str = "benchmarks/ground_truth/study.safetensors"
    subsets: int = 32  # random halves for figures ...
    seeds: int = 2  # ... with a training for each seed
    validation_subsets: int = 64  # random halves for settings, likewise
    queries: int = 120
    validation_queries: int = 60
    steps: int = STEPS
    workers: int = 0  # processes; 0: one for each core
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("subsets", "seeds", "validation_subsets", "queries", "validation_queries"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")


def run(config: RetrainConfig) -> None:
    """Train the full model, draw the queries, train the halves, and put all into one file."""
    work = Path(config.work_dir)
    if not (work / "collection/metadata.jsonl").is_file():
        write_collection(Path(config.train_data_dir), work / "collection")
    study = Study.open(config.pretrained_model_name_or_path, work / "collection")
    settings = {k: v for k, v in asdict(config).items() if k not in ("work_dir", "workers")}
    _check(work / "retrain.json", settings)
    full = full_model(study, work / "full.safetensors", config.steps)
    queries = draw_all(study, full, config)
    count = len(study.collection)
    masks = {
        "evaluation": [half(count, config.seed, 0, n) for n in range(config.subsets)],
        "validation": [half(count, config.seed, 1, n) for n in range(config.validation_subsets)],
    }
    trainings = [
        Training(f"{purpose}-{n}-{seed}", kept, first + 2 * seed)
        for first, purpose in enumerate(masks, 1)
        for n, kept in enumerate(masks[purpose])
        for seed in range(config.seeds)
    ]
    bench = Bench(
        config.pretrained_model_name_or_path, str(work / "collection"), work / "losses",
        queries, config.steps,
    )  # fmt: skip
    found = train_all(trainings, bench, config.workers)

    def losses(purpose: str) -> Tensor:  # [seed, half, query]; the queries for validation come last
        halves = range(len(masks[purpose]))
        names = [[f"{purpose}-{n}-{seed}" for n in halves] for seed in range(config.seeds)]
        return torch.stack([torch.stack([found[n]["losses"] for n in some]) for some in names])

    tensors = {
        "evaluation/masks": torch.stack(masks["evaluation"]),
        "evaluation/losses": losses("evaluation"),
        "validation/masks": torch.stack(masks["validation"]),
        "validation/losses": losses("validation"),
        "queries": torch.stack([torch.from_numpy(np.array(q.image)) for q in queries]),
    }
    tensors |= {f"denoiser/{k}": v.half() for k, v in full.state_dict().items()}
    output = Path(config.output_file)
    output.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(output, tensors)
    about = settings | {"prompts": [q.prompt for q in queries]}
    write_whole(output.with_suffix(".json"), json.dumps(about, indent=1) + "\n")
    print(f"{len(trainings)} trainings in {output}")


def _check(path: Path, settings: dict) -> None:
    """Refuse to mix trainings of different settings."""
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise InputError(
            f"{path.parent} holds trainings of other settings; remove it or choose another work_dir"
        )
    write_whole(path, json.dumps(settings) + "\n")


def draw_all(study: Study, full: UNet2DConditionModel, config: RetrainConfig) -> list[Asked]:
    """Draw the queries, half of them of combinations that no picture shows; validation ones come last."""
    model, found = study.with_denoiser(full), []
    wanted = {"evaluation": config.queries, "validation": config.validation_queries}
    for purpose, count in wanted.items():
        known, unknown = (
            combinations(study.collection, held_out, count, config.seed)
            for held_out in (False, True)
        )
        mixed = known[: count - count // 2] + unknown[: count // 2]
        drawn = draw_queries(model, study.collection, mixed, purpose)
        found += [Asked(q.image, q.prompt, FIRST_SEED[purpose] + i) for i, q in enumerate(drawn)]
    return found

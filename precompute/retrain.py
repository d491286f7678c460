"""Train the study's model on many random halves of its pictures, once: the ground truth of LDS.

In: the shipped collection and model. Out: one file of masks (which picture was in which half), the losses that each
model has on queries that the full model drew, these queries, and the full model's denoiser. Any method can then be
scored in seconds (`evaluate lds`). `choosing` halves and queries are for settings, `reporting` ones for figures.
The halves of one seed share start and draws, so that only what is kept differs.
Every training is kept as soon as it is done; the same command goes on from there. It uses all cores, one training each.
"""

import json
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Bool
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from attribution.errors import InputError
from attribution.files import load_tensors, save_tensors, write_whole
from precompute.queries import combinations, draw_queries
from precompute.study import STEPS, Study, new_small_unet, write_collection

FULL_SEED = 0


@dataclass(frozen=True)
class RetrainConfig:
    """How many models are trained, and on what."""

    pretrained_model_name_or_path: str = "assets/model"
    train_data_dir: str = "assets/collection"
    work_dir: str = "runs/study"  # finished trainings
    output_file: str = "benchmarks/ground_truth/lds.safetensors"
    subsets: int = 32  # random halves for figures ...
    seeds: int = 2  # ... with a training for each seed
    choosing_subsets: int = 16  # random halves for settings, with one training each
    queries: int = 120
    choosing_queries: int = 60
    steps: int = STEPS
    workers: int = 0  # processes; 0: one for each core
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("subsets", "seeds", "queries", "steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")


def half(count: int, *key: int) -> Bool[Tensor, "train"]:
    """Draw a random half of the pictures."""
    order = np.random.default_rng(key).permutation(count)
    return torch.from_numpy(order < count // 2)


def run(config: RetrainConfig) -> None:
    """Train the full model, draw the queries, train the halves, and put all into one file."""
    work = Path(config.work_dir)
    if not (work / "collection/metadata.jsonl").is_file():
        write_collection(Path(config.train_data_dir), work / "collection")
    study = Study.open(config.pretrained_model_name_or_path, work / "collection")
    settings = {k: v for k, v in asdict(config).items() if k not in ("work_dir", "workers")}
    _check(work / "retrain.json", settings)
    full = full_model(study, work, config)
    queries = draw_all(study, full, config)
    jobs = [("reporting", n, seed) for n in range(config.subsets) for seed in range(config.seeds)]
    jobs += [("choosing", n, 0) for n in range(config.choosing_subsets)]
    folder = work / "losses"
    folder.mkdir(exist_ok=True)
    missing = [job for job in jobs if not _path(folder, *job).is_file()]
    workers = min(config.workers or os.cpu_count() or 1, len(missing))
    if missing:
        with ProcessPoolExecutor(
            workers, get_context("spawn"), _open_study, (config, queries)
        ) as pool:
            done = [pool.submit(_train_half, config, *job) for job in missing]
            bar = partial(tqdm, total=len(jobs), initial=len(jobs) - len(missing))
            for future in bar(as_completed(done), desc="training halves", unit="model"):
                future.result()
    masks = {
        purpose: torch.stack([half(len(study.collection), config.seed, k, n) for n in range(count)])
        for k, (purpose, count) in enumerate(_halves(config).items())
    }
    losses = {job: load_tensors(_path(folder, *job))["losses"] for job in jobs}
    reporting = [
        torch.stack([losses["reporting", n, seed] for n in range(config.subsets)])
        for seed in range(config.seeds)
    ]
    tensors = {
        "masks": masks["reporting"],
        "losses": torch.stack(reporting),  # [seed, subset, query]; the choosing queries come last
        "choosing_masks": masks["choosing"],
        "choosing_losses": torch.stack(
            [losses["choosing", n, 0] for n in range(config.choosing_subsets)]
        ),
        "queries": torch.stack([torch.from_numpy(np.array(image)) for image, _, _ in queries]),
    }
    tensors |= {f"denoiser/{k}": v.half() for k, v in full.state_dict().items()}
    output = Path(config.output_file)
    output.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(output, tensors)
    about = settings | {
        "prompts": [prompt for _, prompt, _ in queries],
        "values": [values for _, _, values in queries],
    }
    write_whole(output.with_suffix(".json"), json.dumps(about) + "\n")
    print(f"{len(jobs)} trainings in {output}")


def _halves(config: RetrainConfig) -> dict[str, int]:
    return {"reporting": config.subsets, "choosing": config.choosing_subsets}


def _path(folder: Path, purpose: str, number: int, seed: int) -> Path:
    return folder / f"{purpose}-{number}-{seed}.safetensors"


def _check(path: Path, settings: dict) -> None:
    """Refuse to mix trainings of different settings."""
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise InputError(
            f"{path.parent} holds trainings of other settings; remove it or choose another work_dir"
        )
    write_whole(path, json.dumps(settings) + "\n")


def full_model(study: Study, work: Path, config: RetrainConfig) -> UNet2DConditionModel:
    """Train on all pictures, or load what was trained; in half precision, as it is kept."""
    path = work / "full.safetensors"
    if not path.is_file():
        everything = torch.ones(len(study.collection), dtype=torch.bool)
        trained = study.train(everything, FULL_SEED, config.steps)
        save_tensors(path, {k: v.half() for k, v in trained.state_dict().items()})
    unet = new_small_unet()
    unet.load_state_dict({k: v.float() for k, v in load_tensors(path).items()})
    return unet.eval().requires_grad_(False)


Drawn = tuple[Image.Image, str, dict[str, str]]  # picture, prompt, values


def draw_all(study: Study, full: UNet2DConditionModel, config: RetrainConfig) -> list[Drawn]:
    """Draw the queries, half of them of combinations that no picture shows; choosing ones come last."""
    model, found = study.with_denoiser(full), []
    for purpose, count in (("evaluation", config.queries), ("validation", config.choosing_queries)):
        known, unknown = (
            combinations(study.collection, held_out, count, config.seed)
            for held_out in (False, True)
        )
        wanted = known[: count - count // 2] + unknown[: count // 2]
        drawn = draw_queries(model, study.collection, wanted, purpose)
        found += [(query.image, query.prompt, query.values) for query in drawn]
    return found


_state: dict[str, object] = {}  # of a worker process


def _open_study(config: RetrainConfig, queries: list[Drawn]) -> None:
    torch.set_num_threads(1)
    study = Study.open(config.pretrained_model_name_or_path, Path(config.work_dir) / "collection")
    _state.update(study=study, queries=queries)


def _train_half(config: RetrainConfig, purpose: str, number: int, seed: int) -> None:
    study, queries = _state["study"], _state["queries"]
    k = list(_halves(config)).index(purpose)
    kept = half(len(study.collection), config.seed, k, number)
    unet = study.train(kept, 1 + len(_halves(config)) * seed + k, config.steps)
    losses = study.losses(unet, [image for image, _, _ in queries], [p for _, p, _ in queries])
    folder = Path(config.work_dir) / "losses"
    save_tensors(_path(folder, purpose, number, seed), {"losses": losses})

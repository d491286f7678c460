"""Run many trainings of the study, one on each core, and keep each as soon as it is done.

In: what each training keeps, and the pictures on which it is measured. Out: a safetensors file for each training:
`losses [query]`, and the pictures that it draws under the prompts and seeds of some queries. A run that was stopped
goes on where it was.
"""

import os
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from joblib import cpu_count
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from attribution.files import hash_of, load_tensors, save_tensors
from precompute.evaluate.truth.study import Study


@dataclass(frozen=True)
class Asked:
    """A picture, and the prompt and seed that it was drawn from."""

    image: Image.Image
    prompt: str
    seed: int


@dataclass(frozen=True)
class Training:
    """One denoiser to be trained from nothing."""

    name: str
    kept: Bool[Tensor, "train"]
    seed: int
    draws: tuple[int, ...] = ()  # the queries whose prompts and seeds it draws anew


@dataclass(frozen=True)
class Bench:
    """What all trainings of a run share."""

    model: str
    collection: str
    folder: Path  # of the results
    queries: list[Asked]
    steps: int

    @cached_property
    def key(self) -> str:
        """Hash what decides a result, besides what is kept."""
        asked = [(q.prompt, q.seed, sha256(q.image.tobytes()).hexdigest()) for q in self.queries]
        return hash_of([self.steps, asked])


def half(count: int, *key: int) -> Bool[Tensor, "train"]:
    """Draw a random half of the pictures."""
    order = np.random.default_rng(key).permutation(count)
    return torch.from_numpy(order < count // 2)


def train_all(
    trainings: list[Training], bench: Bench, workers: int = 0
) -> dict[str, dict[str, Tensor]]:
    """Run what is not done yet, and read every training's results."""
    bench.folder.mkdir(parents=True, exist_ok=True)
    missing = [each for each in trainings if not _path(bench, each).is_file()]
    if missing:
        workers = min(workers or cpu_count(), len(missing))
        # Ctrl-C leaves semaphores, which are then cleaned up, but not without a warning.
        os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
        with ProcessPoolExecutor(workers, get_context("spawn"), _open_bench, (bench,)) as pool:
            ours = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the workers' too: we end them
            futures = [pool.submit(_train, each) for each in missing]
            signal.signal(signal.SIGINT, ours)
            with tqdm(total=len(trainings), initial=len(trainings) - len(missing),
                      desc="training", unit="model") as bar:  # fmt: skip
                for future in as_completed(futures):
                    future.result()
                    bar.update()
    return {each.name: load_tensors(_path(bench, each)) for each in trainings}


def _path(bench: Bench, training: Training) -> Path:
    """Name a training's results by all that decides them."""
    kept = training.kept.nonzero()[:, 0].tolist()
    key = hash_of([kept, training.seed, training.draws, bench.key])
    return bench.folder / f"{training.name}-{key}.safetensors"


_opened: list[tuple[Bench, Study]] = []  # of a worker process


def _open_bench(bench: Bench) -> None:
    torch.set_num_threads(1)
    _opened.append((bench, Study.open(bench.model, bench.collection)))


def _train(training: Training) -> None:
    bench, study = _opened[0]
    unet = study.train(training.kept, training.seed, bench.steps)
    images, prompts = [q.image for q in bench.queries], [q.prompt for q in bench.queries]
    results = {"losses": study.losses(unet, images, prompts)}
    if training.draws:
        asked = [bench.queries[i] for i in training.draws]
        drawn = study.with_denoiser(unet).generate(
            [q.prompt for q in asked], [q.seed for q in asked]
        )
        results["pictures"] = torch.stack([torch.from_numpy(np.array(image)) for image in drawn])
    save_tensors(_path(bench, training), results)

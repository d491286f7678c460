"""Open what `retrain` left: the study's full model, its queries and its ground truth, and make caches of the model.

In: the ground truth file. Out: a `Studied`. It measures nothing.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from diffusers import UNet2DConditionModel
from PIL import Image

from attribution.answer.learning import LearnConfig, learn_weights
from attribution.answer.queries import Query, draw_queries
from attribution.cache.build import build_cache
from attribution.cache.site import CacheConfig
from attribution.cache.store import Cache, open_cache
from attribution.concepts import combinations, full_prompt
from attribution.errors import InputError
from attribution.files import load_tensors
from attribution.models.diffusion import DiffusionModel
from attribution.seeds import FIRST_SEED
from precompute.bar import bar
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.truth.datamodels import OTHER, Truth
from precompute.evaluate.truth.study import Study, denoiser, write_collection
from precompute.evaluate.truth.trainings import Asked

GROUND_TRUTH = Path("benchmarks/ground_truth/study.safetensors")
PROJ_DIM = 64
UNLABELLED = 128  # generated pictures on which weights are fitted


@dataclass(frozen=True)
class Studied:
    """The study, its full model on disk, and the queries with the losses of the halves."""

    study: Study
    denoiser: UNet2DConditionModel
    model: Path
    work: Path
    queries: dict[str, list[Asked]]  # purpose -> pictures
    truth: dict[
        str, Truth
    ]  # purpose -> halves; those for choosing on the evaluation's queries, too
    ground_truth: Path
    steps: int

    def full(self) -> DiffusionModel:
        """Give the model that was trained on all pictures."""
        return self.study.with_denoiser(self.denoiser)

    @cached_property
    def unlabelled(self) -> list[Query]:
        """Draw pictures to fit weights on, of combinations that no query's prompt names."""
        collection = self.study.collection
        asked = {query.prompt for queries in self.queries.values() for query in queries}
        every = combinations(collection, held_out=False, count=len(collection), seed=0)
        words = collection.concepts
        phrases = [{k: words[k][v] for k, v in c.items()} for c in every]
        prompts = [full_prompt(each, self.study.collection.sentence) for each in phrases]
        new = [c for c, prompt in zip(every, prompts, strict=True) if prompt not in asked]
        return draw_queries(self.full(), collection, (new or every)[:UNLABELLED], "weights")


def open_studied(config: EvaluateConfig) -> Studied:
    """Write collection and full model as every step expects them, and read the ground truth."""
    about_path = GROUND_TRUTH.with_suffix(".json")
    if not (GROUND_TRUTH.is_file() and about_path.is_file()):
        raise InputError(f"there is no {GROUND_TRUTH}; run python -m precompute retrain")
    tensors, about = load_tensors(GROUND_TRUTH), json.loads(about_path.read_text())
    work = Path(config.work_dir) / "study"
    if not (work / "collection/metadata.jsonl").is_file():
        write_collection(Path(config.train_data_dir), work / "collection")
    study = Study.open(config.pretrained_model_name_or_path, work / "collection")
    prefix = "denoiser/"
    unet = denoiser({k.removeprefix(prefix): v for k, v in tensors.items() if prefix in k})
    model = work / "model"
    if not (model / "model_index.json").is_file():
        study.with_denoiser(unet).save(model)
    images = [Image.fromarray(picture.numpy()) for picture in tensors["queries"]]
    counts = {"evaluation": about["queries"], "validation": about["validation_queries"]}
    queries, truth, start = {}, {}, 0
    for purpose, count in counts.items():
        part = slice(start, start + count)
        seeds = range(FIRST_SEED[purpose], FIRST_SEED[purpose] + count)
        queries[purpose] = [
            Asked(*each) for each in zip(images[part], about["prompts"][part], seeds, strict=True)
        ]
        losses = tensors[f"{purpose}/losses"][:, :, part]
        truth[purpose] = Truth(tensors[f"{purpose}/masks"], losses)
        start += count
    losses = tensors["validation/losses"][:, :, : counts["evaluation"]]
    truth[OTHER] = Truth(tensors["validation/masks"], losses)
    return Studied(study, unet, model, work, queries, truth, GROUND_TRUTH, about["steps"])


def method_cache(studied: Studied, method: str) -> Cache:
    """Make a method's cache of the full model, or open it."""
    folder = studied.work / "caches" / method
    model = DiffusionModel.from_pretrained(studied.model)
    config = CacheConfig(method=method, proj_dim=PROJ_DIM)
    with bar("gradients", "image") as on_step:
        build_cache(model, studied.study.collection, folder, config, on_step)
    return open_cache(folder, {"model": studied.full().fingerprint})


def learned_cache(studied: Studied, method: str) -> Cache:
    """Make a method's cache with its learned weights, or open it."""
    cache = method_cache(studied, method)
    if not (cache.folder / "weights.safetensors").is_file():
        model = DiffusionModel.from_pretrained(studied.model)
        config = LearnConfig(queries=UNLABELLED)
        learn_weights(model, studied.study.collection, cache.folder, config)
    return cache

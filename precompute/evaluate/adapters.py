"""Ask of a LoRA whose gradients say which picture it learned from: its own layers', attention's, or all layers'.

The study's model learns two thirds of the subjects; a LoRA of it learns the others, from all of their pictures and
from many random halves. Scores are compared with the losses of the halves' LoRAs (LDS) and with what the pictures show,
by gradients of the LoRA's own layers, of the attention layers beneath them, and of all; and what each costs in numbers
and time.

  python -m precompute evaluate adapters --update
"""

import time
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attribution.answer.queries import Query, draw_queries
from attribution.cache.scoring import top
from attribution.concepts import combinations
from attribution.gradients.features import FeatureExtractor, unit
from attribution.gradients.methods import METHODS, Method
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.seeds import FIRST_SEED
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.factors import hits_of
from precompute.evaluate.statistics import bootstrap, bootstrap_lds, spearman, subset_sums
from precompute.evaluate.taken import config_of
from precompute.evaluate.truth.datamodels import Truth, ceiling
from precompute.evaluate.truth.kernels import contributions_under
from precompute.evaluate.truth.lora import divided, full_lora, losses_of_halves
from precompute.evaluate.truth.study import Study, full_model, write_collection
from precompute.evaluate.truth.trainings import Asked, half

LAYERS = {"adapter": "adapter", "attention": r"attn.*base_layer", "all": "all"}
BASE = {"d-trak": ("own", 1.0), "trak": ("shared", 0.1)}  # method -> whose noise, damping
HALVES, SEEDS, QUERIES = 24, 2, 60
BASE_STEPS, STEPS = 1000, 200
TIMED = 16  # pictures


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for each method, choice of layers and set of weights."""
    work = Path(config.work_dir) / "adapters"
    if not (work / "collection/metadata.jsonl").is_file():
        write_collection(Path(config.train_data_dir), work / "collection")
    whole = Study.open(config.pretrained_model_name_or_path, work / "collection")
    known, new = divided(whole)
    base = full_model(known, work / "base.safetensors", BASE_STEPS)
    unet = full_lora(new, base, work / "lora.safetensors", STEPS)
    model = new.with_denoiser(unet)
    queries = draw_new(model, new, config.queries or QUERIES, config.seed)
    asked = [Asked(q.image, q.prompt, FIRST_SEED["evaluation"] + i) for i, q in enumerate(queries)]
    masks = [half(len(new.collection), config.seed, 3, n) for n in range(HALVES)]
    folder = work / "halves"
    folder.mkdir(parents=True, exist_ok=True)
    losses = losses_of_halves(new, base, masks, SEEDS, asked, folder, STEPS)
    truth = Truth(torch.stack(masks), losses)
    model = new.with_denoiser(unet)  # as the trainings left another
    return [
        row
        for name in BASE
        for row in rows_of(METHODS[name], model, new, queries, truth, config.seed)
    ]


def draw_new(model: DiffusionModel, study: Study, count: int, seed: int) -> list[Query]:
    """Draw pictures of the subjects that the LoRA learned, of combinations that it knows."""
    collection = study.collection
    shown = {row["subject"] for row in collection.labels}
    every = combinations(collection, held_out=False, count=20 * count, seed=seed)
    wanted = [values for values in every if values["subject"] in shown][:count]
    return draw_queries(model, collection, wanted, "evaluation")


def rows_of(
    method: Method,
    model: DiffusionModel,
    study: Study,
    queries: list[Query],
    truth: Truth,
    seed: int,
) -> list[dict]:
    """Score by each choice of layers, and compare."""
    collection, rows, seconds = study.collection, [], {}
    images = [collection.image(i) for i in range(len(collection))]
    noise, damping = BASE[method.name]
    seen, prompts = Encoded(model, [q.image for q in queries]), [q.prompt for q in queries]
    for name, layers in LAYERS.items():
        config = config_of(method, noise, layers)
        extractor = FeatureExtractor(model, config, method.query)
        train = unit(extractor(images, collection.captions))
        seconds[name] = timed(extractor, images[:TIMED], collection.captions[:TIMED])
        contribute = contributions_under(train, "block", damping)
        parts = contribute(unit(extractor.query(seen, prompts)))
        spread = parts.std(dim=(0, 2), keepdim=True).clamp_min(1e-12)
        for weights, scores in (("plain", parts.sum(1)), ("equalised", (parts / spread).sum(1))):
            rows.append(
                {"method": method.name, "layers": name, "weights": weights}
                | compared(scores, study, queries, truth, seed)
                | {"numbers": len(extractor.groups) * config.dim, "layer": name}
            )
    for row in rows:
        row["time_over_all"] = round(seconds[row.pop("layer")] / seconds["all"], 3)
    return rows


def timed(extractor: FeatureExtractor, images: list[Image.Image], captions: list[str]) -> float:
    """Give the seconds that some pictures take, the second time."""
    for _ in range(2):
        start = time.perf_counter()
        extractor(images, captions)
    return time.perf_counter() - start


def compared(
    scores: Float[Tensor, "query train"],
    study: Study,
    queries: list[Query],
    truth: Truth,
    seed: int,
) -> dict:
    """Compare scores with the halves' losses and with what pictures show."""
    sums = subset_sums(scores.numpy(), truth.masks.numpy(), truth.mean_losses)
    interval = bootstrap_lds(sums, sums, truth.mean_losses, seed)
    seeds, halves, count = truth.losses.shape
    row = {
        "lds": round(float(spearman(sums, -truth.mean_losses.T).mean()), 4),
        "low": interval["low"],
        "high": interval["high"],
        "chance": 0.0,
        "ceiling": ceiling(truth),
        "measured_on": f"{count} pictures drawn by a LoRA that learned {len(study.collection)} pictures; "
        f"{halves} random halves of them x {seeds} seeds",
    }
    places = top(scores, 10)
    for factor in study.collection.concepts:
        hits = hits_of(places, factor, study.collection, queries).mean(1)
        low, high = bootstrap(hits, np.array([q.values[factor] for q in queries]), seed)
        row |= {factor: round(float(hits.mean()), 4), f"{factor}_low": low, f"{factor}_high": high}
    return row

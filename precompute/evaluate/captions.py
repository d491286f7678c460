"""Ask whether self-influence finds the training images whose captions were flipped.

One caption in twenty of the study's collection is exchanged for one that names another subject, style and background; the
study's model is trained on it from nothing; and the images are ranked by what each does for itself,

    self(n) = sum_j w_j <g_j(n), K_j g_j(n)>,

with gradients of any norm, under plain sums, groups made equal (each divided by its mean over images) and learned
weights. The figure is the area under the ROC curve: the chance that a flipped caption ranks before a sound one. Self-influence
of the loss itself is beside them. Repeated with other flips.

  python -m precompute evaluate captions --update
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attribution.answer.learning import LearnConfig, learn_weights
from attribution.answer.questions import GENERAL
from attribution.cache.build import build_cache
from attribution.cache.site import CacheConfig
from attribution.cache.store import Cache, open_cache
from attribution.cache.weights import read_weights
from attribution.gradients.kernel import apply_kernel
from attribution.gradients.methods import method_named
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import load_collection
from precompute.bar import bar
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.statistics import bootstrap
from precompute.evaluate.truth.study import STEPS, Study, full_model, write_collection

SHARE = 0.05
REPEATS = 2
METHODS = ("tracin", "trak", "d-trak")
PROJ_DIM = 64
UNLABELLED = 48  # generated pictures on which weights are fitted


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for each method and set of weights."""
    hits: dict[tuple[str, str], list[np.ndarray]] = {}
    for repeat in range(REPEATS):
        folder = Path(config.work_dir) / f"captions/{config.seed}-{repeat}"
        flipped = write_flipped(config, folder / "collection", repeat)
        study = Study.open(config.pretrained_model_name_or_path, folder / "collection")
        unet = full_model(study, folder / "denoiser.safetensors", STEPS)
        images = [study.collection.image(i) for i in range(len(study.collection))]
        losses = study.losses(unet, images, study.collection.captions)
        hits.setdefault(("loss", "none"), []).append(before(losses, flipped))
        if not (folder / "model/model_index.json").is_file():
            study.with_denoiser(unet).save(folder / "model")
        for method in METHODS:
            for name, scores in self_influence(folder, study, method).items():
                hits.setdefault((method, name), []).append(before(scores, flipped))
    rows = []
    for (method, weights), repeats in hits.items():
        values = np.concatenate(repeats)
        gain = values - np.concatenate(hits.get((method, "equalised"), repeats))
        low, high = bootstrap(values, np.arange(len(values)), config.seed)
        gain_low, gain_high = bootstrap(gain, np.arange(len(values)), config.seed)
        rows.append(
            {
                "method": method,
                "weights": weights,
                "auc": round(values.mean(), 4),
                "low": low,
                "high": high,
                "chance": 0.5,
                "gain_over_equalised": round(gain.mean(), 4),
                "gain_low": gain_low,
                "gain_high": gain_high,
                "measured_on": f"{len(values)} flipped captions in {len(repeats)} trainings on "
                f"{len(study.collection)} images; interval over flipped captions",
            }
        )
    return rows


def write_flipped(config: EvaluateConfig, folder: Path, repeat: int) -> list[int]:
    """Write the study's collection with some captions of images that share no value with their own."""
    source = Path(config.train_data_dir)
    write_collection(source, folder)
    collection = load_collection(folder)
    rng = np.random.default_rng([config.seed, repeat])
    flipped = rng.choice(len(collection), round(SHARE * len(collection)), replace=False).tolist()
    captions = {}
    for index in flipped:
        own = collection.labels[index]
        others = [
            n
            for n, labels in enumerate(collection.labels)
            if all(labels[c] != own[c] for c in collection.concepts)
        ]
        captions[index] = collection.captions[rng.choice(others)]
    files = [collection.files[index] for index in flipped]
    write_collection(source, folder, {collection.files[i]: text for i, text in captions.items()})
    return [load_collection(folder).files.index(file) for file in files]


def self_influence(folder: Path, study: Study, method: str) -> dict[str, Float[Tensor, "train"]]:
    """Make a method's cache and weights, and give every image's influence on itself."""
    model, cache_dir = DiffusionModel.from_pretrained(folder / "model"), folder / method
    paired = method_named(method).each_timestep == "paired"
    config = CacheConfig(method=method, proj_dim=PROJ_DIM // 4 if paired else PROJ_DIM)
    with bar("gradients", "image") as on_step:
        build_cache(model, study.collection, cache_dir, config, on_step)
    if not (cache_dir / "weights.safetensors").is_file():
        learn_weights(model, study.collection, cache_dir, LearnConfig(queries=UNLABELLED))
    cache = open_cache(cache_dir, {})
    order = cache.order_in(study.collection.rows)
    parts = own_contributions(cache)
    parts = torch.empty_like(parts).index_copy_(1, order, parts)  # [group, train]
    weights = read_weights(cache)
    learned = weights[GENERAL] / weights["equalised"]  # mean one, before division by scales
    equal = parts / parts.mean(1, keepdim=True).clamp_min(1e-12)
    return {"uniform": parts.sum(0), "equalised": equal.mean(0), GENERAL: learned @ equal}


def own_contributions(cache: Cache) -> Float[Tensor, "group train"]:
    """Give <g, K g> of every group and image, with gradients of any norm."""
    train = cache.features(raw=True)
    wide = train.transpose(0, 1).double()
    fit = method_named(cache.header["method"]).kernel.fit
    kernel = fit(wide.mT @ wide, len(train), cache.header["damping"])
    return (apply_kernel(train, kernel) * train).sum(2).T


def before(scores: Float[Tensor, "train"], flipped: list[int]) -> np.ndarray:
    """Give, for each flipped image, the share of sound ones that rank after it; their mean is the AUC."""
    sound = torch.ones(len(scores), dtype=torch.bool)
    sound[flipped] = False
    rest = scores[sound]
    return np.array(
        [((rest < s).float() + 0.5 * (rest == s).float()).mean().item() for s in scores[flipped]]
    )

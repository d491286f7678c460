"""Learn the weights of all groups, in general and for each concept, from pictures that the model draws.

In: a model, its collection and its cache, whose kernel's strength is chosen first if that was left open. Out: `weights.safetensors` and `weights.json` in the cache folder,
and `weights.png`, a plot over the network's depth. No label of a training image is read.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from attribution.answer.questions import GENERAL
from attribution.attributor import belongs_to
from attribution.cache.kernel import apply_kernel
from attribution.cache.scoring import chunks
from attribution.cache.store import caption_column, open_cache
from attribution.cache.weights import FitConfig, fit_weights, report_of, take_statistics
from attribution.concepts import captioned, combinations
from attribution.errors import InputError
from attribution.files import ensure_writable, file_hash, save_tensors, write_whole, writing
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.methods import method_named
from attribution.models.diffusion import DiffusionModel
from attribution.models.network import block_of, in_order
from attribution.pictures.collection import Collection, load_collection
from precompute.damping import choose_damping
from precompute.queries import Query, draw_queries, questions

matplotlib.use("Agg")
from matplotlib import pyplot


@dataclass(frozen=True)
class WeightsConfig:
    """What decides the weights, besides model, collection and cache."""

    pretrained_model_name_or_path: str = "assets/model"
    train_data_dir: str = "assets/collection"
    cache_dir: str = "assets/cache"
    queries: int = 128  # pictures that the model draws, of combinations that it knows
    top_k: int = FitConfig.top_k
    penalty: float = FitConfig.penalty
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.queries < 1 or self.top_k < 1:
            raise InputError("queries and top_k must be at least 1")


def run(config: WeightsConfig) -> None:
    """Fit each question's weights on the same pictures, each question asked in its own words."""
    folder = Path(config.cache_dir)
    ensure_writable(folder)
    collection = load_collection(config.train_data_dir, caption_column(folder))
    model = DiffusionModel.from_pretrained(config.pretrained_model_name_or_path, config.device)
    cache = open_cache(folder, {"model": model.fingerprint, "collection": collection.fingerprint()})
    fit = FitConfig(top_k=config.top_k, penalty=config.penalty)
    if not cache.header["damping"] and method_named(cache.header["method"]).kernel != "identity":
        choose_damping(model, cache, draw(config, model, collection, "validation"), fit)
        cache = open_cache(folder, {})
    extractor = FeatureExtractor.of(model, cache)
    queries = draw(config, model, collection, "weights")
    tensors, report = {}, {}
    for name, features in questions(extractor, collection, queries).items():
        kernelised = apply_kernel(features, cache.kernel)

        def passes(kernelised: Tensor = kernelised) -> Iterator[tuple[int, Tensor]]:
            return chunks(kernelised, cache)

        statistics = take_statistics(passes)
        if name == GENERAL:
            tensors["scales"] = statistics.scales
        tensors[name], curve = fit_weights(passes, statistics, tensors["scales"], fit)
        report[name] = report_of(tensors[name], curve)
        print(f"{name}: {report[name]} of {len(cache.groups)} groups", file=sys.stderr)
    with writing(folder):
        path = folder / "weights.safetensors"
        save_tensors(path, tensors)
        header = {
            "belongs_to": belongs_to(cache),
            "checksum": file_hash(path),
            "settings": asdict(config),
            "fit": report,
        }
        write_whole(folder / "weights.json", json.dumps(header, indent=1) + "\n")
    shown = {name: values for name, values in tensors.items() if name != "scales"}
    plot_depth(folder / "weights.png", cache.groups, shown)


def draw(
    config: WeightsConfig, model: DiffusionModel, collection: Collection, purpose: str
) -> list[Query]:
    """Draw pictures of combinations that the model knows, or of captions where no concept is named."""
    if collection.concepts:
        wanted = combinations(collection, held_out=False, count=config.queries, seed=config.seed)
        return draw_queries(model, collection, wanted, purpose)
    prompts = captioned(collection, config.queries, config.seed)
    return draw_queries(model, collection, [{}] * config.queries, purpose, prompts)


def plot_depth(path: Path, groups: list[str], weights: dict[str, torch.Tensor]) -> None:
    """Plot each concept's weights over the layers, in the network's order, a line for each range."""
    ranges = sorted({group.split(":")[0] for group in groups})
    layers = [group.split(":", 1)[1] for group in groups if group.startswith(f"{ranges[0]}:")]
    order = in_order(layers)
    layers = [layers[i] for i in order]
    names = ["least noise", *(f"range {n}" for n in range(1, len(ranges) - 1)), "most noise"]
    figure, grid = pyplot.subplots(
        len(weights),
        1,
        figsize=(10, 2 * len(weights)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    axes = grid[:, 0]
    for axis, (name, values) in zip(axes, weights.items(), strict=True):
        for label, row in zip(names, values.view(len(ranges), -1), strict=False):
            axis.plot(row[order], lw=0.9, label=label)
        axis.set(ylabel=name)
        axis.axhline(1, color="grey", lw=0.5)
    axes[0].legend(loc="upper right", frameon=False)
    blocks = [block_of(layer) for layer in layers]
    starts = [i for i, block in enumerate(blocks) if i == 0 or block != blocks[i - 1]]
    axes[-1].set_xticks(starts, [blocks[i] for i in starts], rotation=40, ha="right", fontsize=7)
    figure.suptitle("weight of each layer (1 = as much as every other)")
    figure.savefig(path, dpi=80)
    pyplot.close(figure)

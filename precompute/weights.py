"""Learn the weights of all groups, in general and for each concept, from pictures that the model draws.

In: a model, its collection and its cache, whose kernel's strength is chosen first if that was left open. Out: `weights.safetensors` in the cache folder, and
`weights.png`, a plot over the network's depth. No label of a training image is read.
"""

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib

from attribution.answer.learning import LearnConfig, learn_weights
from attribution.cache.stamps import collection_of
from attribution.cache.store import loaded_as, read_header
from attribution.cache.weights import Fitted
from attribution.files import ensure_writable, write_whole
from attribution.models.diffusion import DiffusionModel
from attribution.models.network import Anatomy, block_of

matplotlib.use("Agg")
from matplotlib import pyplot


@dataclass(frozen=True)
class WeightsConfig(LearnConfig):
    """What decides the weights, the model, the collection and the cache."""

    pretrained_model_name_or_path: str = "assets/model"
    train_data_dir: str = "assets/collection"
    cache_dir: str = "assets/cache"
    device: str = "cpu"
    follow_links: bool = False  # to pictures outside the collection's folder


def run(config: WeightsConfig) -> None:
    """Learn the weights, say what fitting did, and plot them."""
    folder = Path(config.cache_dir)
    ensure_writable(folder)
    collection = collection_of(config.train_data_dir, folder, config.follow_links)
    model = DiffusionModel.from_pretrained(
        config.pretrained_model_name_or_path, config.device, **loaded_as(folder)
    )
    fitted = learn_weights(model, collection, folder, config)
    header = read_header(folder)
    if "damping_losses" in header:
        print(f"damping {header['damping']} of {header['damping_losses']}", file=sys.stderr)
    for name, each in fitted.items():
        print(f"{name}: {each.report} of {len(header['groups'])} groups", file=sys.stderr)
    plot_depth(folder / "weights.png", header["groups"], fitted, model.family.anatomy)


def plot_depth(path: Path, groups: list[str], fitted: dict[str, Fitted], anatomy: Anatomy) -> None:
    """Plot each concept's weights over the layers, in the network's order, a line for each range."""
    ranges = sorted({group.split(":")[0] for group in groups})
    layers = [group.split(":", 1)[1] for group in groups if group.startswith(f"{ranges[0]}:")]
    order = anatomy.in_order(layers)
    layers = [layers[i] for i in order]
    names = ["least noise", *(f"range {n}" for n in range(1, len(ranges) - 1)), "most noise"]
    figure, grid = pyplot.subplots(
        len(fitted),
        1,
        figsize=(10, 2 * len(fitted)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    axes = grid[:, 0]
    for axis, (name, each) in zip(axes, fitted.items(), strict=True):
        for label, row in zip(names, each.weights.view(len(ranges), -1), strict=False):
            axis.plot(row[order], lw=0.9, label=label)
        axis.set(ylabel=name)
        axis.axhline(1, color="grey", lw=0.5)
    axes[0].legend(loc="upper right", frameon=False)
    blocks = [block_of(layer) for layer in layers]
    starts = [i for i, block in enumerate(blocks) if i == 0 or block != blocks[i - 1]]
    axes[-1].set_xticks(starts, [blocks[i] for i in starts], rotation=40, ha="right", fontsize=7)
    figure.suptitle("weight of each layer (1 = as much as every other)")
    png = io.BytesIO()
    figure.savefig(png, dpi=80)
    write_whole(path, png.getvalue())
    pyplot.close(figure)

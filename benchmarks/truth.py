"""Plot what `python -m precompute evaluate ...` measured, from the committed rows.

In: benchmarks/results/*.json. Out: benchmarks/results/truth.png. It measures nothing.

  python benchmarks/truth.py
"""

import json
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from attribution.gradients.kernel import BLOCK
from attribution.gradients.methods import METHODS

RESULTS = Path("benchmarks/results")
COLOURS = {"plain": "#c9ced6", "equalised": "#8fa3bf", "learned": "#2f5d9b", "none": "#d9b382"}


def read(name: str) -> list[dict]:
    """Read a measurement's rows; none where it was not measured."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else []


def bars(axis: Axes, names: list[str], series: dict[str, list[dict | None]], figure: str) -> None:
    """Draw a group of bars for each name, one for each series, with their intervals."""
    width = 0.8 / len(series)
    for number, (label, rows) in enumerate(series.items()):
        places = [i - 0.4 + width * (number + 0.5) for i, row in enumerate(rows) if row]
        found = [row for row in rows if row]
        values = np.array([row[figure] for row in found])
        errors = [values - [row["low"] for row in found], [row["high"] for row in found] - values]
        axis.bar(places, values, width, yerr=np.abs(errors), label=label, ecolor="#555",
                 color=COLOURS.get(label), error_kw={"lw": 0.7})  # fmt: skip
    axis.set_xticks(range(len(names)), names, rotation=25, ha="right", fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def find(rows: list[dict], **wanted: str) -> dict | None:
    """Give the row that has these values."""
    return next((row for row in rows if all(row.get(k) == v for k, v in wanted.items())), None)


def plot_factors(axis: Axes) -> None:
    """Precision at ten: each concept's own question beside the whole picture's, and beside likeness."""
    rows = read("factors")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    factors = list(dict.fromkeys(row["factor"] for row in rows))
    series = {
        factor: [
            find(rows, method=method, weights=factor, factor=factor)
            or find(rows, method=method, weights="none", factor=factor)
            for method in methods
        ]
        for factor in factors
    }
    bars(axis, methods, series, "precision_at_10")
    axis.set(
        title="the ten first show the picture's own ...", ylabel="precision at 10", ylim=(0, 1.05)
    )
    axis.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")


def plot_lds(axis: Axes) -> None:
    """LDS of every method on the study, with its own noise and its own kernel (by blocks)."""
    rows, shown = read("lds"), {}
    for row in rows:
        method = METHODS.get(row["method"])
        of = {k: row[k] for k in ("method", "noise", "kernel") if k in row}
        own = method and {
            "method": method.name,
            "noise": "shared" if method.each_timestep == "paired" else "own",
            "kernel": "block" if method.kernel == BLOCK else "I",
        }
        if own in (None, of):
            shown[row["method"]] = of
    series = {
        weights: [find(rows, **of, weights=weights) for of in shown.values()]
        for weights in ("plain", "equalised", "learned", "none")
    }
    names = [
        f"{name}, shared" if of.get("noise") == "shared" else name for name, of in shown.items()
    ]
    bars(axis, names, series, "lds")
    if rows:
        axis.axhline(rows[0]["ceiling"], color="#a33", lw=0.8, ls="--", label="ceiling")
    axis.set(title="scores predict the loss of models trained on halves", ylabel="LDS")
    axis.legend(frameon=False, fontsize=8)


def plot_counterfactual(axis: Axes) -> None:
    """Change of a picture's loss when the images that were named for it are gone."""
    rows = [row for row in read("counterfactual") if "over_latents" in row]
    names = [row["method"] for row in rows]
    bars(axis, names, {"learned": rows}, "loss_change")
    axis.axhline(0, color="#555", lw=0.6)
    axis.set(title="50 of 420 images gone, trained again", ylabel="change of the picture's loss")


def plot_calibration(axis: Axes) -> None:
    """Share of pictures for which evidence is claimed at level 1 %."""
    rows = [r for r in read("calibration") if r["level"] == 0.01 and ": " not in r["pictures"]]
    pictures = list(dict.fromkeys(row["pictures"] for row in rows))
    series = {
        question: [find(rows, pictures=each, question=question) for each in pictures]
        for question in dict.fromkeys(row["question"] for row in rows)
    }
    bars(axis, pictures, series, "share")
    axis.legend(frameon=False, fontsize=8)
    axis.axhline(0.01, color="#a33", lw=0.8, ls="--")
    axis.set(title="evidence is claimed, level 1 %", ylabel="share of pictures", ylim=(0, 1.05))


def main() -> None:
    """Draw all panels."""
    figure, axes = pyplot.subplots(2, 2, figsize=(13, 8.4), layout="constrained")
    panels = (plot_factors, plot_lds, plot_counterfactual, plot_calibration)
    for axis, plot in zip(axes.flat, panels, strict=True):
        plot(axis)
    figure.savefig(RESULTS / "truth.png", dpi=75)


if __name__ == "__main__":
    main()

"""Measure how often the answer is right.

  factors         do the first training images show the picture's own subject, style, background?
  exemplars       do pictures of something planted in the training set find what was planted?
  counterfactual  does the picture change when the images that were named are gone?
  lds             do scores predict the losses of models trained on random halves?
  captions        are flipped captions found?
  calibration     is nothing named for pictures that have nothing to do with the model?
  drawn           is it said of what the model drew, and not of unrelated pictures, that it drew them?
  identity        is a training picture recognised, resized, cropped, recompressed or mirrored?
  regions         does the heat map light up the right half of a composite?
  domains         do learned weights predict retraining better for digits and for text, too?
  own             does a phrase that is learned on the spot find what it means?
  unlearning      does the picture change when the images that were named are unlearned?
  world           would one recognise what the model draws?

Each measurement is a module of this package with `measure(config) -> rows`, and a table in `precompute/tables.py`. A row is
flat: a figure, its 95 % interval (`low`, `high`), what it was measured on. `--update` writes the rows into the
results file, where rows of other methods stay.
"""

import importlib
import json
from pathlib import Path

from attribution.files import write_whole
from precompute.evaluate.config import EvaluateConfig
from precompute.tables import TABLES

__all__ = ["EvaluateConfig", "run"]


def run(config: EvaluateConfig) -> None:
    """Measure, add the other methods' committed rows, and print."""
    module = importlib.import_module(f"precompute.evaluate.{config.what}")
    rows = module.measure(config)
    path = Path(config.results or f"benchmarks/results/{config.what}.json")
    committed = json.loads(path.read_text()) if path.is_file() else []
    measured = {row.get("method") for row in rows}
    rows += [row for row in committed if row.get("method") not in measured]
    if config.update:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(json.dumps(row) for row in rows)
        write_whole(path, f"[\n{lines}\n]\n")
    print(json.dumps(rows) if config.json else TABLES[config.what](rows))

"""Measure how often the answer is right.

  factors         do the first training images show the picture's own subject, style, background?
  exemplars       does what a fine-tuned model draws find the one to five pictures that it was fine-tuned on?
  counterfactual  does the picture change when the images that were named are gone?
  lds             do scores predict the losses of models trained on random halves?
  captions        are flipped captions found?
  calibration     is nothing named for pictures that have nothing to do with the model?
  drawn           is it said of what the model drew, and not of unrelated pictures, that it drew them?
  listed          is a list said to name its images more strongly than chance only where it does?
  identity        is a training picture recognised, resized, cropped, recompressed or mirrored?
  regions         does the heat map light up the right half of a composite?
  domains         do learned weights predict retraining better for digits and for text, too?
  own             does a phrase that is learned on the spot find what it means?
  unlearning      does the picture change when the images that were named are unlearned?
  world           would one recognise what the model draws?
  unnamed         is a style found that no word of the prompt names?
  adapters        whose gradients tell what a LoRA learned from, its own or its base's?
  artists         is the artist whose absence hurts a picture most first in its shares?

Each measurement is a module of this package with `measure(config) -> rows`, and a table in `precompute/tables.py`. A row is
flat: a figure, its 95 % interval (`low`, `high`), what it was measured on. `--update` writes the rows into the
results file, where rows of other methods stay. Rows of another model or collection than the shipped ones go to a folder
of their own below the work folder, and are never printed or written among others; what can be measured there is said first.
"""

import importlib
import json
import sys

from attribution.cache.stamps import collection_of
from attribution.errors import InputError
from attribution.models.families import FAMILIES
from attribution.models.parts import class_named
from precompute.evaluate.config import EXACT, MEASUREMENTS, EvaluateConfig
from precompute.evaluate.possible import Measured, lacking, told
from precompute.evaluate.results import WORLD, path_of, read_rows, world_of, write_rows
from precompute.tables import TABLES

__all__ = ["EvaluateConfig", "run"]


def run(config: EvaluateConfig) -> None:
    """Say what can be measured, measure, add the other methods' rows of the same world, and print."""
    world = world_of(config)
    path = path_of(config, world)
    known = read_rows(path, world)
    if world:
        refuse_impossible(config)
    rows = importlib.import_module(f"precompute.evaluate.{config.what}").measure(config)
    rows = [row | ({WORLD: world} if world else {}) for row in rows]
    if config.search != EXACT:
        rows = [row | {"searched": config.search} for row in rows]
    measured = {row.get("method") for row in rows}
    rows += [row for row in known if row.get("method") not in measured]
    if config.update:
        write_rows(path, rows)
        print(f"written to {path}", file=sys.stderr)
    print(json.dumps(rows) if config.json else TABLES[config.what](rows))


def refuse_impossible(config: EvaluateConfig) -> None:
    """Say what can be measured on another world, and refuse what cannot."""
    collection = collection_of(config.train_data_dir, config.cache_dir)
    family = FAMILIES[class_named(config.pretrained_model_name_or_path)]
    on = Measured(collection, family, shipped=False)
    print(told(MEASUREMENTS, on), file=sys.stderr)
    if reasons := lacking(config.what, on):
        raise InputError(f"{config.what} cannot be measured here: {', '.join(reasons)}")

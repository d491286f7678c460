"""No evidence: how often is it claimed for unrelated pictures, and how often found for the model's own.

A row is the share of pictures whose p-value is at most the level. The pictures are drawn with seeds that calibration
never saw; `without its own family` calibrates on the other families alone, so that the family is new in kind, too.
The evidence of each set of pictures is kept in the work folder, and a second run goes on from there:

  python -m precompute calibrate
  python -m precompute evaluate calibration --update
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from attribution.answer.calibration import (
    Calibration,
    calibrated_for,
    described,
    evidence,
    evidence_as_upload,
    evidence_unshown,
    phrases_not_shown,
    read_calibration,
)
from attribution.answer.queries import draw_queries
from attribution.answer.questions import GENERAL
from attribution.cache.stamps import collection_of
from attribution.cache.store import loaded_as
from attribution.concepts import combinations
from attribution.errors import InputError
from attribution.files import hash_of, write_whole
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection
from attribution.seeds import FIRST_SEED
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.results import world_of
from precompute.evaluate.statistics import clopper_pearson
from precompute.shipped.scenes import compose
from precompute.shipped.styles import STYLES, draw
from precompute.unrelated import FAMILIES, FOREIGN, draw_unrelated

LEVELS = (0.01, 0.05)
UNRELATED, DRAWS, GUESSED = 512, 100, 20
METHOD = "gain in denoising"
Found = list[dict[str, float]]  # for each picture, question -> evidence


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for every set of pictures, question and level."""
    folder = Path(config.cache_dir)
    collection = collection_of(config.train_data_dir, folder)
    model = DiffusionModel.from_pretrained(
        config.pretrained_model_name_or_path, config.device, **loaded_as(folder)
    )
    belongs_to = calibrated_for(model, collection.concepts, collection.sentence)
    calibration = read_calibration(folder, belongs_to)
    if calibration is None or not calibration.unshown:
        raise InputError(
            f"{folder} has no calibration of concepts; run python -m precompute calibrate"
        )
    count = config.queries or UNRELATED
    families = list(FAMILIES | FOREIGN)
    unrelated = kept(
        config, belongs_to, "unrelated", lambda: ask_unrelated(model, collection, count)
    )
    own = kept(config, belongs_to, "own", lambda: ask_own(model, collection, config))
    shipped = not world_of(config)  # whose code draws new pictures
    new = kept(config, belongs_to, "new", lambda: ask_new(model, collection)) if shipped else []

    rows = rates("false alarms", "unrelated pictures, guessed words", unrelated, calibration)
    for number, family in enumerate(families):
        here = unrelated[number :: len(families)]
        rows += rates("false alarms", f"unrelated: {family}", here, calibration, [GENERAL])
        others = torch.arange(len(calibration.unrelated)) % len(families) != number
        blind = replace(calibration, unrelated=calibration.unrelated[others])
        what = f"unrelated: {family}, calibrated without its own family"
        rows += rates("false alarms", what, here, blind, [GENERAL])
    is_foreign = [name in FOREIGN for name in families]
    foreign = [row for n, row in enumerate(unrelated) if is_foreign[n % len(families)]]
    plain = torch.arange(len(calibration.unrelated)) % len(families) < len(FAMILIES)
    blind = replace(calibration, unrelated=calibration.unrelated[plain])
    what = "unrelated: scenes in foreign styles, calibrated without any foreign style"
    rows += rates("false alarms", what, foreign, blind, [GENERAL])
    concepts = list(collection.concepts)
    what = "generated, asked for what they do not show"
    rows += rates("false alarms", what, own["wrong"], calibration, concepts)
    for what, found in own.items():
        if what != "wrong":
            rows += rates("detected", f"generated, {what}", found, calibration)
    what = "the collection's code, new pictures, guessed words"
    return rows + (rates("detected", what, new, calibration) if shipped else [])


def rates(
    figure: str,
    what: str,
    found: Found,
    calibration: Calibration,
    names: list[str] | None = None,
) -> list[dict]:
    """Give the share of pictures at or below every level, with its Clopper-Pearson interval."""
    values = [calibration.p_values({GENERAL: np.inf} | row) for row in found]
    rows = []
    for name in names or list(values[0]):
        for level in LEVELS:
            hits = sum(row[name] <= level for row in values)
            low, high = clopper_pearson(hits, len(values))
            rows.append(
                {
                    "method": METHOD,
                    "figure": figure,
                    "pictures": what,
                    "question": name,
                    "level": level,
                    "share": round(hits / len(values), 4),
                    "low": low,
                    "high": high,
                    "chance": level,
                    "measured_on": f"{len(values)} {what}; null of {len(calibration.unrelated)}",
                }
            )
    return rows


def kept(config: EvaluateConfig, belongs_to: dict, name: str, ask: Callable) -> list | dict:
    """Take evidence once, and read it from the work folder afterwards."""
    key = hash_of({"of": belongs_to, "queries": config.queries, "seed": config.seed})
    path = Path(config.work_dir) / f"calibration-{name}-{key}.json"
    if not path.is_file():
        found = ask()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(found))
    return json.loads(path.read_text())


def ask_unrelated(model: DiffusionModel, collection: Collection, count: int) -> Found:
    """Guess what unrelated pictures show, as an upload's words are guessed."""
    images, _ = draw_unrelated(count, FIRST_SEED["evaluation"], model.size)
    return [evidence_as_upload(model, collection, i) for i in tqdm(images, "unrelated pictures")]


def ask_own(
    model: DiffusionModel, collection: Collection, config: EvaluateConfig
) -> dict[str, Found]:
    """Ask about pictures that the model drew: in their own words, in wrong words, in guessed words."""
    found: dict[str, Found] = {}
    wanted = [
        values
        for held_out in (False, True)
        for values in combinations(collection, held_out, DRAWS, config.seed + 1)
    ]
    queries = draw_queries(model, collection, wanted, "evaluation")
    wrong = phrases_not_shown(collection, wanted, config.seed + 1)  # others than the null's
    for number, (query, other) in enumerate(zip(tqdm(queries, "own draws"), wrong, strict=True)):
        kind = "held-out combinations" if number >= DRAWS else "known combinations"
        words, sentence = collection.phrases(query.values), collection.sentence
        seen = Encoded(model, [query.image])
        right = evidence(seen, described(words, sentence=sentence), sentence)
        found.setdefault(kind, []).append(right)
        found.setdefault("wrong", []).append(evidence_unshown(seen, words, other, sentence))
        if number % DRAWS < GUESSED:
            guessed = evidence_as_upload(model, collection, query.image)
            found.setdefault(f"{kind}, guessed words", []).append(guessed)
    return found


def ask_new(model: DiffusionModel, collection: Collection, count: int = 48) -> Found:
    """Ask about pictures by the collection's own code, with seeds that no training picture has."""
    rng, found = np.random.default_rng(FIRST_SEED["evaluation"]), []
    for values in tqdm(combinations(collection, False, count, 1), "new pictures"):
        shop = STYLES[values["style"]][1][rng.integers(2)]
        shapes = compose(values["subject"], values["background"], rng)
        found.append(
            evidence_as_upload(model, collection, draw(shapes, values["style"], shop, rng))
        )
    return found

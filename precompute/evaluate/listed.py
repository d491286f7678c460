"""How often are lists said to name training images more strongly than chance: wrongly, and rightly.

A row is the share of pictures whose list has a p-value of at most the level (attribution/answer/lists.py), for one question. Nulls
are unrelated pictures asked in guessed words and in prompts that people would type, and what the model drew, asked in words
that it does not show; detected is what it drew from such prompts and from its collection's words, asked in these. Pictures,
prompts and seeds are others than those of calibration. Each picture's alikeness is kept in the work folder.

  python -m precompute calibrate
  python -m precompute evaluate listed --update
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from attribution.answer.lists import DRAWN, Judge, stamp
from attribution.answer.queries import Query
from attribution.answer.questions import GENERAL
from attribution.attributor import Attributor
from attribution.concepts import combinations, full_prompt
from attribution.errors import InputError
from attribution.files import hash_of, write_whole
from attribution.models.encoded import Encoded
from attribution.seeds import FIRST_SEED
from precompute.evaluate.calibration import LEVELS
from precompute.evaluate.config import EXACT, EvaluateConfig
from precompute.evaluate.drawn import PROMPTS
from precompute.evaluate.statistics import clopper_pearson
from precompute.lists import OTHER, UNRELATED, Named, ask, ask_drawn, ask_unrelated, other_words
from precompute.unrelated import FAMILIES, FOREIGN, draw_unrelated

METHOD = "alikeness to the first ten"
SAID = {DRAWN: "own words", UNRELATED: "guessed words"}  # of kinds, in a table
PICTURES, COMBINATIONS = 160, 40  # pictures; of each half of the combinations
DIGITS = 4


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for every set of pictures, kind of words, question and level."""
    attributor = Attributor.from_pretrained(
        config.pretrained_model_name_or_path, config.cache_dir, config.train_data_dir, config.device,
        search=config.search,
    )  # fmt: skip
    if attributor.lists is None:
        raise InputError(
            f"{config.cache_dir} has nothing that lists are compared with; run python -m precompute calibrate"
        )
    key = hash_of(
        [stamp(attributor.cache), config.seed, *[config.search] * (config.search != EXACT)]
    )
    folder = Path(config.work_dir) / f"listed/{key}"
    judges, rows = attributor.lists.judges, []
    for what, ask_one, count in sets(attributor, config):
        names = tqdm(range(count), what)
        found = [kept(folder / what / f"{n}.json", ask_one, n) for n in names]
        rows += rates(judges, what, found)
        if what == "unrelated pictures":
            foreign = [name in FOREIGN for name in (FAMILIES | FOREIGN)]
            some = [each for n, each in enumerate(found) if foreign[n % len(foreign)]]
            rows += rates(judges, "scenes in foreign styles", some)
    return rows


def sets(
    attributor: Attributor, config: EvaluateConfig
) -> list[tuple[str, Callable[[int], Named], int]]:
    """Name sets of pictures, how one of a number is asked, and how many there are."""
    model, collection, first = attributor.model, attributor.collection, FIRST_SEED["evaluation"]
    count = config.queries or PICTURES
    unrelated, _ = draw_unrelated(count, first, model.size)
    wanted = [
        values
        for pair in zip(
            *(combinations(collection, held_out, COMBINATIONS, config.seed + 1) for held_out in (True, False)),
            strict=True,
        )
        for values in pair
    ]  # fmt: skip

    def of_unrelated(number: int) -> Named:
        return ask_unrelated(attributor, unrelated[number], "", PROMPTS[number % len(PROMPTS)])

    def of_prompt(number: int) -> Named:
        return of_query({}, PROMPTS[number], first + number)

    def of_combination(number: int) -> Named:
        phrases = collection.phrases(wanted[number])
        prompt = full_prompt(phrases, collection.sentence)
        return of_query(wanted[number], prompt, first + len(PROMPTS) + number)

    def of_query(values: dict[str, str], prompt: str, seed: int) -> Named:
        [image] = model.generate([prompt], [seed])
        rng = np.random.default_rng([config.seed, seed])
        found = ask_drawn(attributor, Query(image, values, prompt), rng)
        if values:  # and the whole picture in a wrong description
            phrases = collection.phrases(values)
            other = full_prompt(other_words(collection.concepts, phrases, rng), collection.sentence)
            seen = Encoded(model, [image])
            found[f"{GENERAL}: {OTHER}"] = ask(attributor, seen, {GENERAL: other})[GENERAL]
        return found

    return [
        ("unrelated pictures", of_unrelated, count),
        ("drawn from prompts that people would type", of_prompt, min(len(PROMPTS), count)),
        ("drawn combinations, half of them held out", of_combination, min(len(wanted), count)),
    ]


def kept(path: Path, ask_one: Callable[[int], Named], number: int) -> Named:
    """Ask a picture once, and read it from the work folder afterwards."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = {
            name: [round(x, DIGITS) for x in a.tolist()] for name, a in ask_one(number).items()
        }
        write_whole(path, json.dumps(found))
    return {name: torch.tensor(a) for name, a in json.loads(path.read_text()).items()}


def rates(judges: dict[str, Judge], what: str, found: list[Named]) -> list[dict]:
    """Give the share of pictures at or below every level, with its Clopper-Pearson interval."""
    names = dict.fromkeys(name for picture in found for name in picture)
    rows = []
    for name in names:
        question, _, kind = name.rpartition(": ")
        judge = judges[question]
        values = [judge.p_value(picture[name]) for picture in found if name in picture]
        for level in LEVELS:
            hits = sum(value <= level for value in values)
            low, high = clopper_pearson(hits, len(values))
            rows.append(
                {
                    "method": METHOD,
                    "figure": "detected" if kind == DRAWN else "false alarms",
                    "pictures": f"{what}, {SAID.get(kind, kind)}",
                    "question": question,
                    "level": level,
                    "share": round(hits / len(values), 4),
                    "low": low,
                    "high": high,
                    "chance": level,
                    "measured_on": f"{len(values)} {what}, {SAID.get(kind, kind)}; nulls of "
                    f"{min(len(a) for k, a in judge.kinds.items() if k != DRAWN)}",
                }
            )
    return rows

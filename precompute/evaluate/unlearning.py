"""Ask whether unlearning the images that are named changes a picture more than unlearning others does.

For pictures of held-out combinations, 40 of the collection's images are unlearned: those that come first for the whole
picture, by nearness in the autoencoder's latents, or at random. Three things are compared with the model as it is: the
picture's loss under its prompt, the picture that the same prompt and seed give, and the loss of another picture that
shares no value with the first. By concept: the 40 that come first for the style (or the subject) alone go, and the
picture's loss is taken under the style's phrase and under the subject's. Everything measured is kept, to go on from.

  python -m precompute evaluate unlearning --update
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from attribution.answer.queries import Query, draw_queries, encode
from attribution.answer.questions import GENERAL
from attribution.answer.similarity import latent_scores
from attribution.attributor import Attributor
from attribution.cache.scoring import top
from attribution.concepts import combinations, denoising_losses
from attribution.errors import InputError
from attribution.files import hash_of, write_whole
from attribution.looks.unlearning import UnlearnConfig, difference, unlearn
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.seeds import FIRST_SEED, generator
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.statistics import bootstrap, bootstrap_ratio, clopper_pearson

QUERIES = 24
BY_CONCEPT = 10  # pictures, of these, whose style and subject are unlearned
REMOVED = 40
LISTS = (GENERAL, "random", "latents")
CONCEPTS = ("style", "subject")
UNLEARNING = UnlearnConfig()


@dataclass(frozen=True)
class Asked:
    """A picture, its seed, its phrases, and a picture that shares none of its values."""

    query: Query
    seed: int
    phrases: dict[str, str]
    unrelated: Query


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for each list of images, and for each concept."""
    attributor = Attributor.from_pretrained(
        config.pretrained_model_name_or_path, config.cache_dir, config.train_data_dir, config.device,
        search=config.search,
    )  # fmt: skip
    count, found = config.queries or QUERIES, {}
    asked = pictures(attributor, count, config.seed)
    removed = lists(attributor, asked, config.seed)
    known = hash_of([asdict(UNLEARNING), attributor.model.fingerprint, count])
    folder = Path(config.work_dir) / f"unlearning/{config.seed}-{known}"
    for name in (*LISTS, *CONCEPTS):
        ranked = removed[name]
        for number in tqdm(range(len(ranked)), desc=f"unlearning by {name}", unit="picture"):
            path = folder / f"{name}-{number}-{hash_of(ranked[number])}.json"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                changes = changes_of(attributor, asked[number], ranked[number], name)
                write_whole(path, json.dumps(changes))
            found.setdefault(name, []).append(json.loads(path.read_text()))
    return [row_of(name, found, config.seed) for name in LISTS] + [
        concept_row(name, found[name], config.seed) for name in CONCEPTS if found.get(name)
    ]


def pictures(attributor: Attributor, count: int, seed: int) -> list[Asked]:
    """Draw pictures of held-out combinations; each is paired with the next that shares no value."""
    collection = attributor.collection
    wanted = combinations(collection, held_out=True, count=count, seed=seed)
    drawn = draw_queries(attributor.model, collection, wanted, "evaluation")
    found = []
    for number, query in enumerate(drawn):
        following = drawn[number + 1 :] + drawn[:number]
        apart = [q for q in following if not set(q.values.items()) & set(query.values.items())]
        if not apart:
            raise InputError(
                f"{count} pictures are too few to find one that shares no value; ask for 24"
            )
        phrases = collection.phrases(query.values)
        found.append(Asked(query, FIRST_SEED["evaluation"] + number, phrases, apart[0]))
    return found


def lists(attributor: Attributor, asked: list[Asked], seed: int) -> dict[str, list[list[int]]]:
    """Name the images to remove for each picture, in each of the ways that are compared."""
    collection, removed = attributor.collection, {}
    for each in tqdm(asked, desc="attributing", unit="picture"):
        answer = attributor.attribute(each.query.image, each.query.prompt, each.phrases)
        for name in (GENERAL, *CONCEPTS):
            if name == GENERAL or len(removed.get(name, [])) < BY_CONCEPT:
                first = [source.index for source in answer.rank(REMOVED, **{name: 1.0})]
                removed.setdefault(name, []).append(first)
    images = attributor.model.latents([each.query.image for each in asked])
    near = latent_scores(images, encode(attributor.model, collection))
    chance = torch.rand(near.shape, generator=generator("unlearning", seed))
    return removed | {
        "latents": top(near, REMOVED).tolist(),
        "random": top(chance, REMOVED).tolist(),
    }


def changes_of(
    attributor: Attributor, asked: Asked, rows: list[int], name: str
) -> dict[str, float]:
    """Unlearn some images and say what changed."""
    started = time.monotonic()
    changed = unlearn(attributor.model, attributor.collection, rows, UNLEARNING)
    seconds = time.monotonic() - started

    def rise(query: Query, phrases: list[str]) -> list[float]:
        before, after = (
            denoising_losses(Encoded(m, [query.image]), phrases).mean(1)
            for m in (attributor.model, changed)
        )
        return (after - before).tolist()

    found = {"seconds": seconds, "loss": rise(asked.query, [asked.query.prompt])[0]}
    if name in CONCEPTS:
        phrases = [asked.phrases[concept] for concept in CONCEPTS]
        return found | dict(zip(CONCEPTS, rise(asked.query, phrases), strict=True))
    found["unrelated"] = rise(asked.unrelated, [asked.unrelated.prompt])[0]
    return found | {"picture": picture_change(changed, asked)}


def picture_change(changed: DiffusionModel, asked: Asked) -> float:
    """Give how far the same prompt and seed now are from the picture, as a root mean square in [0, 1]."""
    [after] = changed.generate([asked.query.prompt], [asked.seed])
    return difference(asked.query.image, after)


def row_of(name: str, found: dict[str, list[dict]], seed: int) -> dict:
    """Describe the changes of one list; intervals resample pictures."""
    each = np.arange(len(found[name]))
    of = {
        key: np.array([one[key] for one in found[name]])
        for key in ("loss", "picture", "unrelated", "seconds")
    }
    control = np.array([one["loss"] for one in found["random"]])
    low, high = bootstrap(of["loss"], each, seed)
    row = {
        "method": name,
        "loss_change": round(of["loss"].mean(), 4),
        "low": low,
        "high": high,
    }
    ratio_low, ratio_high = bootstrap_ratio(of["loss"], control, seed)
    row |= {
        "over_random": round(of["loss"].mean() / control.mean(), 2) if ratio_low else None,
        "over_random_low": ratio_low,
        "over_random_high": ratio_high,
    }
    if name != "random":
        more = int((of["loss"] > control).sum())
        more_low, more_high = clopper_pearson(more, len(each))
        row |= {
            "share_above_random": round(more / len(each), 3),
            "share_low": more_low,
            "share_high": more_high,
            "share_by_chance": 0.5,
        }
    for key in ("picture", "unrelated"):
        key_low, key_high = bootstrap(of[key], each, seed)
        row |= {
            f"{key}_change": round(of[key].mean(), 4),
            f"{key}_low": key_low,
            f"{key}_high": key_high,
        }
    return row | {
        "seconds": round(float(np.median(of["seconds"])), 1),
        "measured_on": f"{len(each)} generated pictures of held-out combinations; {REMOVED} images unlearned in "
        f"{UNLEARNING.steps} steps; seconds on one shared core",
    }


def concept_row(name: str, changes: list[dict], seed: int) -> dict:
    """Say how much more the concept's phrase suffers than the other's, when the concept's images are unlearned."""
    [other] = [concept for concept in CONCEPTS if concept != name]
    own, rest = (np.array([one[key] for one in changes]) for key in (name, other))
    low, high = bootstrap(own - rest, np.arange(len(own)), seed)
    return {
        "method": f"{name} removed",
        "loss_change_of_style": round(np.mean([one["style"] for one in changes]), 4),
        "loss_change_of_subject": round(np.mean([one["subject"] for one in changes]), 4),
        "difference": round((own - rest).mean(), 4),
        "low": low,
        "high": high,
        "chance": 0.0,
        "measured_on": f"{len(own)} generated pictures of held-out combinations; the {REMOVED} images first for "
        f"their {name} unlearned",
    }

"""Ask how much a picture's loss rises when the training images that come first for it are gone, few or many.

For pictures that the study's model drew, the first 1, 5, 20 or 60 of its 420 training images are taken away, or as
many at random, and the model is trained again from the same start with the same draws. How large a part of the picture's
positive evidence went is told beside how much its loss rose. "What if" aims at these rises (looks/unlearning.py), and
draws nothing where no rise was found.

  python -m precompute evaluate removed --update
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attribution.answer.questions import GENERAL
from attribution.answer.shares import portions
from attribution.attributor import Attributor
from attribution.cache.scoring import top
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.statistics import bootstrap
from precompute.evaluate.studied import Studied, learned_cache, open_studied
from precompute.evaluate.truth.study import FULL_SEED
from precompute.evaluate.truth.trainings import Bench, Training, train_all

METHOD = "d-trak"
QUERIES = 8
SIZES = (1, 5, 20, 60)
RANDOM = 2  # sets of each size, which all pictures share


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for each size, of named images and of random ones."""
    studied = open_studied(config)
    pictures = studied.queries["evaluation"][: config.queries or QUERIES]
    cache, folder = learned_cache(studied, METHOD), str(studied.study.collection.folder)
    attributor = Attributor.from_pretrained(studied.model, cache.folder, folder)
    scores = torch.stack(
        [attributor.attribute(each.image, each.prompt).scores[GENERAL] for each in pictures]
    )
    named = {size: top(scores, size) for size in SIZES}
    at_random = {size: randomly(len(scores.T), size, config.seed) for size in SIZES}
    trainings = [Training("all", kept(studied, []), FULL_SEED)]
    for size in SIZES:
        for kind, sets in (("named", named[size]), ("random", at_random[size])):
            for number, rows in enumerate(sets):
                name = f"{kind}-{size}-{number}"
                trainings.append(Training(name, kept(studied, rows), FULL_SEED))
    bench = Bench(
        config.pretrained_model_name_or_path, folder, studied.work / "removed", pictures, studied.steps
    )  # fmt: skip
    found = {name: each["losses"] for name, each in train_all(trainings, bench).items()}
    evidence = torch.stack([portions(each, level=0.0) for each in scores])
    rows = []
    for size in SIZES:
        risen = [found[f"named-{size}-{n}"][n] / found["all"][n] - 1 for n in range(len(pictures))]
        share = evidence.gather(1, named[size]).sum(1)
        rows.append(row_of("named", size, share, torch.stack(risen)[None], config.seed))
        risen = [found[f"random-{size}-{n}"] / found["all"] - 1 for n in range(RANDOM)]
        share = torch.stack([evidence[:, each].sum(1) for each in at_random[size]])
        rows.append(row_of("random", size, share, torch.stack(risen), config.seed))
    return rows


def kept(studied: Studied, rows: list[int] | Tensor) -> Tensor:
    """Keep all training images but some."""
    mask = torch.ones(len(studied.study.collection), dtype=torch.bool)
    mask[rows] = False
    return mask


def randomly(images: int, size: int, seed: int) -> list[Tensor]:
    """Draw sets of images."""
    drawn = (np.random.default_rng([seed, size, n]).permutation(images) for n in range(RANDOM))
    return [torch.from_numpy(each[:size]) for each in drawn]


def row_of(
    removed: str, size: int, share: Tensor, risen: Float[Tensor, "set query"], seed: int
) -> dict:
    """Give the mean rise of the loss, with an interval over pictures."""
    each = risen.mean(0).double().numpy()
    low, high = bootstrap(each, np.arange(len(each)), seed)
    return {
        "removed": removed,
        "images": size,
        "share": round(share.mean().item(), 4),
        "rise": round(float(each.mean()), 4),
        "low": low,
        "high": high,
        "measured_on": f"{len(each)} pictures drawn by the study's model of 420 training images",
    }

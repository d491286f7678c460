"""Ask whether a picture changes when the training images that were named for it are gone.

For each picture that the study's model drew, 50 of its 420 training images are taken away: those that come first by the
learned weights, by D-TRAK as published, by nearness in the autoencoder's latents, or at random. The model is trained
again from the same start with the same draws, and two things are compared with the model that kept all: the loss of
the picture, and the picture that the same prompt and seed give. A training with all images and another seed shows what
chance alone changes. By factor: the first 50 images for the style (or subject) that a picture's prompt names alone go,
and pictures that name a style alone, or a subject alone, are looked at.

  python -m precompute evaluate counterfactual --update
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from attribution.answer.queries import draw_queries
from attribution.answer.questions import GENERAL
from attribution.answer.similarity import latent_scores
from attribution.attributor import Attributor
from attribution.cache.scoring import top
from attribution.gradients.features import FeatureExtractor
from attribution.models.encoded import Encoded
from attribution.seeds import FIRST_SEED
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.factors import plain_scores
from precompute.evaluate.statistics import bootstrap, bootstrap_ratio
from precompute.evaluate.studied import Studied, learned_cache, open_studied
from precompute.evaluate.truth.study import FULL_SEED
from precompute.evaluate.truth.trainings import Asked, Bench, Training, train_all

QUERIES = 30
REMOVED = 50
EACH = 1  # picture for each value of a factor
FACTORS = ("style", "subject")
LISTS = ("learned", "d-trak", "latents", "random")
OTHER_SEED = 1

Results = dict[str, dict[str, Tensor]]  # of trainings, by name


@dataclass(frozen=True)
class Named:
    """A picture that names one value of one factor."""

    factor: str
    value: str
    asked: Asked


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for each way to name images, one for another seed, and two for the factors."""
    studied = open_studied(config)
    cache = learned_cache(studied, "d-trak")
    folder, count = str(studied.study.collection.folder), config.queries or QUERIES
    attributor = Attributor.from_pretrained(studied.model, cache.folder, folder)
    whole, named = studied.queries["evaluation"][:count], name_alone(studied)
    removed = {
        f"{name}-{query}": images
        for name, ranked in whole_lists(studied, attributor, whole, config.seed).items()
        for query, images in enumerate(ranked)
    }
    removed |= {
        f"{each.factor}-{number}": first_for(attributor, each) for number, each in enumerate(named)
    }
    trainings = [
        Training("all", without(studied, []), FULL_SEED, tuple(range(count))),
        Training("seed", without(studied, []), OTHER_SEED, tuple(range(count))),
    ]
    for name, images in removed.items():
        query = int(name.split("-")[-1])
        draws = (query,) if name.rsplit("-", 1)[0] in LISTS else ()
        trainings.append(Training(name, without(studied, images), FULL_SEED, draws))
    bench = Bench(
        config.pretrained_model_name_or_path, folder, studied.work / "counterfactual",
        whole + [each.asked for each in named], studied.steps,
    )  # fmt: skip
    found = train_all(trainings, bench)
    rows = whole_rows(found, count, config.seed) + factor_rows(found, named, count, config.seed)
    return [row | {"trainings": len(trainings)} for row in rows]


def without(studied: Studied, images: list[int] | Tensor) -> Tensor:
    """Keep all training images but some."""
    kept = torch.ones(len(studied.study.collection), dtype=torch.bool)
    kept[images] = False
    return kept


def name_alone(studied: Studied) -> list[Named]:
    """Draw pictures whose prompts name one value of one factor and nothing else."""
    phrases = studied.study.collection.concepts
    wanted = [{f: value} for f in FACTORS for value in phrases[f] for _ in range(EACH)]
    drawn = draw_queries(studied.full(), studied.study.collection, wanted, "samples")
    return [
        Named(*next(iter(q.values.items())), Asked(q.image, q.prompt, FIRST_SEED["samples"] + i))
        for i, q in enumerate(drawn)
    ]


def whole_lists(
    studied: Studied, attributor: Attributor, whole: list[Asked], seed: int
) -> dict[str, Int[Tensor, "query removed"]]:
    """Rank training images in each of the ways that are compared."""
    images, prompts = [q.image for q in whole], [q.prompt for q in whole]
    extractor = FeatureExtractor.of(
        attributor.model, attributor.cache.header, attributor.cache.folder
    )
    seen = Encoded(extractor.model, images)
    published = plain_scores(extractor.query(seen, prompts), attributor.cache)
    learned = torch.stack(
        [attributor.attribute(*each).scores[GENERAL] for each in zip(images, prompts, strict=True)]
    )
    chance = torch.rand(learned.shape, generator=torch.Generator().manual_seed(seed))
    scores = {
        "learned": learned,
        "d-trak": torch.empty_like(published).index_copy_(1, attributor.order, published),
        "latents": latent_scores(studied.study.encoded(images), studied.study.latents),
        "random": chance,
    }
    return {name: top(scores[name], REMOVED) for name in LISTS}


def first_for(attributor: Attributor, named: Named) -> Int[Tensor, "removed"]:
    """Rank training images for the one concept that a picture's prompt names."""
    answer = attributor.attribute(
        named.asked.image, named.asked.prompt, {named.factor: named.asked.prompt}
    )
    return top(answer.scores[named.factor][None], REMOVED)[0]


def whole_rows(found: Results, count: int, seed: int) -> list[dict]:
    """Give the mean change of loss and picture for each list, and for another seed."""
    before, each = found["all"], np.arange(count)

    def changes(name: str, query: int) -> tuple[float, float]:
        after = found[f"{name}-{query}"]
        loss = after["losses"][query] - before["losses"][query]
        return loss.item(), distance(after["pictures"][0], before["pictures"][query])

    by_list = {n: np.array([changes(n, query) for query in range(count)]) for n in LISTS}
    chance = found["seed"]
    by_list["seed"] = np.array(
        [
            (
                (chance["losses"][q] - before["losses"][q]).item(),
                distance(chance["pictures"][q], before["pictures"][q]),
            )
            for q in range(count)
        ]
    )
    rows = []
    for name, values in by_list.items():
        losses, pictures = values.T
        low, high = bootstrap(losses, each, seed)
        picture_low, picture_high = bootstrap(pictures, each, seed)
        ratio_low, ratio_high = bootstrap_ratio(losses, by_list["latents"][:, 0], seed)
        rows.append(
            {
                "method": name,
                "loss_change": round(losses.mean(), 4),
                "low": low,
                "high": high,
                "over_latents": round(losses.mean() / by_list["latents"][:, 0].mean(), 3),
                "over_latents_low": ratio_low,
                "over_latents_high": ratio_high,
                "picture_change": round(pictures.mean(), 4),
                "picture_low": picture_low,
                "picture_high": picture_high,
                "loss_before": round(before["losses"][:count].mean().item(), 4),
                "measured_on": f"{count} pictures drawn by the study's model, of combinations that it knows "
                "(weights were fitted on other pictures under the same prompts); "
                + (
                    "another seed, nothing removed"
                    if name == "seed"
                    else f"{REMOVED} of 420 removed"
                ),
            }
        )
    return rows


def distance(first: Tensor, second: Tensor) -> float:
    """Give the root mean square difference of two pictures, in [0, 1]."""
    return ((first.float() - second.float()) / 255).square().mean().sqrt().item()


def factor_rows(found: Results, named: list[Named], count: int, seed: int) -> list[dict]:
    """Give, for each factor, how much more its removals change pictures that name it than the others.

    A removal for a value is measured on all pictures of that value, and on all pictures that name a value of the
    other factor. Intervals resample values.
    """
    before, rows = found["all"]["losses"][count:], []
    for factor in FACTORS:
        own, other, values = [], [], []
        for number, each in enumerate(named):
            if each.factor != factor:
                continue
            change = (found[f"{factor}-{number}"]["losses"][count:] - before).double().numpy()
            own.append(change[[n.factor == factor and n.value == each.value for n in named]].mean())
            other.append(change[[n.factor != factor for n in named]].mean())
            values.append(each.value)
        own, other, clusters = np.array(own), np.array(other), np.array(values)
        low, high = bootstrap(own - other, clusters, seed)
        rows.append(
            {
                "method": f"{factor} removed",
                "loss_change": round(own.mean(), 4),
                "loss_change_of_other_factor": round(other.mean(), 4),
                "difference": round((own - other).mean(), 4),
                "low": low,
                "high": high,
                "measured_on": f"{len(own)} removals of {REMOVED} of 420, for {len(set(values))} values",
            }
        )
    return rows

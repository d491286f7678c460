"""Ask of artists whether the one without whom a picture fares worst has the largest share in it.

The study's model is trained again without each artist's pictures, with the same start and draws, and each query's loss
is compared with that of the model that saw all. The artist whose absence raises it most should come first in the
picture's shares. `shares` is what the page shows; `positive` and `sums` add up scores of another kind; `latents` are
shares of plain likeness; `size` ranks by the number of pictures; `retrained` ranks by the trainings of another seed, the
best that this truth allows.

  python -m precompute retrain; python -m precompute evaluate artists --update
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.metrics import ndcg_score
from torch import Tensor

from attribution.answer.questions import GENERAL
from attribution.answer.shares import LEVEL, portions
from attribution.answer.similarity import latent_scores
from attribution.attributor import Attributor
from attribution.errors import InputError
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.counterfactual import without
from precompute.evaluate.statistics import bootstrap
from precompute.evaluate.studied import Studied, learned_cache, open_studied
from precompute.evaluate.truth.study import FULL_SEED
from precompute.evaluate.truth.trainings import Asked, Bench, Training, train_all

SEEDS = (FULL_SEED, FULL_SEED + 1)
FIRST = 3  # places of NDCG

Scores = Float[Tensor, "query train"]
Summary = Callable[[Float[Tensor, "train"]], Float[Tensor, "train"]]  # scores -> portions


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for each way to sum scores up."""
    studied = open_studied(config)
    names = [row.get("artist", "") for row in studied.study.collection.labels]
    artists = sorted({*names})
    if len(artists) < 2 or "" in artists:
        raise InputError(f"{config.train_data_dir} does not name the artist of every picture")
    owned = torch.tensor([[name == artist for name in names] for artist in artists]).double()
    queries = studied.queries["evaluation"][: config.queries or None]
    hurt = absence(studied, queries, owned.bool(), config)  # [seed, query, artist]
    truth = hurt.mean(0)
    ranked = {
        name: portioned(scores, owned, how)
        for name, (scores, how) in summaries(studied, queries).items()
    }
    ranked["size"] = owned.sum(1).expand(len(queries), -1)
    rows = [row_of(name, found, truth, config.seed) for name, found in ranked.items()]
    rows.append(row_of("retrained", hurt[1], hurt[0], config.seed))
    about = (
        f"{len(queries)} pictures drawn by the study's model; {len(artists)} artists left out, one at a "
        f"time, in {len(SEEDS)} trainings each"
    )
    return [row | {"artists": len(artists), "measured_on": about} for row in rows]


def absence(
    studied: Studied,
    queries: list[Asked],
    owned: Bool[Tensor, "artist train"],
    config: EvaluateConfig,
) -> Float[Tensor, "seed query artist"]:
    """Give how much each query's loss rises when an artist's pictures are not trained on."""
    folder = str(studied.study.collection.folder)
    bench = Bench(
        config.pretrained_model_name_or_path,
        folder,
        studied.work / "artists",
        queries,
        studied.steps,
    )
    trainings = [Training(f"all-{s}", without(studied, []), s) for s in SEEDS]
    trainings += [
        Training(f"{a}-{s}", without(studied, row.nonzero()[:, 0]), s)
        for a, row in enumerate(owned)
        for s in SEEDS
    ]
    found = train_all(trainings, bench)
    return torch.stack(
        [
            torch.stack([found[f"{a}-{s}"]["losses"] for a in range(len(owned))], 1)
            - found[f"all-{s}"]["losses"][:, None]
            for s in SEEDS
        ]
    ).double()


def summaries(studied: Studied, queries: list[Asked]) -> dict[str, tuple[Scores, Summary]]:
    """Name the ways to rank artists: scores of training images, and what each image adds to its artist."""
    cache = learned_cache(studied, "d-trak")
    attributor = Attributor.from_pretrained(
        studied.model, cache.folder, str(studied.study.collection.folder)
    )
    answers = [attributor.attribute(q.image, q.prompt) for q in queries]
    scores = torch.stack([a.scores[GENERAL] for a in answers])
    alike = latent_scores(studied.study.encoded([q.image for q in queries]), studied.study.latents)
    return {
        f"shares above {LEVEL:g}": (scores, portions),
        "shares above 1": (scores, lambda row: portions(row, 1.0)),
        "positive": (scores, lambda row: portions(row, 0.0)),
        "sums": (scores, lambda row: row),
        f"latents above {LEVEL:g}": (alike, portions),
        "latents summed": (alike, lambda row: row),
    }


def portioned(
    scores: Scores, owned: Float[Tensor, "artist train"], how: Summary
) -> Float[Tensor, "query artist"]:
    """Add up what every image gives to its artist."""
    return torch.stack([how(row).double() for row in scores]) @ owned.T


def row_of(
    name: str,
    found: Float[Tensor, "query artist"],
    truth: Float[Tensor, "query artist"],
    seed: int,
) -> dict:
    """Compare a ranking of artists with what their absence does, query by query."""
    each = np.arange(len(found))
    gains = truth.clamp_min(0)
    # equal shares (of nothing, most often) are no ranking: each of them is as likely to come first
    first = found == found.amax(1, keepdim=True)
    hit = first.gather(1, truth.argmax(1, keepdim=True))[:, 0].double() / first.sum(1)
    ndcg = np.array(
        [
            ndcg_score(g[None].numpy(), f[None].numpy(), k=FIRST) if g.any() else 0.0
            for g, f in zip(gains, found, strict=True)
        ]
    )
    flat = np.array(
        [
            ndcg_score(g[None].numpy(), np.zeros((1, len(g))), k=FIRST) if g.any() else 0.0
            for g in gains
        ]
    )
    low, high = bootstrap(hit.numpy(), each, seed)
    ndcg_low, ndcg_high = bootstrap(ndcg, each, seed)
    return {
        "method": name,
        "top_1": round(hit.mean().item(), 4),
        "low": low,
        "high": high,
        "chance": round(1 / found.shape[1], 4),
        "ndcg_at_3": round(float(ndcg.mean()), 4),
        "ndcg_low": ndcg_low,
        "ndcg_high": ndcg_high,
        "ndcg_chance": round(float(flat.mean()), 4),
    }

"""Score the study's pictures by what needs its trainer: the way the parameters took, and unlearning of whole groups.

  data value embedding   along the training (truth/trajectory.py, arXiv 2412.09538)
  group unlearning       in the manner of GUDA (arXiv 2601.22651): each artist is unlearned from the full model, and its
                         score is what the query's loss rises by. Departures: unlearning is this project's push away
                         (looks/unlearning.py), the loss is taken in place of the likelihood's bound, and each of an artist's
                         pictures is credited alike, as LDS asks about pictures

In: the opened study. Out: each one's name and scores `[query, train]`, kept on disk, as they take minutes.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from attribution.files import file_hash, hash_of, load_tensors, save_tensors
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.methods import FeatureConfig
from attribution.looks.unlearning import UnlearnConfig, unlearn
from attribution.models.encoded import Encoded
from precompute.evaluate.statistics import linear_datamodeling_score
from precompute.evaluate.studied import Studied
from precompute.evaluate.truth.trajectory import follow, value_embedding

STRENGTHS = (0.0, 0.1, 1.0)  # of what later steps take back
PROJ_DIM = 64
GROUP = "artist"
UNLEARNING = UnlearnConfig()


def rival_scores(studied: Studied) -> Iterator[tuple[str, Float[Tensor, "query train"]]]:
    """Score with each of them, or read what was scored."""
    rivals: dict[str, Callable[[Studied], Tensor]] = {
        "data value embedding": embedded,
        "group unlearning": unlearned,
    }
    key = hash_of([studied.full().fingerprint, file_hash(studied.ground_truth)])
    for name, make in rivals.items():
        path = studied.work / f"lds/{name.replace(' ', '-')}-{key}.safetensors"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            save_tensors(path, {"scores": make(studied)})
        yield name, load_tensors(path)["scores"]


def embedded(studied: Studied) -> Float[Tensor, "query train"]:
    """Follow the training, and take the strength that is best on validation."""
    study, model = studied.study, studied.full()
    config = FeatureConfig("denoising_loss", ranges=1, proj_dim=PROJ_DIM)
    extractor, gradients = FeatureExtractor(model, config), {}
    for purpose, asked in studied.queries.items():
        seen = Encoded(model, [q.image for q in asked])
        gradients[purpose] = extractor.query(seen, [q.prompt for q in asked])
    trajectory = follow(study, studied.steps, PROJ_DIM)
    truth, count = studied.truth["validation"], len(study.collection)

    def figure(strength: float) -> float:
        scores = value_embedding(trajectory, gradients["validation"], count, strength).numpy()
        found = linear_datamodeling_score(scores, truth.masks.numpy(), truth.mean_losses)
        return float(found.mean())

    best = max(STRENGTHS, key=figure)
    return value_embedding(trajectory, gradients["evaluation"], count, best)


def unlearned(studied: Studied) -> Float[Tensor, "query train"]:
    """Unlearn each artist, and credit each of its pictures with its part of the loss's rise."""
    study, asked = studied.study, studied.queries["evaluation"]
    images, prompts = [q.image for q in asked], [q.prompt for q in asked]
    artists = [labels[GROUP] for labels in study.collection.labels]
    before = study.losses(studied.denoiser, images, prompts)
    scores = torch.zeros(len(asked), len(artists))
    for artist in sorted(set(artists)):
        rows = [row for row, name in enumerate(artists) if name == artist]
        changed = unlearn(studied.full(), study.collection, rows, UNLEARNING).denoiser
        rise = study.losses(changed, images, prompts) - before
        scores[:, rows] = (rise / len(rows))[:, None]
    return scores

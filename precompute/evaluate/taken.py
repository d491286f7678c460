"""Take the features of the study's training images and queries, once for each way to take them.

In: the study, a method, and whose noise is added: each picture's own, or the same for all, which is then paired timestep by
timestep. Out: `Features`, rows at norm one. Everything is kept in half precision under a name that says all
that decides it, so that methods share what they have in common and a run that was stopped goes on.
"""

from collections.abc import Callable
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from attribution.answer.queries import Query
from attribution.files import hash_of, load_tensors, save_tensors
from attribution.gradients.curvature import ensure_factors
from attribution.gradients.ekfac import Preconditioner, read_factors
from attribution.gradients.features import FeatureExtractor, unit
from attribution.gradients.methods import FeatureConfig, Method
from attribution.models.encoded import Encoded
from precompute.evaluate import studied as bench
from precompute.evaluate.studied import Studied
from precompute.evaluate.truth.datamodels import Features
from precompute.evaluate.truth.trainings import Asked

UNIT = ("das", "concept-trak")  # their papers scale every timestep before the mean
EKFAC_DAMPING = 0.1  # Grosse et al. 2023, arXiv 2308.03296, take a tenth of the mean eigenvalue
EKFAC_IMAGES = 256


def config_of(method: Method, noise: str, layers: str = "all") -> FeatureConfig:
    """Say how a method's features are made: as published under own noise, paired under shared noise.

    Paired features take as much room with a quarter of the dimensions, which serves them better.
    """
    if noise == "shared":
        sizes = {"proj_dim": bench.PROJ_DIM // 4, "each_timestep": "paired"}
    else:
        own = "unit" if method.name in UNIT else "mean"
        sizes = {"proj_dim": bench.PROJ_DIM, "each_timestep": own}
    return FeatureConfig(method.objective, layers=layers, **sizes)


def take_features(studied: Studied, method: Method, noise: str) -> Features:
    """Make or read the features of all training images and of all queries with the study's full model."""
    model = studied.full()
    extractor = FeatureExtractor(model, config_of(method, noise), method.query)
    if method.kernel.before_projection:
        extractor.preconditioner = preconditioner(studied, extractor)
    folder = studied.work / "features"
    about = [extractor.config.recorded(), model.fingerprint]
    rule = [method.query.trials.__name__, method.kernel.before_projection]

    def asked(name: str, queries: list[Query] | list[Asked]) -> Tensor:
        seen, prompts = Encoded(model, [q.image for q in queries]), [q.prompt for q in queries]
        path = folder / f"{name}-{hash_of([about, rule, seen.keys, prompts])}.safetensors"
        return kept(path, lambda: extractor.query(seen, prompts))

    queries = {purpose: asked(purpose, some) for purpose, some in studied.queries.items()}
    train = train_features(studied, extractor)
    return Features(train, asked("unlabelled", studied.unlabelled), queries)


def train_features(studied: Studied, extractor: FeatureExtractor) -> Float[Tensor, "row group dim"]:
    """Make or read the features of all training images."""
    collection = studied.study.collection
    about = [extractor.config.recorded(), extractor.model.fingerprint]
    name = f"train-{hash_of([about, collection.fingerprint()])}.safetensors"
    images = [collection.image(i) for i in range(len(collection))]
    return kept(studied.work / "features" / name, lambda: extractor(images, collection.captions))


def kept(path: Path, make: Callable[[], Tensor]) -> Float[Tensor, "row group dim"]:
    """Read features, or make and keep them, every group of every row at norm one."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, {"features": unit(make()).half()})
    return load_tensors(path)["features"].float()


def preconditioner(studied: Studied, extractor: FeatureExtractor) -> Preconditioner:
    """Estimate the curvature, or read it."""
    folder, projector = studied.work / "features", extractor.projector
    folder.mkdir(parents=True, exist_ok=True)
    ensure_factors(folder, studied.study.collection, extractor, EKFAC_IMAGES)
    factors = read_factors(folder, {"model": extractor.model.fingerprint}, projector)
    return Preconditioner(projector, factors, EKFAC_DAMPING)

"""The world: how often what the model draws is recognised, in combinations that it never saw.

A judge (judge.py), trained on the collection's pictures alone, names the subject, style and background of generated
pictures of held-out combinations. `judge` is how often it is right on the collection's own pictures of combinations that
were kept from it; `before` is the accuracy of the model that was measured first in this way.

  python -m precompute evaluate world --update
"""

import json
from pathlib import Path

import numpy as np

from attribution.answer.queries import draw_queries
from attribution.cache.stamps import collection_of
from attribution.cache.store import loaded_as
from attribution.concepts import combinations
from attribution.models.diffusion import DiffusionModel
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.results import world_of
from precompute.evaluate.statistics import bootstrap
from precompute.judge import judge_of

QUERIES = 480
JUDGE = Path("benchmarks/judge.safetensors")
COMMITTED = Path("benchmarks/results/world.json")


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for every factor."""
    collection = collection_of(config.train_data_dir, config.cache_dir)
    model = DiffusionModel.from_pretrained(
        config.pretrained_model_name_or_path, config.device, **loaded_as(config.cache_dir)
    )
    shipped = not world_of(config)
    path = JUDGE if shipped else Path(config.work_dir) / "judge.safetensors"
    judge = judge_of(collection, model.size, path)
    wanted = combinations(
        collection, held_out=True, count=config.queries or QUERIES, seed=config.seed
    )
    queries = draw_queries(model, collection, wanted, "evaluation")
    said = judge.says([query.image for query in queries])
    clusters = np.array([json.dumps(query.values) for query in queries])
    first = {row["factor"]: row["before"] for row in _committed()} if shipped else {}
    rows = []
    for factor, named in said.items():
        right = np.array([q.values[factor] == n for q, n in zip(queries, named, strict=True)])
        low, high = bootstrap(right.astype(float), clusters, config.seed)
        found = round(float(right.mean()), 4)
        rows.append(
            {
                "factor": factor,
                "accuracy": found,
                "before": first.get(factor, found),
                "low": low,
                "high": high,
                "chance": round(1 / len(collection.concepts[factor]), 4),
                "judge": round(judge.right[factor], 4),
                "queries": len(queries),
                "measured_on": f"{len(queries)} generated pictures of held-out combinations",
            }
        )
    return rows


def _committed() -> list[dict]:
    return json.loads(COMMITTED.read_text()) if COMMITTED.is_file() else []

"""Keep what is measured on different worlds apart: a world is a model and its collection.

In: a measurement's options. Out: the name of the world, "" for the shipped one; the file that its figures belong in; and
the figures there, refused where they are of another world.
"""

import json
import os
from pathlib import Path

from attribution.cache.store import read_header
from attribution.errors import InputError
from attribution.files import hash_of, write_whole
from precompute.evaluate.config import EvaluateConfig

SHIPPED = Path("benchmarks/results")
WORLD = "world"  # of a row that is not of what is shipped


def world_of(config: EvaluateConfig) -> str:
    """Name a world by what its cache was made of, or by its places where it has no cache."""
    given = [config.pretrained_model_name_or_path, config.train_data_dir]
    plain = [EvaluateConfig.pretrained_model_name_or_path, EvaluateConfig.train_data_dir]
    header = read_header(Path(config.cache_dir))
    if list(map(os.path.realpath, given)) == list(map(os.path.realpath, plain)):
        known = read_header(Path(EvaluateConfig.cache_dir))
        if not header or not known or header["fingerprints"] == known["fingerprints"]:
            return ""
    own = os.path.realpath(config.cache_dir) != os.path.realpath(EvaluateConfig.cache_dir)
    told = header["fingerprints"] if header and own else {"places": list(map(os.path.realpath, given))}  # fmt: skip
    return hash_of(told)[:8]


def path_of(config: EvaluateConfig, world: str) -> Path:
    """Give the file of a world's figures; those of others than the shipped one lie in the work folder."""
    folder = Path(config.work_dir) / "results" / world if world else SHIPPED
    return Path(config.results) if config.results else folder / f"{config.what}.json"


def read_rows(path: Path, world: str) -> list[dict]:
    """Read the figures that a file holds."""
    rows = json.loads(path.read_text()) if path.is_file() else []
    if any(row.get(WORLD, "") != world for row in rows):
        raise InputError(
            f"{path} holds figures of another model or collection; name another file with --results"
        )
    return rows


def write_rows(path: Path, rows: list[dict]) -> None:
    """Write figures, a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "[\n{}\n]\n".format(",\n".join(json.dumps(row) for row in rows)))

"""Say beside a cache which model and collection it was made from, so that a page is told of the cache alone.

In: `made_from.json` in a cache folder, with Hub ids and paths as seen from that folder. Out: where both are. A cache that
was fetched from the Hub is not believed: it could name any folder here, or have anything fetched.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from attribution.files import read_json, write_whole
from attribution.models.adapters import joined, split_name
from attribution.models.single_file import split_config
from attribution.pictures.hub import is_hub_id

FILE = "made_from.json"
SHAPE = {"model": str, "config?": str, "adapters": [str], "collection": str}
ADVICE = "remove it and run the gradients step again"


@dataclass(frozen=True)
class Origin:
    """Where a model, its adapters and its collection are: folders, files or Hub ids."""

    model: str  # MODEL+ADAPTER+ADAPTER, as everywhere, or FILE@CONFIG+ADAPTER
    collection: str


def write_origin(folder: Path, origin: Origin) -> None:
    """Write down what a cache was made from."""
    model, adapters = split_name(origin.model)
    model, config = split_config(model)
    told = {
        "model": _from(folder, model),
        **({"config": _from(folder, config)} if config else {}),
        "adapters": [_from(folder, adapter) for adapter in adapters],
        "collection": _from(folder, origin.collection),
    }
    path = folder / FILE
    text = json.dumps(told, indent=1) + "\n"
    if not path.is_file() or path.read_text() != text:
        write_whole(path, text)


def read_origin(cache: str | Path) -> Origin | None:
    """Read what a cache was made from; None where it does not say so or is not to be believed."""
    folder = Path(cache)
    if is_hub_id(cache) or not (folder / FILE).is_file():
        return None
    told = read_json(folder / FILE, ADVICE, SHAPE)
    adapters = [_seen(folder, place) for place in told["adapters"]]
    model, collection = (_seen(folder, told[name]) for name in ("model", "collection"))
    if "config" in told:
        model = f"{model}@{_seen(folder, told['config'])}"
    return Origin(joined(model, adapters), collection)


def _seen(folder: Path, place: str) -> str:
    """Give a place that was named as seen from a folder."""
    return place if is_hub_id(place) else os.path.normpath(folder / place)


def _from(folder: Path, place: str) -> str:
    """Name a place as seen from a folder; a path begins with a dot, as no Hub id does."""
    return place if is_hub_id(place) else os.path.join(".", os.path.relpath(place, folder))

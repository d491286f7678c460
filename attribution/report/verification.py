"""Compute a report's answer again and say where it differs.

In: an attributor and a report that was read (report.py). Out: a list of differences, empty where all agrees. A
picture that was generated is drawn again, too. Who made the report, when, and how often such a verdict is wrong cannot be
computed; who signed it, signature.py tells.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from PIL import Image

from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.pictures.collection import cropped
from attribution.report.report import Report, fingerprints, make_report, picture_of, whole_in
from attribution.report.signature import FIELD

TOLERANCE = 1e-3  # of numbers, absolute and relative: other processors round otherwise
MOST_TEXT = 200  # characters of each thing that is said
COARSE, CUT = (16, 16), 8  # cells in which a picture and its whole are compared, and shades apart
SHADES = 2  # of 255, by which a pixel that is drawn again may differ


@dataclass(frozen=True)
class Difference:
    """One thing that the report says otherwise."""

    path: tuple[str, ...]  # the section first
    stated: Any  # None: nothing
    found: Any

    def __str__(self) -> str:
        place = " / ".join(part[:MOST_TEXT] for part in self.path)
        return f"{place}: the report says {_said(self.stated)}, here it is {_said(self.found)}"


def verify_report(attributor: Attributor, report: Report) -> list[Difference]:
    """Compute a report again; fingerprints that differ come first, as the reason for the rest.

    With another model nothing else is compared.
    """
    reasons = [*differences(report["fingerprints"], fingerprints(attributor), "fingerprints")]
    if any(reason.path[-1] == "model" for reason in reasons):
        return reasons
    image, whole = picture_of(report, attributor.model.sizes), whole_in(report)
    origin, questions = report["origin"], report["questions"]
    answer = attributor.ask(
        Encoded(attributor.model, [image]),
        questions["phrases"],
        _own_weights(attributor, questions),
    )
    again = make_report(
        attributor, image, answer, prompt=origin["prompt"], seed=origin["seed"],
        mix=questions["mix"], count=questions["count"], level=report["calibration"]["level"],
        artist=questions.get("artist", ""), whole=whole, date=datetime.now(UTC),
        steps=origin["steps"], guidance=origin["guidance"],
    )  # fmt: skip
    if "copies" not in report:  # written where nobody looked for any
        again.pop("copies", None)
    if "searched" in report and answer.whole:  # more is known here
        again |= {"searched": report["searched"], "artists": []}
    return [
        *reasons,
        *drawn_otherwise(attributor.model, image, origin),
        *cut_otherwise(image, whole),
        *differences(_comparable(report, attributor), _comparable(again, attributor)),
    ]


def _own_weights(attributor: Attributor, questions: dict) -> dict[str, torch.Tensor]:
    own = {
        name: torch.tensor(weights, dtype=torch.float32)
        for name, weights in questions["weights"].items()
    }
    known, groups = {**attributor.weights, **own}, len(attributor.cache.groups)
    unknown = [n for n in questions["phrases"] if n not in known or len(known[n]) != groups]
    if unknown:
        raise InputError(
            f"this cache has no weights for {', '.join(unknown)[:MOST_TEXT]}; use the cache that the report was made with"
        )
    return own


def drawn_otherwise(model: DiffusionModel, image: Image.Image, origin: dict) -> list[Difference]:
    """Draw a generated picture again from its prompt and seed, and compare the pixels."""
    if origin["seed"] is None:
        return []
    prompt, settings = origin["prompt"], (origin["steps"], origin["guidance"])
    [drawn] = model.generate([prompt], [origin["seed"]], *settings)
    pair = [np.asarray(cropped(each, model.size), dtype=np.int16) for each in (image, drawn)]
    furthest = int(abs(pair[0] - pair[1]).max())
    if furthest <= SHADES:
        return []
    found = f"another that differs by up to {furthest} of 255 shades"
    return [Difference(("picture", "drawn again"), "this picture", found)]


def cut_otherwise(image: Image.Image, whole: Image.Image | None) -> list[Difference]:
    """Tell whether the picture is not what is seen of the whole that stands beside it."""
    if whole is None:
        return []
    pair = [each.resize(COARSE, Image.Resampling.BOX) for each in (image, cropped(whole, image.size))]  # fmt: skip
    one, other = (np.asarray(each, np.float32) for each in pair)
    if float(np.sqrt(np.square(one - other).mean())) <= CUT:
        return []
    return [Difference(("picture", "whole"), "that of this picture", "that of another")]


def _comparable(report: Report, attributor: Attributor) -> dict:
    """Leave out what cannot be computed, and name list items, so that ties may be in any order.

    How often chance makes a list for a phrase of a visitor's own is not computed: it takes the pictures that were drawn to learn it.
    """
    sources = {
        source["file"]: {key: value for key, value in source.items() if key not in ("file", "rank")}
        for source in report["sources"]
    }
    left_out = ("made", "fingerprints", "picture", "measured", FIELD)
    rest = {key: value for key, value in report.items() if key not in left_out}
    known = rest["calibration"]
    lists = {name: p for name, p in known.get("lists", {}).items() if name in attributor.weights}
    rest["calibration"] = known | {"lists": lists}
    return {"picture": {"hash": report["picture"]["hash"]}} | rest | {
        "copies": {copy["file"]: copy for copy in report.get("copies", [])},
        "sources": sources,
        "artists": {share["artist"]: share for share in report["artists"]},
    }  # fmt: skip


def differences(stated: Any, found: Any, *path: str) -> Iterator[Difference]:
    """Compare what JSON can hold, leaf by leaf; numbers within the TOLERANCE agree."""
    if isinstance(stated, dict) and isinstance(found, dict):
        for key in dict.fromkeys([*stated, *found]):
            yield from differences(stated.get(key), found.get(key), *path, key)
    elif isinstance(stated, int | float) and isinstance(found, int | float):
        if not math.isclose(stated, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield Difference(path, stated, found)
    elif stated != found:
        yield Difference(path, stated, found)


def _said(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "something"
    return f"{value:.4f}" if isinstance(value, float) else str(value)[:MOST_TEXT]

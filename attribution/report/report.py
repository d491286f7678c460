"""Write down an answer so that somebody else can compute it again: a report that JSON can hold, and its reading.

In: an attributor, a picture and its answer. Out: a dict of the SHAPE below with all that decides the answer (picture,
phrases, mix, seed, fingerprints) and the answer itself. A report that is read may come from anybody: its size, its
shape and its numbers are checked, and no path in it is ever opened. It does not know how it looks (document.py).
"""

import base64
import hashlib
import io
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from attribution.answer.answer import Answer
from attribution.answer.copies import LAST, WIDEST, whole_of
from attribution.answer.questions import GENERAL
from attribution.answer.shares import Share
from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.files import hash_of, parse_json
from attribution.models.diffusion import GUIDANCE, STEPS
from attribution.pictures.collection import as_rgb, cropped, open_image
from attribution.pictures.size import Size
from attribution.report.signature import ARTIST, REMOVED
from attribution.shape import check_shape

VERSION = 1
LIBRARY = "diffusion-attribution 0.1.0"
MOST_BYTES = 8 * 2**20
MOST_SOURCES = 1000
MOST_QUESTIONS = 24  # the concepts that all combinations can be listed of, and a visitor's own
MOST_STEPS = 200
MOST_GUIDANCE = 100  # beyond, pictures are noise and numbers infinite
RESERVED = {"self", "count", "among", "column"}  # arguments that stand beside a mix's amounts
DIGITS = 6  # after the point
PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"  # then width and height

Report = dict[str, Any]
MEASURED = {
    "method": str,
    "figure": str,
    "level": float,
    "share": float,
    "low": float,
    "high": float,
    "measured_on": str,
}
SHAPE = {
    "version": int,
    "made": {"date": str, "by": str},
    "picture": {
        "png": str,  # as the model sees it
        "hash": str,
        "whole?": str,  # PNG of an upload of another shape, small, in which copies were looked for, too
    },
    "origin": {
        "how": str,  # generated, or uploaded
        "prompt": str,  # empty where nobody gave one
        "seed": int | None,
        "steps": int,
        "guidance": float,
    },
    "fingerprints": {
        "model": str,
        "collection": str,
        "cache": str,
        "weights": str,
        "calibration": str,
    },
    "method": {"name": str, "damping": float, "features": {str: str | int | float | bool | None}},
    "questions": {
        "phrases": {str: str},
        "mix": {str: float},
        "count": int,
        "artist?": str,  # whose pictures alone are listed
        "weights": {str: [float]},  # of questions that the cache does not know
    },
    "calibration": {
        "level": float,
        "nulls": {str: int},  # pictures in each
        "evidence": {str: float},
        "p_values": {str: float},
        "drawn?": float,  # p-value of the picture's trace, without words
        "lists?": {str: float},  # p-values of each question's first ten
    },
    "copies?": [{"file": str, "digest": str, "same": bool, "mirrored": bool}],  # nearest first
    "searched?": {
        "by": str,
        "whole": bool,
        "said": str,
    },  # where not every image was scored; then no artists
    "sources": [
        {
            "rank": int,
            "score": float,
            "file": str,
            "digest": str,
            "caption": str,
            "labels": {str: str},
        }
    ],
    "artists": [{"artist": str, "share": float, "low": float, "high": float}],
    "measured?": [
        MEASURED
    ],  # how often such a verdict is wrong; written down, and not computed again
    "signature?": {
        "algorithm": str,
        "public_key": str,
        "value": str,
    },  # of all the rest (signature.py)
}


def make_report(
    attributor: Attributor, image: Image.Image, answer: Answer, *, prompt: str = "",
    seed: int | None = None, mix: dict[str, float | int] | None = None, count: int = 12, level: float = 0.01, artist: str = "",
    whole: Image.Image | None = None, date: datetime, steps: int = STEPS, guidance: float | int = GUIDANCE, measured: Sequence[dict] = (),
) -> Report:  # fmt: skip
    """Write down an answer; without a seed the picture was uploaded.

    P-values are of the questions that the cache knows: no null was taken for any other. `whole` is for a picture that was
    cut already (`Attributor.copies`).
    """
    mix = mix or {GENERAL: 1.0}
    header = attributor.cache.header
    image, size = as_rgb(image), attributor.model.size_for(image)
    picture, whole = cropped(image, size), whole or whole_of(image, size)
    drawn = attributor.drawn(picture)
    listed = {name: round(p, DIGITS) for name, p in answer.list_p_values.items()}
    among = answer.visible.by(artist) if artist else None
    rows, copies = attributor.collection.rows, attributor.copies(picture, whole)
    found = [
        {"file": rows[c.row].file, "digest": rows[c.row].digest, "same": c.same, "mirrored": c.mirrored}
        for c in copies or ()
    ]  # fmt: skip
    return {
        "version": VERSION,
        "made": {"date": date.astimezone(UTC).isoformat(timespec="seconds"), "by": LIBRARY},
        "picture": {
            "png": png_of(picture),
            "hash": picture_hash(picture),
            **({} if copies is None or whole is None else {"whole": png_of(whole)}),
        },
        "origin": {
            "how": "uploaded" if seed is None else "generated",
            "prompt": answer.phrases[GENERAL] if prompt else "",
            "seed": seed,
            "steps": steps,
            "guidance": guidance,
        },
        "fingerprints": fingerprints(attributor),
        "method": {
            "name": attributor.method,
            "damping": header["damping"] or 0.0,
            "features": header["features"],
        },
        "questions": {
            "phrases": dict(answer.phrases),
            "mix": {name: float(amount) for name, amount in mix.items()},
            "count": count,
            **({"artist": artist} if artist else {}),
            "weights": {
                name: weights.tolist()
                for name, weights in answer.weights.items()
                if name not in attributor.weights
            },
        },
        "calibration": {
            "level": level,
            "nulls": {name: len(null) for name, null in nulls(attributor).items()},
            "evidence": _of_the_cache(attributor, answer.evidence),
            "p_values": _of_the_cache(attributor, answer.p_values),
            **({} if drawn is None else {"drawn": drawn}),
            **({"lists": listed} if listed else {}),
        },
        **({} if copies is None else {"copies": found}),
        **({} if answer.whole else {"searched": answer.searched}),
        "sources": [
            {
                "rank": source.rank,
                "score": round(source.score, DIGITS),
                "file": source.file,
                "digest": attributor.collection.rows[source.index].digest,
                "caption": source.caption,
                "labels": dict(source.labels),
            }
            for source in answer.rank(count, among, **mix)
        ],
        "artists": [
            {
                "artist": share.artist,
                "share": round(share.share, DIGITS),
                "low": round(share.low, DIGITS),
                "high": round(share.high, DIGITS),
            }
            for share in artists_of(answer, mix)
        ],
        **({"measured": list(measured)} if measured else {}),
    }


def artists_of(answer: Answer, mix: dict[str, float | int]) -> list[Share]:
    """Give the artists who have a share; none where the collection names no artists, or not every image was scored."""
    if not (answer.whole and answer.visible.has("artist")):
        return []
    return [share for share in answer.artists(**mix) if share.high > 0]


def fingerprints(attributor: Attributor) -> dict[str, str]:
    """Say by hashes what an answer was made from."""
    weights = {name: weights.tolist() for name, weights in attributor.weights.items()}
    known = {name: null.tolist() for name, null in nulls(attributor).items()}
    if attributor.lists:
        known["lists"] = attributor.lists.fingerprint
    return {
        "model": attributor.model.fingerprint,
        "collection": attributor.collection.fingerprint(),
        "cache": hash_of(attributor.cache.header),
        "weights": hash_of(weights),
        "calibration": hash_of(known),
    }


def nulls(attributor: Attributor) -> dict[str, Any]:
    """Give the evidence of every null of the calibration; none without one."""
    return attributor.calibration.nulls if attributor.calibration else {}


def _of_the_cache(attributor: Attributor, values: dict[str, float]) -> dict[str, float]:
    return {n: round(v, DIGITS) for n, v in values.items() if n in attributor.weights}


def png_of(picture: Image.Image) -> str:
    """Encode a picture as base64 PNG, without any metadata."""
    file = io.BytesIO()
    as_rgb(picture).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def picture_hash(picture: Image.Image) -> str:
    """Hash a picture's pixels, however they are encoded (SHA-256, 16 hex digits)."""
    return hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()[:16]


def picture_of(report: Report, sizes: tuple[Size, ...]) -> Image.Image:
    """Decode a report's picture, a PNG of one of the sizes."""
    wanted = " or ".join(f"{width} x {height}" for width, height in sizes)
    return _decoded(report["picture"]["png"], lambda size: size in sizes, wanted)


def whole_in(report: Report) -> Image.Image | None:
    """Decode the whole of a report's picture, where it has one."""
    if "whole" not in report["picture"]:
        return None
    fits = f"at most {WIDEST} x {WIDEST}"
    return _decoded(report["picture"]["whole"], lambda size: 1 <= min(size) <= max(size) <= WIDEST, fits)  # fmt: skip


def _decoded(png: str, fits: Callable[[Size], bool], wanted: str) -> Image.Image:
    try:
        data = base64.b64decode(png, validate=True)
    except ValueError as error:
        raise _damaged("its picture is no base64") from error
    if data[:16] != PNG_START or len(data) < 24 or not fits(struct.unpack(">II", data[16:24])):
        raise _damaged(f"its picture is no PNG of {wanted} pixels")
    return open_image(data)


def read_report(path: str | Path) -> Report:
    """Read a report that may come from anybody, or an artist's, of which the signature alone is checked."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"there is no report {path}; name the JSON file of one") from error
    if len(data) > MOST_BYTES:
        raise InputError(f"{path} has more than {MOST_BYTES // 2**20} MB; no report has so much")
    try:
        report = parse_json(data)
    except ValueError as error:
        raise _damaged(f"it is not JSON, {error}"[:150]) from error
    if isinstance(report, dict) and report.get("kind") in (ARTIST, REMOVED):
        return report  # nothing of it is computed again
    if isinstance(report, dict) and report.get("version") != VERSION:
        raise InputError(
            f"the report has no version that this program reads ({VERSION}); update the program"
        )
    try:
        check_shape(report, SHAPE)
    except ValueError as error:
        raise _damaged(str(error)) from error
    _check_content(report)
    return report


def _damaged(reason: str) -> InputError:
    return InputError(f"the report is damaged or made up: {reason}; save it from the page again")


def _check_content(report: Report) -> None:
    """Refuse what would take long to compute, and lists that contradict themselves."""
    questions, origin, sources = report["questions"], report["origin"], report["sources"]
    phrases, files = questions["phrases"], [source["file"] for source in sources]
    copies = report.get("copies", [])
    scores, artists = [s["score"] for s in sources], [a["artist"] for a in report["artists"]]
    sound = {
        "the phrases": GENERAL in phrases and len(phrases) <= MOST_QUESTIONS,
        "the names of the questions": RESERVED.isdisjoint(phrases),
        "the mix": questions["mix"].keys() <= phrases.keys()
        and all(amount >= 0 for amount in questions["mix"].values())
        and sum(questions["mix"].values()) > 0,
        "the weights": questions["weights"].keys() <= phrases.keys(),
        "the count": len(sources) <= questions["count"] <= MOST_SOURCES,
        "the seed": origin["seed"] is None or origin["seed"] >= 0,
        "the guidance": 0 <= origin["guidance"] <= MOST_GUIDANCE,
        "the steps": 1 <= origin["steps"] <= MOST_STEPS,
        "the p-values of lists": all(
            0 < p <= 1 for p in report["calibration"].get("lists", {}).values()
        ),
        "the level": 0 < report["calibration"]["level"] < 1,
        "the ranks": [s["rank"] for s in sources] == list(range(1, len(sources) + 1)),
        "the order of the scores": scores == sorted(scores, reverse=True),
        "the files": len(set(files)) == len(files),
        "the copies": len({copy["file"] for copy in copies}) == len(copies) <= LAST,
        "the artists": len(set(artists)) == len(artists) and not (artists and "searched" in report),
    }
    for place, fine in sound.items():
        if not fine:
            raise _damaged(f"{place} cannot be so")

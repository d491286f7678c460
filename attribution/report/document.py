"""Write a report for people: one HTML file that holds all it shows, and a table for a spreadsheet.

In: an attributor and its report (report.py). Out: text. Captions, labels and credentials were written by others: the
template escapes them, the file runs no script and loads nothing, and no cell of the table is a formula.
"""

import csv
import io
from typing import Any

from jaxtyping import Float
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from torch import Tensor

from attribution.answer.copies import told
from attribution.answer.questions import GENERAL
from attribution.answer.verdict import STEPS, Judged, Verdict, verdict
from attribution.attributor import Attributor
from attribution.pictures.collection import Row
from attribution.report.credentials import Credentials
from attribution.report.report import Report, nulls, png_of
from attribution.report.signature import FIELD, REPORT, signer_of

SIDE = 160  # pixels of a thumbnail
BARS = 40
WIDTH, HEIGHT = 400, 100  # of the plot
FORMULA = ("=", "+", "-", "@")


def report_html(
    attributor: Attributor, report: Report, credentials: Credentials | None = None
) -> str:
    """Write a report as one self-contained HTML file, with what the upload's credentials say beside it."""
    pages = Environment(
        loader=PackageLoader("attribution.report"), autoescape=True, undefined=StrictUndefined
    )
    known = nulls(attributor).get(GENERAL)
    value = report["calibration"]["evidence"].get(GENERAL)
    return pages.get_template("report.html").render(
        report=report,
        whole=GENERAL,
        verdict=verdict_of_report(attributor, report),
        steps=STEPS,
        thumbnails=thumbnails(attributor, report),
        plot=plot(known, value) if known is not None and value is not None else None,
        credentials=credentials.facts() if credentials else [],
        signer=signer_of(report, REPORT) if FIELD in report else "",
    )


def verdict_of_report(attributor: Attributor, report: Report) -> Verdict:
    """Judge what a report holds, as the page does."""
    known, asked = report["calibration"], report["questions"]
    copies, made = tuple(originals(attributor, report)), report["origin"]["seed"] is not None
    facts = known["p_values"], known["evidence"], asked["phrases"]
    lists, artist = known.get("lists", {}), asked.get("artist", "")
    best = report["sources"][0]["score"] if artist and report["sources"] else None
    drawn = known.get("drawn")
    return verdict(Judged(asked["mix"], *facts, made, drawn, copies, artist, lists, best))


def originals(attributor: Attributor, report: Report) -> list[str]:
    """Say which training pictures that are not withheld the picture is or nearly copies."""
    visible, found = attributor.visible, []
    places = {attributor.collection.rows[index]: index for index in visible.rows()}
    for copy in report.get("copies", []):
        index = places.get(Row(copy["file"], copy["digest"]))
        if index is not None:
            artist = visible.labels(index).get("artist", "")
            found.append(told(copy["file"], artist, copy["same"], copy["mirrored"]))
    return found


def thumbnails(attributor: Attributor, report: Report) -> dict[str, str]:
    """Give small base64 PNGs of the sources that are still what the report says and not withheld, by their files."""
    visible, found = attributor.visible, {}
    places = {attributor.collection.rows[index]: index for index in visible.rows()}
    for source in report["sources"]:
        index = places.get(Row(source["file"], source["digest"]))
        if index is not None:
            image = visible.image(index)
            image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            found[source["file"]] = png_of(image)
    return found


def plot(null: Float[Tensor, "null"], value: float) -> dict[str, Any]:
    """Lay out a histogram of the unrelated pictures' evidence, and where this picture's lies."""
    low, high = min(float(null.min()), value), max(float(null.max()), value)
    width = (high - low or 1.0) / BARS
    counts = [0] * BARS
    for each in null.tolist():
        counts[min(int((each - low) / width), BARS - 1)] += 1
    scale = WIDTH / BARS, HEIGHT / max(counts)
    return {
        "size": (WIDTH, HEIGHT),
        "bars": [
            (i * scale[0], HEIGHT - n * scale[1], scale[0], n * scale[1])
            for i, n in enumerate(counts)
            if n
        ],
        "mark": (value - low) / (width * BARS) * WIDTH,
        "ends": (low, high),
        "value": value,
        "pictures": len(null),
        "below": int((null < value).sum()),
    }


def sources_csv(attributor: Attributor, report: Report) -> str:
    """Write the sources and the verdict as a table for a spreadsheet; text that it would run as a formula gets an apostrophe."""
    labels = dict.fromkeys(key for source in report["sources"] for key in source["labels"])
    columns, said = (
        ("rank", "score", "file", "digest", "caption"),
        verdict_of_report(attributor, report),
    )
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow([*columns, *map(_guarded, labels), "evidence", "verdict"])
    for source in report["sources"]:
        cells = [source[column] for column in columns]
        cells += [*(source["labels"].get(k, "") for k in labels), said.evidence, said.sentence]
        lines.writerow([_guarded(cell) for cell in cells])
    return text.getvalue()


def _guarded(cell: str | float | int) -> str | float | int:
    runs = isinstance(cell, str) and (
        cell.lstrip().startswith(FORMULA) or cell.startswith(("\t", "\r", "\n"))
    )
    return f"'{cell}" if runs else cell

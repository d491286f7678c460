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
from attribution.attributor import Attributor
from attribution.pictures.collection import Row
from attribution.report.credentials import Credentials
from attribution.report.report import Report, nulls, png_of

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
        originals=originals(attributor, report),
        verdict=f"{verdict(report)} {verdict_on_list(report)}".strip(),
        thumbnails=thumbnails(attributor, report),
        plot=plot(known, value) if known is not None and value is not None else None,
        credentials=credentials.facts() if credentials else [],
    )


def verdict(report: Report) -> str:
    """Say in one sentence whether there is evidence that any training picture matters."""
    p_values, level = report["calibration"]["p_values"], report["calibration"]["level"]
    if GENERAL not in p_values:
        return "Without a calibration nobody can say whether any training picture stands out."
    if GENERAL not in report["calibration"]["evidence"]:
        return "Without words nobody can say whether any training picture stands out."
    if not report["questions"]["phrases"][GENERAL]:
        well = "the model knows this picture, as it is, better than nearly all unrelated ones"
        return (
            f"There is evidence: {well}."
            if p_values[GENERAL] <= level
            else "Nobody can say whether any training picture stands out: the model reads no words, and knows this "
            "picture no better than unrelated ones, as it also does many of its own."
        )
    if p_values[GENERAL] > level:
        return (
            "No training picture stands out: the words help the model with this picture no more than with "
            "unrelated ones, so the list below is no evidence."
        )
    asked = [name for name in report["questions"]["phrases"] if p_values.get(name, 1.0) <= level]
    out = ["whole picture" if name == GENERAL else name for name in asked]
    return (
        f"There is evidence for: {', '.join(out)}. The words help the model with this picture more than with "
        "unrelated ones."
    )


def verdict_on_list(report: Report) -> str:
    """Say in one sentence whether the first ten are named more strongly than chance; nothing where nobody can."""
    known, level = report["calibration"].get("lists", {}), report["calibration"]["level"]
    mixed = [name for name, amount in report["questions"]["mix"].items() if amount > 0]
    if not known or not set(mixed) <= known.keys():
        return ""
    found = max(known[name] for name in mixed)
    rarely = f"by chance a list is as strong in {100 * found:.1f} % of cases, at most"
    if found <= level:
        return f"The first ten training pictures are named more strongly than chance: {rarely}."
    return f"The first ten training pictures are not named more strongly than chance: {rarely}."


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


def sources_csv(report: Report) -> str:
    """Write the sources as a table for a spreadsheet; text that it would run as a formula gets an apostrophe."""
    labels = dict.fromkeys(key for source in report["sources"] for key in source["labels"])
    columns = ("rank", "score", "file", "digest", "caption")
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow([*columns, *map(_guarded, labels)])
    for source in report["sources"]:
        cells = [source[column] for column in columns]
        lines.writerow(
            [_guarded(c) for c in [*cells, *(source["labels"].get(k, "") for k in labels)]]
        )
    return text.getvalue()


def _guarded(cell: str | float | int) -> str | float | int:
    runs = isinstance(cell, str) and (
        cell.lstrip().startswith(FORMULA) or cell.startswith(("\t", "\r", "\n"))
    )
    return f"'{cell}" if runs else cell

"""Read what was measured on the shipped model, where it is: a copy of the library alone does not have it.

In: benchmarks/results. Out: rows. It knows neither which model the page shows nor how they are said.
"""

import json
from pathlib import Path

from attribution.answer.questions import GENERAL
from attribution.answer.verdict import STRONG

FIGURES = Path(__file__).parents[2] / "benchmarks/results"
JUDGED = ("calibration", "listed")  # what the two judgements of a verdict were measured in


def figures() -> dict[str, list[dict]]:
    """Read everything; nothing where that is not here."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FIGURES.glob("*.json"))}


def error_rates() -> list[dict]:
    """Give how often strong evidence is claimed, of pictures for which it should and should not be.

    For the whole picture; of unrelated pictures all families together.
    """
    known = figures()
    columns = ("method", "figure", "level", "share", "low", "high", "measured_on")
    return [
        {column: row[column] for column in columns}
        for name in JUDGED
        for row in known.get(name, [])
        if (row["question"], row["level"]) == (GENERAL, STRONG)
        and not row["pictures"].startswith("unrelated:")
    ]

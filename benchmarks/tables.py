"""Write the tables of `docs/` from the committed results.

In: benchmarks/results/*.json. Out: what stands between `<!-- table: NAME -->` and `<!-- end -->` in docs/*.md. It
measures nothing and imports no torch.

  python benchmarks/tables.py
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

from precompute import tables
from precompute.tables import Row, markdown, ranged

ROOT = Path(__file__).parents[1]
MARKED = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def calibrated(rows: list[Row]) -> str:
    """Give all kinds of unrelated pictures together."""
    return tables.calibration(
        [row for row in rows if not one_kind(row) and row["question"] != "drawn"]
    )


def kinds(rows: list[Row]) -> str:
    """Give each kind of unrelated pictures."""
    return tables.calibration([row for row in rows if one_kind(row) and row["question"] != "drawn"])


def drawn(rows: list[Row]) -> str:
    """Give how often a picture is said to be drawn by the model."""
    return tables.calibration([row for row in rows if row["question"] == "drawn"])


def one_kind(row: Row) -> bool:
    """Tell whether a row is about one kind of unrelated pictures."""
    return row["pictures"].startswith("unrelated: ") and "foreign" not in row["pictures"]


def engine(rows: list[Row]) -> str:
    """Give gradient engines beside each other."""
    covers = {"coverage": None, "weights": None}  # what takes no example's gradient covers nothing
    return markdown(
        [row | ({} if row["fidelity"] else covers) for row in rows],
        {
            "engine": "{engine}",
            "ratio": ranged("ratio", "ratio_low", "ratio_high", ".2f"),
            "of floor": "{share_of_floor:.2f}",
            "layers": "{coverage:.0%}",
            "of their weights": "{weights:.0%}",
            "fidelity": "{fidelity:.4f}",
            "peak MB": "{peak_mb:.0f}",
        },
    )


def scale(rows: list[Row]) -> str:
    """Give what a cache costs as it grows."""
    return markdown(
        rows,
        {
            "images": "{images:,}",
            "GB on disk": "{gigabytes:.2f}",
            "open, s": "{open_s:.4f}",
            "check every byte once, s": "{check_s:.3f}",
            "contributions of a query, s": "{pass_s:.4f}",
            "share of a bare pass": "{share_of_bare:.2f}",
            "slider, s": "{slider_s:.4f}",
            "best 20, nothing kept, s": "{scores_s:.3f}",
            "memory, MB": "{peak_mb:.0f}",
        },
    )


def index(rows: list[Row]) -> str:
    """Give how many of the exact ten best the approximate index finds."""
    name = "recall_at_10_probes_"
    found = [
        {
            "images": row["images"],
            "cells": key.removeprefix(name),
            "recall": row[key],
            "seconds": row[f"index_query_s_probes_{key.removeprefix(name)}"],
        }
        for row in rows
        for key in row
        if key.startswith(name)
    ]
    return markdown(
        found,
        {
            "images": "{images:,}",
            "cells looked into": "{cells}",
            "of the exact ten best": "{recall:.3f}",
            "seconds a query": "{seconds:.5f}",
        },
    )


def page(rows: list[Row]) -> str:
    """Give what a visitor waits for."""
    return markdown(rows, {"what": "{what}", "seconds": "{seconds:.2f}"})


def load(result: Row) -> str:
    """Give what ten people at once wait for."""
    return (
        markdown(
            result["endpoints"],
            {
                "endpoint": "{endpoint}",
                "calls": "{calls:,}",
                "errors": "{errors}",
                "median, s": "{median:.2f}",
                "95th percentile, s": "{p95:.2f}",
            },
        )
        + "\n\nThe server held {ratio:.2f} times the memory of the second minute at the end.".format_map(
            result["memory"]
        )
    )


# name in the marker -> file of the results, what renders it
SHOWN: dict[str, tuple[str, Callable]] = {
    name: (name, make)
    for name, make in tables.TABLES.items()
    if (ROOT / f"benchmarks/results/{name}.json").is_file()  # what was measured so far
}
SHOWN |= {
    "controls": ("factors", tables.controls),
    "calibration": ("calibration", calibrated),
    "calibration of each kind": ("calibration", kinds),
    "drawn": ("calibration", drawn),
    "listed": ("listed", tables.calibration),
    "engine": ("engine", engine),
    "scale": ("scale", scale),
    "index": ("scale", index),
    "page": ("page", page),
    "load": ("load", load),
}


def filled(text: str) -> str:
    """Give a page with its tables written anew."""

    def write(found: re.Match) -> str:
        file, make = SHOWN[found[2]]
        rows = json.loads((ROOT / f"benchmarks/results/{file}.json").read_text())
        return f"{found[1]}\n{make(rows)}\n\n{found[3]}"

    return MARKED.sub(write, text)


def main() -> None:
    """Write every page whose tables have changed."""
    for path in sorted((ROOT / "docs").glob("*.md")):
        text = path.read_text()
        if (fresh := filled(text)) != text:
            path.write_text(fresh)
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()

"""Write the tables of `docs/` from the committed results.

In: benchmarks/results/*.json. Out: what stands between `<!-- table: NAME -->` and `<!-- end -->` in docs/*.md. It
measures nothing and imports no torch.

  python benchmarks/tables.py
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

from precompute import tables
from precompute.tables import Row, markdown, ranged

ROOT = Path(__file__).parents[1]
MEMORY = 230  # GB of a machine of 256 that can hold shards
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
    untold = {"fidelity"} - {key for row in rows for key in row if row[key]}
    return markdown(
        [
            {
                k: v
                for k, v in (row | ({} if row["coverage"] else covers)).items()
                if k not in untold
            }
            for row in rows
        ],
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
            "kept as": "{dtype}",
            "GB on disk": "{gigabytes:.2f}",
            "open, s": "{open_s:.4f}",
            "check every byte once, s": "{check_s:.3f}",
            "contributions of a query, s": "{pass_s:.4f}",
            "share of a bare pass": "{share_of_bare:.2f}",
            "slider, s": "{slider_s:.4f}",
            "best 20, nothing kept, s": "{scores_s:.4f}",
            "its share": "{scores_share:.2f}",
            "memory, MB": "{peak_mb:.0f}",
        },
    )


def beyond(rows: list[Row]) -> str:
    """Give what more images would take by the slope from the last but one size of 8-bit caches to the last."""
    kept = [row for row in rows if row["dtype"] == "int8"]
    before, last = sorted(kept, key=lambda row: row["images"])[-2:]
    step = last["images"] - before["images"]

    def at(images: int) -> Row:
        more = images - last["images"]
        row = {
            key: last[key] + more * (last[key] - before[key]) / step
            for key in ("gigabytes", "check_s", "scores_s")
        }
        told = {"machines": math.ceil(row["gigabytes"] / MEMORY), "codes": images * 256 / 1e9}
        return row | told | {"images": images, "is": "no" if more else "yes"}

    return markdown(
        [at(images) for images in (last["images"], 10**8, 10**9)],
        {
            "images": "{images:,}",
            "measured": "{is}",
            "GB on disk": "{gigabytes:,.0f}",
            "machines that hold it in memory": "{machines:,}",
            "an answer by a pass, core seconds": "{scores_s:,.1f}",
            "checking every byte once, core seconds": "{check_s:,.0f}",
            "an index's codes, GB": "{codes:.2f}",
        },
    )


def index(rows: list[Row]) -> str:
    """Give how many of the ten first of a pass an index finds, and what it takes."""
    return markdown(
        [row | {"used": "yes" if row["reported"] else "no"} for row in rows],
        {
            "images": "{images:,}",
            "mix": "{mix}",
            "spread over groups": "{groups:.1f}",
            "recall@10": "{recall_at_10:.3f}",
            "by codes alone": "{by_codes:.3f}",
            "ms a query": "{milliseconds:.1f}",
            "times as fast as a pass": "{ratio:.1f}",
            "bytes of codes an image": "{bytes_a_row}",
            "of its copy": "{copy_bytes_a_row:,}",
            "MB beside": "{beside_mb:.0f}",
            "the page uses it": "{used}",
        },
    )


def rank(rows: list[Row]) -> str:
    """Give how well few numbers of a gradient keep its cosines."""
    return markdown(
        rows,
        {
            "kept as": "{way}",
            "numbers a group": "{numbers}",
            "error of cosines": "{cosine_error:.3f}",
            "agreement of lists": ranged("list_agreement", "low", "high", ".3f"),
            "of the exact ten": "{recall_at_10:.2f}",
            "chance": "{chance:.2f}",
        },
    )


def cluster(rows: list[Row]) -> str:
    """Give engines that could hold the shards beside each other."""
    return markdown(
        [row | {"it": "yes" if row["kept"] else "no"} for row in rows],
        {
            "engine": "{engine} {version}",
            "workers": "{workers}",
            "until the first answer, s": "{start_s:.1f}",
            "an answer, s": "{query_s:.3f}",
            "over a pass here": "{ratio:.2f}",
            "a worker killed meanwhile": "{killed}",
            "installed, MB": "{installed_mb}",
            "kept": "{it}",
        },
    )


def buckets(rows: list[Row]) -> str:
    """Give how pictures of two shapes are compared."""
    return markdown(
        rows,
        {
            "method": "{method}",
            "noise": "{noise}",
            "its own picture first": ranged("found", "found_low", "found_high", ".2f"),
            "of the ten first of its own shape": ranged(
                "own_shape", "own_shape_low", "own_shape_high", ".2f"
            ),
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
        + "\n\nAt the end the server held {ratio:.2f} times the memory that it held after {seconds} seconds.".format_map(
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
    "real art": ("real_art", tables.factors),
    "calibration": ("calibration", calibrated),
    "calibration of each kind": ("calibration", kinds),
    "drawn": ("calibration", drawn),
    "listed": ("listed", tables.calibration),
    "engine": ("engine", engine),
    "engine of Stable Diffusion 1.5": ("engine_sd15", engine),
    "scale": ("scale", scale),
    "beyond": ("scale", beyond),
    "index": ("index", index),
    "cluster": ("cluster", cluster),
    "several sizes": ("buckets", buckets),
    "rank": ("rank", rank),
    "page": ("page", page),
    "load": ("load", load),
    "load of all kinds": ("load_kinds", load),
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

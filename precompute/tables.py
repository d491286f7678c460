"""Write what the measurements found as Markdown.

In: rows, as `evaluate` measures and keeps them. Out: tables. A column is a head and a format of a row's figures. It
imports no torch, so that the tables of `docs/` are made and checked in no time (`benchmarks/tables.py`).
"""

from collections.abc import Collection

Row = dict
Columns = dict[str, str]  # head -> format


def markdown(rows: Collection[Row], columns: Columns) -> str:
    """Lay rows out, a line each; a column that no row fills is left out."""
    table = {head: [cell(form, row) for row in rows] for head, form in columns.items()}
    table = {head: cells for head, cells in table.items() if any(cells)}
    lines = [list(table), ["---"] * len(table), *map(list, zip(*table.values(), strict=True))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(form: str, row: Row) -> str:
    """Write a row's figures; nothing where it lacks them, a dash where they are not known."""
    try:
        return form.format_map(row)
    except KeyError:
        return ""
    except TypeError:  # None
        return "-"


def ranged(name: str, low: str = "low", high: str = "high", form: str = ".3f") -> str:
    """Give the format of a figure with its interval."""
    return f"{{{name}:{form}}} [{{{low}:{form}}}, {{{high}:{form}}}]"


GAIN = ranged("gain_over_equalised", "gain_low", "gain_high", "+.3f")


def gained(rows: list[Row]) -> list[Row]:
    """Leave out what equalised groups gain over themselves."""
    own = {"gain_over_equalised", "relative_gain"}
    return [
        {
            k: v
            for k, v in row.items()
            if k not in own or row["weights"] not in {"equalised", "none"}
        }
        for row in rows
    ]


def having(rows: list[Row], figure: str) -> list[Row]:
    """Choose the rows that have a figure."""
    return [row for row in rows if figure in row]


def factors(rows: list[Row]) -> str:
    """Give precision at 1 / 5 / 10: a line for each method and weights, a column for each factor."""
    columns = {"method": "{method}", "weights": "{weights}"}
    chance = {row["factor"]: row["chance"] for row in rows}
    place = {factor: f"factor_{number}" for number, factor in enumerate(chance)}
    columns |= {f"{f} (chance {chance[f]:.3f})": f"{{{place[f]}}}" for f in chance}
    lines: dict[tuple[str, str], Row] = {}
    for row in rows:
        first = [cell(f"{{precision_at_{count}:.2f}}", row) or "-" for count in (1, 5)]
        ten = cell("**{precision_at_10:.3f}** [{low:.3f}, {high:.3f}]", row)
        line = lines.setdefault((row["method"], row["weights"]), row | {})
        line[place[row["factor"]]] = " / ".join([*first, ten])
    return markdown(lines.values(), columns | {"pictures": "{queries}"})


def controls(rows: list[Row]) -> str:
    """Give what a concept's question, words and weights each do: a line for each factor."""
    return markdown(
        having(rows, "wrong_phrase"),
        {
            "concept": "{factor}",
            "own question and weights": "{precision_at_10:.3f}",
            "the same question, equalised weights": "{equalised_same_question:.3f}",
            "equalised weights, without the subtraction": "{equalised_without_subtraction:.3f}",
            "phrase guessed from the picture alone": "{phrase_guessed_from_picture:.3f}",
            "a wrong phrase: hits of the picture's own value": "{wrong_phrase:.3f}",
            "shared with another picture asked in the same words": "{shared_with_other_pictures:.3f}",
        },
    )


def exemplars(rows: list[Row]) -> str:
    """Give Recall@10 and mean average precision: a line for each concept, method and way to ask."""
    return markdown(
        rows,
        {
            "exemplars": "{concept}",
            "method": "{method}",
            "weights": "{weights}",
            "words": "{words}",
            "Recall@10": ranged("recall_at_10"),
            "its chance": "{chance:.3f}",
            "mAP": ranged("mean_average_precision", "map_low", "map_high"),
            "chance of mAP": "{map_chance:.3f}",
            "pictures": "{queries}",
        },
    )


def counterfactual(rows: list[Row]) -> str:
    """Give what training without some images changes, then whether style and subject are told apart."""
    lists = markdown(
        having(rows, "over_latents"),
        {
            "removed": "{method}",
            "change of the picture's loss": ranged("loss_change", form="+.4f"),
            "times that of latents'": ranged(
                "over_latents", "over_latents_low", "over_latents_high", ".2f"
            ),
            "change of the same-seed picture": ranged(
                "picture_change", "picture_low", "picture_high"
            ),
        },
    )
    apart = markdown(
        having(rows, "difference"),
        {
            "removed": "{method}",
            "loss of pictures that name it": "{loss_change:+.4f}",
            "of those that name the other": "{loss_change_of_other_factor:+.4f}",
            "difference": ranged("difference", form="+.4f"),
        },
    )
    return f"{lists}\n\n{apart}"


def settings(row: Row) -> str:
    """Say which settings were chosen for a method and weights."""
    norms = {True: ["rows at norm one"], False: ["rows as they are"]}
    chosen = norms.get(row.get("unit_rows"), [])  # now always at norm one
    chosen += [f"λ {row['damping']:g}"] if row.get("damping") else []
    chosen += [f"k {row['top_k']}"] if row.get("top_k") else []
    return ", ".join(chosen)


DATAMODEL = {
    "method": "{method}",
    "noise": "{noise}",
    "kernel": "{kernel}",
    "weights": "{weights}",
    "LDS (chance 0)": ranged("lds"),
    "gain over equalised": GAIN,
    "relative": "{relative_gain:+.0%}",
    "settings": "{settings}",
}


def removed(rows: list[Row]) -> str:
    """Give how much the loss rises without few or many images."""
    return markdown(
        rows,
        {
            "removed": "{removed}",
            "images": "{images}",
            "part of the evidence": "{share:.3f}",
            "rise of the picture's loss": ranged("rise", form="+.3f"),
        },
    )


def lds(rows: list[Row]) -> str:
    """Give the linear datamodeling score: a line for each method, noise and kernel, a column for each set of weights."""
    lines: dict[tuple, Row] = {}
    for row in having(rows, "kernel"):
        key = row["method"], row["noise"], row["kernel"]
        gain = cell(GAIN, row) if row["weights"] in ("learned", "oracle") else ""
        lines.setdefault(key, row | {"strength": settings(row)}).update(
            {row["weights"]: cell(ranged("lds"), row), f"{row['weights']} gain": gain}
        )
    found = markdown(
        lines.values(),
        {
            "method": "{method}",
            "noise": "{noise}",
            "kernel": "{kernel}",
            "plain": "{plain}",
            "equalised": "{equalised}",
            "learned": "{learned}",
            "its gain": "{learned gain}",
            "oracle's gain": "{oracle gain}",
            "strength": "{strength}",
        },
    )
    plain = markdown(
        [row for row in rows if "kernel" not in row],
        {"without groups": "{method}", "LDS (chance 0)": ranged("lds")},
    )
    return f"{found}\n\n{plain}\n\n" + cell(
        "Exact expected losses would reach {ceiling:.3f}; one training's losses reach {retraining:.3f} of another's.",
        rows[0],
    )


def domains(rows: list[Row]) -> str:
    """Give the linear datamodeling score in other domains."""
    rows = [row | {"settings": settings(row)} for row in gained(rows)]
    return markdown(rows, {"data": "{domain}"} | DATAMODEL | {"ceiling": "{ceiling:.3f}"})


def captions(rows: list[Row]) -> str:
    """Give how well flipped captions are found."""
    return markdown(
        gained(rows),
        {
            "method": "{method}",
            "weights": "{weights}",
            "AUC (chance 0.5)": ranged("auc"),
            "gain over equalised": GAIN,
        },
    )


def calibration(rows: list[Row]) -> str:
    """Give the share of pictures for which evidence is claimed, a column for each level."""
    columns = {"figure": "{figure}", "pictures": "{measured_on}", "question": "{question}"}
    levels = sorted({row["level"] for row in rows})
    place = {level: f"level_{number}" for number, level in enumerate(levels)}
    columns |= {f"p ≤ {level:.0%}": f"{{{place[level]}}}" for level in levels}
    lines: dict[tuple[str, ...], Row] = {}
    for row in rows:
        key = (row["figure"], row["measured_on"], row["question"])
        lines.setdefault(key, row | {})[place[row["level"]]] = cell(ranged("share"), row)
    return markdown(lines.values(), columns)


def identity(rows: list[Row]) -> str:
    """Give how often a changed training picture is found, and how often one is named for a picture that is not there."""
    return markdown(
        rows,
        {
            "collection": "{collection}",
            "change": "{change}",
            "found": ranged("recall"),
            "false alarms": ranged("false_alarms", "false_low", "false_high", ".4f"),
            "of another subject": "{false_alarms_other_subjects:.4f}",
            "chance": "{chance:.4f}",
            "furthest copy, nearest other": "{furthest_copy:.3f}, {nearest_other:.3f}",
            "asked": "{asked}",
        },
    )


def regions(rows: list[Row]) -> str:
    """Give how often the map lights up the right half."""
    return markdown(
        rows,
        {
            "method": "{method}",
            "weights": "{weights}",
            "map": "{map}",
            "pointing game (chance 0.5)": ranged("pointing_accuracy"),
            "positive evidence in the right half": ranged(
                "share_in_right_half", "share_low", "share_high"
            ),
        },
    )


def own(rows: list[Row]) -> str:
    """Give what phrases find that are learned on the spot."""
    return markdown(
        [r | {"note": " (in no caption)" if r["unknown_words"] else ""} for r in rows],
        {
            "phrase": "{phrase}{note}",
            "means": "{means}",
            "chance": "{chance:.3f}",
            "own weights": "**{precision_at_10:.3f}** [{low:.3f}, {high:.3f}]",
            "equalised": "{equalised:.3f}",
            "shipped concept": "{shipped:.3f}",
            "p ≤ 5 %: shown / not": "{shown:.2f} / {not_shown:.2f}",
            "seconds": "{seconds:.0f}",
        },
    )


def world(rows: list[Row]) -> str:
    """Give how often a judge recognises what the model draws."""
    return markdown(
        rows,
        {
            "factor": "{factor}",
            "recognised": ranged("accuracy"),
            "the model before": "{before:.3f}",
            "chance": "{chance:.3f}",
            "the judge on real pictures": "{judge:.3f}",
        },
    )


def unlearning(rows: list[Row]) -> str:
    """Give what unlearning some images changes, then whether style and subject are told apart."""
    lists = markdown(
        having(rows, "over_random"),
        {
            "unlearned": "{method}",
            "change of the picture's loss": ranged("loss_change", form="+.3f"),
            "times random's": ranged("over_random", "over_random_low", "over_random_high", ".1f"),
            "change of the picture": ranged("picture_change", "picture_low", "picture_high"),
            "an unrelated picture's loss": ranged(
                "unrelated_change", "unrelated_low", "unrelated_high", "+.3f"
            ),
        },
    )
    apart = markdown(
        having(rows, "difference"),
        {
            "unlearned": "{method}",
            "under the style's phrase": "{loss_change_of_style:+.3f}",
            "under the subject's": "{loss_change_of_subject:+.3f}",
            "own less other": ranged("difference", form="+.3f"),
        },
    )
    return f"{lists}\n\n{apart}"


def unnamed(rows: list[Row]) -> str:
    """Give precision for what no word named: a line for each collection, factor and way to ask."""
    return markdown(
        rows,
        {
            "collection": "{collection}",
            "judged by": "{factor}",
            "method": "{method}",
            "weights": "{weights}",
            "words": "{words}",
            "precision@10": ranged("precision_at_10"),
            "chance": "{chance:.3f}",
            "pictures": "{measured_on}",
        },
    )


def adapters(rows: list[Row]) -> str:
    """Give LDS, precision and cost of each choice of layers."""
    return markdown(
        rows,
        {
            "method": "{method}",
            "layers": "{layers}",
            "weights": "{weights}",
            "LDS": ranged("lds"),
            "its ceiling": "{ceiling:.3f}",
            "subject@10": ranged("subject", "subject_low", "subject_high"),
            "style@10": ranged("style", "style_low", "style_high"),
            "background@10": ranged("background", "background_low", "background_high"),
            "numbers a picture": "{numbers:,}",
            "time": "{time_over_all:.2f}",
        },
    )


def artists(rows: list[Row]) -> str:
    """Give how often the artist who is missed most comes first in the shares."""
    return markdown(
        rows,
        {
            "shares by": "{method}",
            "top 1": ranged("top_1"),
            "chance": "{chance:.3f}",
            "NDCG@3": ranged("ndcg_at_3", "ndcg_low", "ndcg_high"),
            "its chance": "{ndcg_chance:.3f}",
            "pictures": "{measured_on}",
        },
    )


TABLES = {
    "factors": factors,
    "exemplars": exemplars,
    "counterfactual": counterfactual,
    "removed": removed,
    "lds": lds,
    "captions": captions,
    "calibration": calibration,
    "identity": identity,
    "drawn": calibration,
    "listed": calibration,
    "regions": regions,
    "domains": domains,
    "own": own,
    "unlearning": unlearning,
    "world": world,
    "unnamed": unnamed,
    "artists": artists,
    "adapters": adapters,
}

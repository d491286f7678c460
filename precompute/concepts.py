"""Propose concepts.json for a collection that has none: what its pictures differ in, for the owner to edit.

In: a collection. Out: `concepts.json`, and on the terminal how many pictures show each value. Columns of labels are
concepts where they have few values; else phrases that many captions share are sorted by the word before them:
"a woodcut of", "as a woodcut": style; "in the forest", "at night": background; all else: subject. No model is asked.
"""

import json
import math
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from attribution.concepts import full_prompt
from attribution.errors import InputError
from attribution.files import write_whole
from attribution.pictures.collection import Collection, load_collection
from attribution.pictures.layout import KNOWN, Layout, layout_in
from attribution.pictures.vocabulary import MOST_COMBINATIONS, PROMPT, RESERVED

MOST_VALUES = 60  # of a concept
LEAST_SHOWN = 0.01  # of the pictures, and three, show a value
MOST_SHOWN = 0.9  # what nearly all captions say tells nothing apart
LONGEST = 4  # words of a phrase, without preposition and article
STYLE = ("as", "painted as", "drawn as")
PLACE = ("in", "on", "at", "by", "under", "near", "over", "before", "behind", "beside", "inside")
SPLIT = re.compile(
    rf"\s*[,.;:!?()]+\s*|\s+(?={'|'.join(sorted({*STYLE, *PLACE, 'of', 'with'}, key=len, reverse=True))}\b)"
)
ARTICLE = re.compile(r"^(an?|the|some|several|two|three)\s+")
Counts = dict[str, Counter[str]]  # concept -> phrase -> pictures


@dataclass(frozen=True)
class ConceptsConfig(Layout):
    """Whose concepts, and where they are written."""

    train_data_dir: str = ""
    output_file: str = field(
        default="", metadata={"help": "if it is not concepts.json in the collection's folder"}
    )


def run(config: ConceptsConfig) -> None:
    """Write the proposal and show its counts; what is there is never overwritten."""
    if not config.train_data_dir:
        raise InputError("say with --train_data_dir whose concepts are wanted")
    collection = load_collection(config.train_data_dir, layout_in(config))
    path = Path(config.output_file or collection.folder / "concepts.json")
    if path.exists():
        raise InputError(f"{path} is there already; remove it or choose another --output_file")
    counts = from_labels(collection) or from_captions(collection.captions)
    if not counts:
        raise InputError(
            f"{collection.folder} has no column of labels with 2 to {MOST_VALUES} values and no phrases that its captions "
            "share; write concepts.json by hand, or go without: weights are then learned for whole pictures alone"
        )
    write_whole(path, json.dumps(proposal(counts), indent=1, ensure_ascii=False) + "\n")
    for concept, phrases in counts.items():
        for phrase, count in phrases.most_common():
            print(f"{count:6d} of {len(collection)}  {concept}: {phrase}")
    print(f"{path}: edit it, leave out what is no concept, then learn weights", file=sys.stderr)


def proposal(counts: Counts) -> dict:
    """Give what concepts.json holds: each value by its phrase without article and preposition."""
    sentence = full_prompt({concept: f"{{{concept}}}" for concept in counts})
    found: dict = {PROMPT: sentence}
    for concept, phrases in counts.items():
        found[concept] = {_bare(phrase): phrase for phrase, _ in phrases.most_common()}
    return found


def from_labels(collection: Collection) -> Counts:
    """Take the columns that most pictures have and that have few values."""
    total, found = len(collection), {}
    columns = dict.fromkeys(column for labels in collection.labels for column in labels)
    for column in columns:
        if column in {*KNOWN, *RESERVED, PROMPT} or re.search(r"[{}!:.\[\]]", column):
            continue
        values = Counter(labels[column] for labels in collection.labels if column in labels)
        values.pop("", None)
        if (
            2 <= len(values) <= MOST_VALUES
            and total <= 2 * values.total()
            and 2 * len(values) <= total
        ):
            found[column] = Counter(
                {_in_captions(v, column, collection): count for v, count in values.items()}
            )
    return _few(found)


def _in_captions(value: str, column: str, collection: Collection) -> str:
    """Write a value as the captions of its pictures do: with an article or without."""
    both = zip(collection.captions, collection.labels, strict=True)
    text = "\n".join(caption.lower() for caption, row in both if row.get(column) == value)
    ways = [f"{article} {value}" for article in ("a", "an", "the")]
    counts = {way: len(re.findall(rf"\b{re.escape(way.lower())}\b", text)) for way in ways}
    best = max(ways, key=counts.__getitem__)
    return best if counts[best] else value


def from_captions(captions: list[str]) -> Counts:
    """Sort phrases that many captions share by the word before them."""
    counts: Counts = {"style": Counter(), "subject": Counter(), "background": Counter()}
    for caption in captions:
        for concept, phrase in set(phrases_of(caption)):
            counts[concept][phrase] += 1
    least, most = max(3, LEAST_SHOWN * len(captions)), MOST_SHOWN * len(captions)
    found = {}
    for concept, phrases in counts.items():
        some = Counter({p: n for p, n in phrases.most_common(MOST_VALUES) if least <= n <= most})
        if len({_bare(phrase) for phrase in some}) > 1:
            found[concept] = some
    return _few(found)


def phrases_of(caption: str) -> list[tuple[str, str]]:
    """Cut a caption at commas and prepositions, and give each piece with the concept that it may belong to."""
    words = " ".join(caption.lower().split()).replace("in the style of ", "as ")
    pieces = [piece for piece in SPLIT.split(words) if piece]
    found = []
    for piece, after in zip(pieces, [*pieces[1:], ""], strict=False):
        before = next((w for w in (*STYLE, "of", "with", *PLACE) if piece.startswith(f"{w} ")), "")
        rest = piece.removeprefix(before).strip()
        if not 0 < len(_bare(rest).split()) <= LONGEST:
            continue
        if before in STYLE or (not before and after.startswith("of ")):
            found.append(("style", rest))
        elif before in PLACE:
            found.append(("background", piece))
        elif before != "with":
            found.append(("subject", rest))
    return found


def _bare(phrase: str) -> str:
    """Leave out a preposition and an article."""
    before = next((word for word in PLACE if phrase.startswith(f"{word} ")), "")
    return ARTICLE.sub("", phrase.removeprefix(before).strip())


def _few(counts: Counts) -> Counts:
    """Leave out the rarest values until all combinations can be listed."""
    while math.prod(len(phrases) for phrases in counts.values()) > MOST_COMBINATIONS:
        longest = max(counts.values(), key=len)
        del longest[longest.most_common()[-1][0]]
    return counts

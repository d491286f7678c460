"""Say in JSON what a static demo tells: of the collection, of every training image, and of every example.

In: an attributor and its examples. Out: a dict for `demo.json`. Of what is withheld nothing is said but how many there
are. Columns name each different text once.
"""

import xxhash

from attribution.answer.questions import GENERAL
from attribution.answer.shares import LEVEL, RESAMPLES
from attribution.attributor import Attributor
from attribution.looks.examples import Example
from attribution.pictures.optout import WITHHELD
from precompute.site.maps import Maps
from precompute.site.numbers import Numbers

VERSION = 1
EVIDENCE = {"strong": 0.01, "some": 0.05}  # p-values at most; else weak


def questions_of(attributor: Attributor, examples: list[Example]) -> list[str]:
    """Name the questions that any example was asked: the whole picture, then the collection's concepts."""
    asked = {name for example in examples for name in example.answer.scores}
    return [name for name in (GENERAL, *attributor.collection.concepts) if name in asked]


def told_of(
    attributor: Attributor,
    examples: list[Example],
    numbers: list[Numbers],
    maps: list[Maps],
    words: dict[str, str],
) -> dict:
    """Tell everything."""
    visible, calibration = attributor.visible, attributor.calibration
    questions = questions_of(attributor, examples)
    artists = visible.names("artist") if visible.has("artist") else []
    null = calibration.unrelated.sort().values.tolist() if calibration else []
    return {
        "version": VERSION,
        "build": build_of(attributor, numbers),
        "known": len(visible),
        "withheld": visible.withheld(),
        "withheld_name": WITHHELD,
        "level": LEVEL,
        "resamples": RESAMPLES,
        "evidence": EVIDENCE,
        "likeness": attributor.look_alikes is not None,
        "questions": questions,
        "whole": GENERAL,
        "blocks": numbers[0].blocks,
        "ranges": numbers[0].ranges,
        "captions": coded({row: text for row, text, _ in visible.described()}, len(visible)),
        "columns": columns_of(attributor),
        "artists": artists,
        "null": [round(value, 4) for value in null],
        "examples": [
            example_told(example, its, questions, artists)
            for example, its in zip(examples, numbers, strict=True)
        ],
        "maps": [{"steps": m.steps, "mapped": m.mapped, "grid": m.grid} for m in maps],
        "words": words,
    }


def build_of(attributor: Attributor, numbers: list[Numbers]) -> str:
    """Name what pictures and numbers are of, so that no browser shows a kept picture of another build."""
    digest = xxhash.xxh3_64(attributor.collection.fingerprint().encode())
    for each in numbers:
        digest.update(each.data)
    return digest.hexdigest()


def columns_of(attributor: Attributor) -> dict[str, dict]:
    """Give every label of the images that may be shown, by its column."""
    labels = {row: about for row, _, about in attributor.visible.described()}
    names = dict.fromkeys(name for about in labels.values() for name in about)
    return {
        name: coded({r: a[name] for r, a in labels.items() if name in a}, len(attributor.visible))
        for name in names
    }


def coded(texts: dict[int, str], count: int) -> dict[str, list]:
    """Give different texts once, and each row's place among them, -1 where it has none."""
    values = list(dict.fromkeys(texts.values()))
    place = {value: number for number, value in enumerate(values)}
    return {"values": values, "rows": [place[texts[r]] if r in texts else -1 for r in range(count)]}


def example_told(
    example: Example, numbers: Numbers, questions: list[str], artists: list[str]
) -> dict:
    """Tell of one example what its numbers do not."""
    answer = example.answer
    asked = [name for name in questions if name in answer.scores]
    return {
        "prompt": example.prompt,
        "seed": example.seed,
        "held_out": example.held_out,
        "phrases": {name: answer.phrases[name] for name in asked},
        "p_values": {n: round(p, 6) for n, p in answer.p_values.items() if n in asked},
        "list_p_values": {n: round(p, 6) for n, p in answer.list_p_values.items() if n in asked},
        "evidence": {n: round(e, 4) for n, e in answer.evidence.items() if n in asked},
        "shares": {
            name: _shares(answer.artists("artist", **{name: 1.0}), artists) for name in asked
        }
        if artists
        else {},
        "steps": numbers.steps,
        "kept": numbers.kept,
    }


def _shares(shares: list, artists: list[str]) -> dict[int, float]:
    """Give each artist's share by their place in the list; what is withheld has none."""
    place = {name: number for number, name in enumerate(artists)}
    return {place[s.artist]: round(s.share, 4) for s in shares if s.artist in place}

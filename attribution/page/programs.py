"""Tell programs what the page shows: an answer, a training image, and which layers spoke, as JSON.

In: a `Desk` and what a program looks at. Out: dicts that JSON can hold, in English. It knows no endpoint.
"""

from attribution.answer.shares import Share, portions
from attribution.looks.depth import by_block, depth
from attribution.page.desk import Desk
from attribution.page.session import LEVEL, Session


def as_json(desk: Desk, seen: Session, count: int) -> dict:
    """Give an answer to a program."""
    answer = seen.answer
    share = portions(answer.mix(**seen.mix)).tolist() if answer.whole else None
    hidden = answer.hidden_among(count, **seen.mix)
    sources = [
        {"rank": s.rank, "score": round(s.score, 4), "share": share and round(share[s.index], 4)} | row_json(desk, s.index)
        for s in seen.shown(count)
    ]  # fmt: skip
    return {
        "method": seen.method, "phrases": answer.phrases, "mix": seen.mix,
        "p_values": answer.p_values, "level": LEVEL, "sources": sources, "withheld": hidden,
        "stands_out": bool(answer.p_values) and answer.stands_out(LEVEL),
        "artists": [vars(each) for each in shares(desk, seen)] if answer.whole else None,
        "searched": answer.searched, "model": desk.choices.model,
        "copies": copies_json(desk, seen), "verdict": verdict_json(desk, seen),
        "drawn": {"known": seen.seed is not None, "p_value": answer.drawn},
    }  # fmt: skip


def verdict_json(desk: Desk, seen: Session) -> dict:
    """Give the verdict to a program, in the page's words."""
    said = seen.verdict
    return {
        "origin": said.origin, "evidence": said.evidence, "sentence": said.sentence,
        "sure": " ".join(said.sure),
    }  # fmt: skip


def copies_json(desk: Desk, seen: Session) -> list[dict] | None:
    """Give the training images that a picture is or nearly copies; None where nobody looked."""
    if seen.answer.copies is None:
        return None
    return [vars(copy) | row_json(desk, copy.row) for copy in seen.answer.originals()]


def shares(desk: Desk, seen: Session) -> list[Share]:
    """Give the artists' shares; none where the collection names no artist."""
    return seen.answer.artists(**seen.mix) if desk.visible.has("artist") else []


def row_json(desk: Desk, row: int) -> dict:
    """Give what is known of a training image to a program."""
    visible = desk.visible
    about = {"row": row, "file": visible.file(row), "caption": visible.caption(row)}
    return about | visible.labels(row)


def spoken(desk: Desk, seen: Session, row: int) -> dict:
    """Give what each block of the network adds to a training image's score, from little noise to much."""
    about = row_json(desk, row)
    blocks = by_block(depth(desk.by_method[seen.method], seen.answer, row, **seen.mix))
    parts = {name: [round(value, 4) for value in part.tolist()] for name, part in blocks.items()}
    return about | {"blocks": parts}

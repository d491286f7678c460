"""Write down for an artist whether their work is here: three answers that are never mixed.

In: what was asked, and what was found. Out: a dict that JSON can hold, and an HTML file of it. Was it in the set, does it
look alike, did it influence: where one of these was not asked or cannot be known, it says so in a sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from attribution.attributor import Attributor
from attribution.looks.influence import Influence
from attribution.report.report import LIBRARY, fingerprints
from attribution.report.signature import ARTIST, FIELD, REMOVED, signer_of
from attribution.sentence import Sentence, together

NO_CONTACT = Sentence("The host has named no contact.")
CANNOT_COMPARE = Sentence("This cache cannot tell: it keeps no thumbnails to compare with.")
NOT_FOUND = Sentence(
    "No training picture that may be shown is this one or a near copy of it. One that was changed much is not found."
)
NO_LOOK = Sentence("Not asked: a name has no look. Bring a picture to have it compared.")
CANNOT_LIKEN = Sentence("This cache cannot tell: it keeps no latents to compare with.")
ALIKE = Sentence(
    "These training pictures look most like it, by plain comparison; some always come first. Looking alike is no sign "
    "that one was made from the other."
)
NOT_LEARNED = Sentence(
    "What is not in the set was not learned from here, so that there is nothing to ask."
)
NOT_JUDGED = Sentence(
    "This cannot be told: which lists are named by chance was not measured for this cache, or there are no examples."
)


@dataclass(frozen=True)
class Work:
    """What is known of somebody's work."""

    artist: str = ""  # whose name was asked for, or who made the picture that was found
    picture: str = ""  # the hash of one that was brought
    rows: tuple[int, ...] = ()  # training images: theirs, or those that the picture repeats
    copies: tuple[str, ...] | None = None  # a sentence for each; None where nobody could look
    nearest: tuple[tuple[int, float], ...] | None = None  # row and cosine; None where not compared
    influence: Influence | None = None  # None where nothing of it is in the set

    @property
    def in_the_set(self) -> Sentence:
        """Say whether it was in the set."""
        if not self.picture:
            count, by = len(self.rows), self.artist
            if count == 1:
                return Sentence("Yes: 1 training picture by {by}.", by=by)
            return Sentence("Yes: {count:,} training pictures by {by}.", count=count, by=by)
        if self.copies is None:
            return CANNOT_COMPARE
        return together(self.copies) if self.copies else NOT_FOUND

    @property
    def looks_alike(self) -> Sentence:
        """Say what looks alike."""
        if not self.picture:
            return NO_LOOK
        return CANNOT_LIKEN if self.nearest is None else ALIKE

    @property
    def influenced(self) -> Sentence:
        """Say whether it influenced what the model draws."""
        found = self.influence
        if found is None:
            return NOT_LEARNED
        if not found.judged:
            return NOT_JUDGED
        those = {"above": found.above, "drawn": found.drawn, "n": round(1 / found.level)}
        if not found.above:
            return Sentence(
                "Nobody can tell: {above} of {drawn} drawn examples have a list that chance makes at most 1 time in {n}.",
                **those,
            )
        share = {"share": 100 * found.share, "low": 100 * found.low, "high": 100 * found.high}
        return Sentence(
            "{count} of the drawn examples lean on it. {above} of {drawn} drawn examples have a list that chance makes at most 1 "
            "time in {n}; of what stands out in all these the share is {share:.1f} % ({low:.1f} to {high:.1f}) on average, with a "
            "95 % interval over examples. It is no part of what is owed to anybody.",
            count=len(found.leaning), **those, **share,
        )  # fmt: skip


def removal(contact: str) -> Sentence:
    """Say in one sentence how to be removed."""
    if not contact:
        return NO_CONTACT
    return Sentence(
        "To be removed, write to {contact}: your pictures then leave this page and its cache, but not what the model has learned.",
        contact=contact,
    )


def artist_report(
    attributor: Attributor, work: Work, pictures: Sequence[tuple[str, int]], contact: str
) -> dict[str, Any]:
    """Write it down; `pictures` are the drawn examples' prompts and seeds."""
    visible, found = attributor.visible, work.influence
    nearest = None if work.nearest is None else [
        {"file": visible.file(row), "artist": visible.labels(row).get("artist", ""), "cosine": round(cosine, 4)}
        for row, cosine in work.nearest
    ]  # fmt: skip
    leaning = [
        {"prompt": pictures[place][0], "seed": pictures[place][1], "share": round(share, 4)}
        for place, share in (found.leaning if found else ())
    ]
    figures = {n: v for n, v in vars(found).items() if n != "leaning"} if found else {}
    return {
        "kind": ARTIST,
        "made": {"date": datetime.now(UTC).isoformat(timespec="seconds"), "by": LIBRARY},
        "asked": {"artist": work.artist, "picture": work.picture},
        "in_the_set": {
            "sentence": work.in_the_set,
            "pictures": [
                {"file": visible.file(row), "digest": attributor.collection.rows[row].digest, "caption": visible.caption(row)}
                for row in work.rows
            ],
        },
        "looks_alike": {"sentence": work.looks_alike, "nearest": nearest},
        "influenced": {
            "sentence": work.influenced,
            **{n: round(v, 4) if isinstance(v, float) else v for n, v in figures.items()},
            "leaning": leaning,
        },
        "removal": removal(contact),
        "fingerprints": fingerprints(attributor),
    }  # fmt: skip


def removed_list(attributor: Attributor) -> dict[str, Any]:
    """Write down what was removed and when; names are left out, as they asked to be."""
    return {
        "kind": REMOVED,
        "made": {"date": datetime.now(UTC).isoformat(timespec="seconds"), "by": LIBRARY},
        "collection": attributor.collection.fingerprint(),
        "removed": attributor.requests.removed(),
    }


def artist_html(document: dict[str, Any]) -> str:
    """Write it as one self-contained HTML file."""
    pages = Environment(
        loader=PackageLoader("attribution.report"), autoescape=True, undefined=StrictUndefined
    )
    signer = signer_of(document, ARTIST) if FIELD in document else ""
    return pages.get_template("artist.html").render(report=document, signer=signer)

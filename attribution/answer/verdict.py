"""Say in words what an answer is worth: who made the picture, and how far the list may be believed.

Two things are judged apart. Whether the model drew the picture: it did where its seed is known, else its trace tells
(roundtrip.py). Whether the list means anything: how often unrelated pictures fit the words as well, and how often chance names
pictures as strongly (lists.py). In: `Judged`, the facts of an answer or of a
report. Out: a `Verdict`, from which page, report, table and programs take their sentences, so that none says otherwise.
"""

from dataclasses import dataclass, field

from attribution.answer.answer import Answer
from attribution.answer.copies import told
from attribution.answer.questions import GENERAL
from attribution.answer.shares import LEVEL
from attribution.pictures.vocabulary import OWN
from attribution.sentence import Sentence, in_a_row, together

STRONG, SOME = 0.01, 0.05  # p-values at most; above them evidence is weak
UNLIKELY = 0.1  # a p-value of the trace above which the model hardly drew the picture
STEPS = Sentence(
    "Strong: chance does as well in at most 1 of {strong} cases. Some: in at most 1 of {some}. "
    "Weak: all else. The list as a whole is judged, not each training picture.",
    strong=round(1 / STRONG), some=round(1 / SOME),
)  # fmt: skip
# what a list is, by whether the model has just drawn the picture
NO_EVIDENCE = {
    True: "What pushed {its} most cannot be told: something always comes first.",
    False: "Something always comes first; for {its} the order is no evidence.",
}
LISTED = {
    True: "These training pictures pushed {its} most.",
    False: "These training pictures fit {its} most.",
}
LISTED_BY = {
    True: "Of the training pictures by {by}, these pushed {its} most.",
    False: "Of the training pictures by {by}, these fit {its} most.",
}
NONE_BY = "None of the training pictures by {by} stands out."
CONNECTED = "The list says what the model would connect with {its}, not where it comes from."
KNOWN = {  # evidence -> its sentence
    "strong": Sentence("Evidence: strong."),
    "some": Sentence("Evidence: some."),
    "weak": Sentence("Evidence: weak."),
    "unknown": Sentence("Evidence: not measured."),
}
ORIGINS = {
    "made": Sentence("This model drew this picture."),
    "likely": Sentence("Probably made by this model, or by a hand that it learned from."),
    "unclear": Sentence("Nobody can tell whether this model made it."),
    "unlikely": Sentence("Probably not made by this model, unless it was changed much since."),
    "copy": "",  # the sentence on the training picture says it all
}


@dataclass(frozen=True)
class Judged:
    """What a verdict is made from."""

    mix: dict[str, float]  # question -> amount
    p_values: dict[str, float]  # of questions; empty without a calibration
    evidence: dict[str, float]  # what they judge; empty where there were no words
    phrases: dict[str, str]  # the words of every question
    made: bool  # whether the model has just drawn the picture
    drawn: float | None  # p-value of the picture's trace
    copies: tuple[str, ...] = ()  # a sentence for each training picture that it repeats
    artist: str = ""  # whose pictures alone are listed
    lists: dict[str, float] = field(
        default_factory=dict
    )  # p-values of lists, where a cache has them
    best: float | None = None  # the score of the first one listed of an artist's


@dataclass(frozen=True)
class Verdict:
    """What is said of an answer."""

    origin: str  # one of ORIGINS
    evidence: str  # strong, some, weak or unknown
    copies: tuple[str, ...]  # said first
    said: tuple[str, ...]  # who made it, what the list is, how strong the evidence
    sure: tuple[str, ...]  # how sure that is, as frequencies

    @property
    def sentence(self) -> Sentence:
        """Give all of it, without how sure it is."""
        return together((*self.copies, *self.said))


def verdict(judged: Judged) -> Verdict:
    """Judge."""
    origin, p = origin_of(judged), p_value_of(judged)
    evidence = strength(p, bool(judged.phrases.get(GENERAL)))
    if evidence != "unknown" and none_stands_out(judged):
        evidence = "weak"
    said = ORIGINS[origin], listed(judged, origin, evidence), KNOWN[evidence]
    words, by_list = p_of_words(judged), p_of_list(judged)
    sure = [] if words is None else [fitting(words)]
    if by_list is not None:
        sure.append(cases(by_list))
    if not judged.made and judged.drawn is not None:
        sure.append(looking(judged.drawn))
    return Verdict(origin, evidence, judged.copies, tuple(filter(None, said)), tuple(sure))


def strength(p: float | None, worded: bool) -> str:
    """Name evidence; without words a model knows few even of its own pictures, so that little says nothing."""
    if p is None or (p > SOME and not worded):
        return "unknown"
    return "strong" if p <= STRONG else "some" if p <= SOME else "weak"


def none_stands_out(judged: Judged) -> bool:
    """Tell whether only one artist's pictures are listed, and none of them would have a share."""
    return bool(judged.artist) and judged.best is not None and judged.best <= LEVEL


def origin_of(judged: Judged) -> str:
    """Tell who made the picture, as far as it can be known."""
    if judged.made:
        return "made"
    if judged.copies:
        return "copy"
    if judged.drawn is None or STRONG < judged.drawn <= UNLIKELY:
        return "unclear"
    return "likely" if judged.drawn <= STRONG else "unlikely"


def p_value_of(judged: Judged) -> float | None:
    """Give the p-value that evidence is named by: of words or of the list, the less, doubled where there are both (Bonferroni)."""
    found = [p for p in (p_of_words(judged), p_of_list(judged)) if p is not None]
    return min(1.0, len(found) * min(found)) if found else None


def p_of_words(judged: Judged) -> float | None:
    """Give the largest p-value of the words of what is mixed: all of it must stand out.

    None where nothing was judged, and for a phrase of a visitor's own, whose null nobody took.
    """
    found = [judged.p_values.get(name) for name in judged.mix if not name.startswith(OWN)]
    if not judged.evidence or None in found or len(found) < len(judged.mix):
        return None
    return max(found)


def p_of_list(judged: Judged) -> float | None:
    """Give the largest p-value of the lists of what is mixed; None where one was not compared with chance."""
    found = [judged.lists.get(name) for name in judged.mix]
    return None if None in found or not found else max(found)


def listed(judged: Judged, origin: str, evidence: str) -> Sentence:
    """Say what the list is."""
    its, made = asked(judged.mix), origin == "made"
    if evidence == "unknown":
        return Sentence("How far the order can be trusted was not measured.")
    if none_stands_out(judged):
        return Sentence(NONE_BY, by=judged.artist)
    if evidence == "weak":
        return Sentence(NO_EVIDENCE[made], its=its)
    if origin == "unlikely":
        return Sentence(CONNECTED, its=its)
    if judged.artist:
        return Sentence(LISTED_BY[made], its=its, by=judged.artist)
    return Sentence(LISTED[made], its=its)


def asked(mix: dict[str, float]) -> Sentence:
    """Name what is asked in a sentence: it, its style, it and its subject and style."""
    names = [
        Sentence("“{phrase}”", phrase=n.removeprefix(OWN)) if n.startswith(OWN) else Sentence(n)
        for n in mix
        if n != GENERAL
    ]
    if not names:
        return Sentence("it")
    if GENERAL in mix:
        return Sentence("it and its {names}", names=in_a_row(names))
    return Sentence("its {names}", names=in_a_row(names))


def fitting(p: float) -> Sentence:
    """Say how many unrelated pictures fit as well."""
    if p > 0.5:
        return Sentence("More than half of all unrelated pictures fit as well.")
    return Sentence("About 1 in {n:,} unrelated pictures fits as well.", n=round(1 / p))


def looking(p: float) -> Sentence:
    """Say how many unrelated pictures look as much as if the model had drawn them."""
    if p > 0.5:
        return Sentence(
            "More than half of all unrelated pictures look as much as if this model had drawn it."
        )
    return Sentence(
        "About 1 in {n:,} unrelated pictures looks as much as if this model had drawn it.",
        n=round(1 / p),
    )


def cases(p: float) -> Sentence:
    """Say how often chance makes as strong a list."""
    if p > 0.5:
        return Sentence("Chance makes as strong a list more than half of the time.")
    return Sentence("Chance makes as strong a list about 1 time in {n:,}.", n=round(1 / p))


def verdict_of(answer: Answer, mix: dict[str, float], made: bool, artist: str = "") -> Verdict:
    """Judge an answer under a mix of questions; `made` where the model has just drawn the picture."""
    visible, copies = answer.visible, []
    for copy in answer.originals():
        whose = visible.labels(copy.row).get("artist", "")
        copies.append(told(visible.file(copy.row), whose, copy.same, copy.mirrored))
    facts = answer.p_values, answer.evidence, answer.phrases
    first = answer.rank(1, visible.by(artist), **mix) if artist else []
    best = first[0].score if first else None
    its = Judged(mix, *facts, made, answer.drawn, tuple(copies), artist, answer.list_p_values, best)
    return verdict(its)

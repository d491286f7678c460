"""One verdict is said everywhere: by the page, its artists and table, the report, the CSV and to programs."""

import html
import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from attribution.answer.shares import LEVEL
from attribution.answer.verdict import SOME, STRONG, UNLIKELY, Judged, verdict
from attribution.page.programs import as_json
from attribution.page.taking import written
from attribution.report.document import report_html, sources_csv
from attribution.report.verification import verify_report
from precompute.site.told import EVIDENCE

WORDS = {"general": "a woodcut of a cat", "style": "a woodcut"}
COPY = "This picture is in the training set: images/1.png by Ann."


def judged(p=0.001, mix=("general",), made=False, drawn=0.5, **more):
    p_values = p if isinstance(p, dict) else dict.fromkeys(WORDS, p)
    facts = {"evidence": dict.fromkeys(WORDS, 0.1), "phrases": WORDS} | more
    return verdict(Judged(dict.fromkeys(mix, 1.0), p_values, made=made, drawn=drawn, **facts))


@pytest.mark.parametrize(
    ("facts", "origin", "evidence", "said"),
    [
        ({"made": True}, "made", "strong", "This model drew this picture. These training pictures pushed it most. Evidence: strong."),
        ({"made": True, "mix": ["style"], "p": 0.03}, "made", "some", "This model drew this picture. These training pictures pushed its style most. Evidence: some."),
        ({"made": True, "p": 0.9}, "made", "weak", "This model drew this picture. What pushed it most cannot be told: something always comes first. Evidence: weak."),
        ({"drawn": 0.005}, "likely", "strong", "Probably made by this model, or by a hand that it learned from. These training pictures fit it most. Evidence: strong."),
        ({"drawn": 0.05}, "unclear", "strong", "Nobody can tell whether this model made it. These training pictures fit it most. Evidence: strong."),
        ({"drawn": None, "p": 0.9}, "unclear", "weak", "Nobody can tell whether this model made it. Something always comes first; for it the order is no evidence. Evidence: weak."),
        ({"drawn": 0.5}, "unlikely", "strong", "Probably not made by this model, unless it was changed much since. The list says what the model would connect with it, not where it comes from. Evidence: strong."),
        ({"copies": (COPY,)}, "copy", "strong", f"{COPY} These training pictures fit it most. Evidence: strong."),
        ({"copies": (COPY,), "made": True}, "made", "strong", f"{COPY} This model drew this picture. These training pictures pushed it most. Evidence: strong."),
        ({"made": True, "artist": "Ann"}, "made", "strong", "This model drew this picture. Of the training pictures by Ann, these pushed it most. Evidence: strong."),
    ],
)  # fmt: skip
def test_a_verdict_says_who_made_it_what_the_list_is_and_how_strong_the_evidence(
    facts, origin, evidence, said
):
    found = judged(**facts)
    assert (found.origin, found.evidence, found.sentence) == (origin, evidence, said)


def test_of_what_is_mixed_all_must_stand_out():
    p = {"general": 0.001, "style": 0.9}
    assert judged(p).evidence == "strong"
    assert judged(p, mix=("general", "style")).evidence == "weak"


@pytest.mark.parametrize(
    "facts",
    [
        {"p": {}},
        {"evidence": {}},
        {"mix": ("own:thick outlines",), "p": {"own:thick outlines": 0.001}},
        {"mix": ("general", "own:thick outlines")},
        {"p": 0.9, "phrases": {"general": ""}},  # a model that reads no words
    ],
)
def test_what_was_not_measured_is_neither_strong_nor_weak(facts):
    found = judged(made=True, **facts)
    assert found.evidence == "unknown"
    assert found.sentence.endswith("How far the order can be trusted was not measured. Evidence: not measured.")  # fmt: skip


def test_how_sure_it_is_are_frequencies():
    assert judged(1 / 401, drawn=0.6).sure == (
        "About 1 in 401 unrelated pictures fits as well.",
        "More than half of all unrelated pictures look as much as if this model had drawn it.",
    )
    assert judged(1 / 401, made=True).sure[1:] == ()


def test_the_page_without_a_server_has_the_same_steps():
    assert EVIDENCE == {"strong": STRONG, "some": SOME}
    assert STRONG < SOME < UNLIKELY


# Everywhere


def pictures(desk):
    """Forty pictures of all kinds: what it drew, uploads, training pictures, near copies, other things; many p-values."""
    its, size = desk.attributor, desk.attributor.model.size[0]
    made = [desk.opened(n) for n in range(16)]
    brought = [
        replace(each, seed=None, answer=replace(each.answer, drawn=its.drawn(each.image)))
        for each in made[:6]
    ]
    copies = [its.collection.image(3), its.collection.image(90).transpose(Image.Transpose.FLIP_LEFT_RIGHT)]  # fmt: skip
    noise = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    others = [Image.new("RGB", (size, size), "white"), Image.fromarray(noise), Image.radial_gradient("L").convert("RGB")]  # fmt: skip
    asked = [desk.attribute(image, "", None) for image in copies + others]
    asked += [desk.attribute(copies[0], "a woodcut of a dinosaur", None)]
    levels = itertools.cycle([0.0025, 0.03, 0.4, 1.0])
    changed = [
        replace(each, answer=replace(each.answer, p_values=dict.fromkeys(each.answer.p_values, next(levels))))
        for each in (made + brought)[:12]
    ]  # fmt: skip
    return [*made, *brought, *asked, *changed]


MIXES = ({"general": 1.0}, {"style": 1.0}, {"subject": 0.5, "background": 1.0})


@pytest.mark.slow  # it attributes six pictures and writes forty reports
def test_page_report_table_and_programs_never_disagree(desk):
    sessions, seen_kinds = pictures(desk), set()
    assert len(sessions) == 40
    for session, mix in zip(sessions, itertools.cycle(MIXES), strict=False):
        seen = replace(session, mix=mix)
        said = seen.verdict
        seen_kinds.add((said.origin, said.evidence))
        places = said_everywhere(desk, seen)
        assert {place: text for place, text in places.items() if said.sentence not in text} == {}
        assert places["program"] == said.sentence
    assert {origin for origin, _ in seen_kinds} >= {"made", "copy", "likely", "unlikely"}
    assert {evidence for _, evidence in seen_kinds} == {"strong", "some", "weak"}


def test_an_example_is_judged_alike_everywhere(desk):
    seen = replace(desk.first(), mix={"style": 1.0})
    for place, text in said_everywhere(desk, seen).items():
        assert seen.verdict.sentence in text, place


def test_an_artist_of_whom_nothing_stands_out_is_judged_alike_everywhere(desk):
    seen = replace(desk.first(), mix={"style": 1.0})
    scores = seen.answer.mix(style=1)
    by = {a: float(scores[seen.answer.visible.by(a)].max()) for a in desk.visible.names("artist")}
    least, most = min(by, key=by.__getitem__), max(by, key=by.__getitem__)
    assert by[least] < LEVEL < by[most]
    seen = replace(seen, artist=least)
    assert (
        f"None of the training pictures by {least} stands out. Evidence: weak."
        in seen.verdict.sentence
    )
    for place, text in said_everywhere(desk, seen).items():
        assert seen.verdict.sentence in text, place
    seen = replace(seen, artist=most)
    assert (
        f"Of the training pictures by {most}, these pushed its style most" in seen.verdict.sentence
    )
    for place, text in said_everywhere(desk, seen).items():
        assert seen.verdict.sentence in text, place
    report = written(desk, seen)
    assert {source["labels"]["artist"] for source in report["sources"]} == {most}
    assert verify_report(desk.attributor, report) == []


def test_a_concept_of_ones_own_is_judged_alike_everywhere(desk):
    first, name = desk.first(), "own:thick outlines"
    more = {
        field: getattr(first.answer, field) | {name: value["style"]}
        for field in ("scores", "phrases", "asked", "weights")
        for value in [getattr(first.answer, field)]
    }
    lists = first.answer.list_p_values | {name: 0.004}
    seen = replace(
        first, answer=replace(first.answer, **more, list_p_values=lists), mix={name: 1.0}
    )
    assert "pushed its “thick outlines” most. Evidence: strong." in seen.verdict.sentence
    for place, text in said_everywhere(desk, seen).items():
        assert seen.verdict.sentence in text, place
    assert verify_report(desk.attributor, written(desk, seen)) == []


def said_everywhere(desk, seen):
    """All places that tell the verdict, as plain text."""
    report, attributor, views = written(desk, seen), desk.attributor, desk.views
    pages = {
        "verdict": views.verdict(seen),
        "artists": views.artists(seen),
        "table": views.as_table(seen),
        "report": report_html(attributor, report).partition('class="picture"')[2],
    }
    plain = {
        name: " ".join(html.unescape(re.sub("<[^>]*>", " ", text)).split()) for name, text in pages.items()
    }  # fmt: skip
    return plain | {
        "csv": sources_csv(attributor, report).replace('""', '"'),
        "program": as_json(desk, seen, 12)["verdict"]["sentence"],
    }

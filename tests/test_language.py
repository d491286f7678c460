"""The page in another language: every text has a translation, no English is left, and numbers are written as there."""

import ast
import json
import re
from pathlib import Path

import pytest
from jinja2 import nodes

from attribution.answer.verdict import Judged, verdict
from attribution.cache.cluster import SAID as BY_CLUSTER
from attribution.cache.index import SAID as BY_INDEX
from attribution.page.html import TEMPLATES
from attribution.page.language import FOLDER, WRITTEN, Language, languages
from attribution.page.server import GRADIOS
from attribution.report.credentials import STATE_WORDS, Credentials
from attribution.sentence import Sentence, in_a_row, together

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "attribution/page"
SAID = ("say", "marked", "_", "Sentence", "InputError")
LIBRARY = (  # whose sentences reach visitors
    "answer/answer", "answer/copies", "answer/listed", "answer/verdict", "looks/own", "looks/phrases", "looks/shared", "looks/unlearning",
    "models/diffusion", "models/families", "pictures/collection", "pictures/optout", "progress", "report/artist", "sentence",
)  # fmt: skip
HOSTS = ("settings.py", "hall.py")  # whose mistakes are a host's, on the terminal
CREDENTIALS = Credentials("valid", *["x"] * 4, ("x",), ("x",), False, "x")
NAMES = (  # of questions, columns and facts, which are said wherever they are shown; and how names stand in a row
    "whole picture", "subject", "style", "background", "artist", "license", "source", "label", "file", "caption", "rank",
    "score", "share", "likeness", "part of all that stands out", "plain likeness", "traced again by other chance",
    "{some} and {name}", "{some}, {name}", *GRADIOS.values(), *STATE_WORDS.values(), *dict(CREDENTIALS.facts()),
    BY_INDEX, BY_CLUSTER, "they lie on another machine, which is not asked", "they are damaged",
)  # fmt: skip


def constants(tree):
    """Names -> the texts that are assigned to them, alone, in rows and as values of dicts."""
    found = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign):
            continue
        targets, values = node.targets, [node.value]
        if isinstance(targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
            targets, values = targets[0].elts, node.value.elts
        for target, value in zip(targets, values, strict=False):
            if isinstance(target, ast.Name):
                texts = value.values if isinstance(value, ast.Dict) else [value]
                found.setdefault(target.id, []).extend(map(text_of, texts))
    return found


def text_of(node):
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def said_in(tree, known):
    """The texts that Python says."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "id", getattr(node.func, "attr", ""))
        arguments = node.args[:1] if called in SAID else node.args[1:2] if called in ("words", "whole") else node.args[2:3] if called == "steps" else []  # fmt: skip
        for argument in arguments:
            name = argument.value if isinstance(argument, ast.Subscript) else argument
            if isinstance(name, ast.IfExp):
                yield from filter(None, map(text_of, (name.body, name.orelse)))
            elif isinstance(name, ast.Name):
                yield from filter(None, known.get(name.id, []))
            elif text := text_of(argument):
                yield text


def sources():
    return [*sorted(PAGE.rglob("*.py")), *(ROOT / f"attribution/{name}.py" for name in LIBRARY)]


def texts():
    """Every text that a person may read, by where it stands."""
    trees = {path: ast.parse(path.read_text()) for path in sources()}
    everywhere: dict = {}
    for tree in trees.values():
        for name, values in constants(tree).items():
            everywhere.setdefault(name, []).extend(values)
    found = {name: "a name" for name in NAMES} | {WRITTEN: "language.py"}
    for path, tree in trees.items():
        known = everywhere | constants(tree)
        found |= dict.fromkeys(said_in(tree, known), path.name)
    for path in sorted(PAGE.glob("templates/*.html")):
        for call in TEMPLATES.parse(path.read_text()).find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name == "_":
                found[call.args[0].value] = path.name
    script = (PAGE / "page.js").read_text()
    return found | dict.fromkeys(re.findall(r'text\("([^"]+)"', script), "page.js")


OTHERS = [name for name in languages() if name != "en"]
FIELD = re.compile(r"\{\w+(?::[^}]*)?\}")
TAG = re.compile(r"<[^>]*>")


def catalogue(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def test_there_is_a_second_language():
    assert "de" in OTHERS


@pytest.mark.parametrize("name", OTHERS)
def test_every_text_is_translated_and_none_that_is_not_said(name, figures_shown):
    said, known = texts(), catalogue(name)
    assert not {text: place for text, place in said.items() if text not in known}
    assert set(known) - set(said) == figures_shown


@pytest.fixture
def figures_shown():
    """What the measurements under Limits were taken of."""
    rows = json.loads((ROOT / "benchmarks/results/calibration.json").read_text())
    its = [row for row in rows if (row["question"], row["level"]) == ("general", 0.01)]
    wrong = {
        row["measured_on"]
        for row in its
        if row["figure"] == "false alarms" and "guessed" in row["pictures"]
    }
    return wrong | {row["measured_on"] for row in its if row["figure"] == "detected"}


@pytest.mark.parametrize("name", OTHERS)
def test_a_translation_fills_and_marks_what_the_english_does(name):
    for english, other in catalogue(name).items():
        if english == WRITTEN:
            continue
        for each in (FIELD, TAG):
            assert sorted(each.findall(english)) == sorted(each.findall(other)), english
        assert other.strip() == other
        assert other
        assert ('"' in other) <= ('"' in english), other  # which would end an attribute


def test_templates_hold_no_text_of_their_own():
    """All words between tags, and in attributes that are read out, come from a catalogue."""
    for path in sorted(PAGE.glob("templates/*.html")):
        parts = TEMPLATES.parse(path.read_text()).find_all(nodes.TemplateData)
        html = "\0".join(part.data for part in parts)  # a gap for what is filled in
        bare = re.sub(r"<[^>]*>", " ", html).replace("KB", "")
        assert not re.search(r"[^\W\d_]{2}", bare), (path.name, bare)
        assert not re.search(r'(?:alt|aria-label|title|placeholder)="[^"\0]*[^\W\d_]', html), (
            path.name
        )


LABELS = ("label", "title", "desc", "placeholder", "info", "value")


def test_components_and_messages_hold_no_text_of_their_own():
    for path in sorted(PAGE.rglob("*.py")):
        if path.name == "endpoints.py":  # for programs
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            named = [each.value for each in node.keywords if each.arg in LABELS]
            first = node.args[:1] if ast.unparse(node.func) in ("gr.Button", "gr.Tab", "gr.HTML") else []  # fmt: skip
            bare = [text for text in map(text_of, [*named, *first]) if text]
            assert not bare, (path.name, bare)
            told = ast.unparse(node.func) == "InputError" and path.name not in HOSTS
            assert not (told and isinstance(node.args[0], ast.JoinedStr)), (path.name, node.lineno)


def test_numbers_are_written_as_the_language_does():
    german = Language("de")
    said = Sentence("About 1 in {n:,} unrelated pictures fits as well.", n=2520)
    assert said == "About 1 in 2,520 unrelated pictures fits as well."
    assert german.say(said) == "Etwa 1 von 2.520 fremden Bildern passt ebenso gut."
    assert german.number(1234.5, ",.2f") == "1.234,50"
    assert Language().number(1234.5, ",.2f") == "1,234.50"


def test_sentences_are_said_anew_and_what_people_wrote_stays():
    german = Language("de")
    by = Sentence("Yes: {count:,} training pictures by {by}.", count=3, by="it")
    assert german.say(by) == "Ja: 3 Trainingsbilder von it."
    names = in_a_row([Sentence("style"), Sentence("subject")])
    assert german.say(together([by, Sentence("Same {same}.", same=names)])).endswith("Gleich: Stil und Motiv.")  # fmt: skip
    assert str(together([by, "x"])) == "Yes: 3 training pictures by it. x"
    odd = Sentence("{braces} of a collection")
    assert german.say(odd) == "{braces} of a collection"
    hostile = german.marked("Keep {name}", name='<b onclick="x">')
    assert hostile == "&lt;b onclick=&#34;x&#34;&gt; behalten"


@pytest.mark.parametrize("evidence", ["Beleg: stark.", "Beleg: schwach.", "Beleg: nicht gemessen."])
def test_page_and_programs_are_told_the_same_verdict(evidence):
    p = {"Beleg: stark.": 0.001, "Beleg: schwach.": 0.9}.get(evidence)
    judged = Judged({"general": 1.0}, {"general": p} if p else {}, {"general": 1.0}, {"general": "a cat"}, True, None)  # fmt: skip
    found = verdict(judged)
    assert Language("de").say(found.sentence).endswith(evidence)
    english = {"Beleg: stark.": "strong", "Beleg: schwach.": "weak"}.get(evidence, "not measured")
    assert found.sentence.endswith(f"Evidence: {english}.")

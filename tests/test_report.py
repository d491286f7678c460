"""A report is computed again from itself, what was changed in it is found, and what strangers wrote stays text."""

import base64
import copy
import csv
import io
import json
import tomllib
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from conftest import built
from PIL import Image

from attribution.answer.calibration import Calibration, calibrated_for, write_calibration
from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.models.encoded import Encoded
from attribution.report.credentials import Credentials
from attribution.report.document import report_html, sources_csv
from attribution.report.report import (
    LIBRARY,
    MOST_BYTES,
    make_report,
    picture_hash,
    picture_of,
    png_of,
    read_report,
)
from attribution.report.verification import verify_report
from precompute.__main__ import main

ROOT = Path(__file__).parents[1]
PROMPT = "a woodcut of a cat in the city"
DATE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MIX = {"general": 1, "style": 0.5}


@pytest.fixture(scope="module")
def options(small_model, small_collection, tmp_path_factory):
    """Make a cache and weights, and make up a calibration; give the options that name all this."""
    cache = tmp_path_factory.mktemp("cache")
    its = built(small_model, small_collection, cache, timesteps=2, proj_dim=4)
    concepts, null = its.collection.concepts, torch.linspace(-0.1, 0.1, 19)
    calibration = Calibration(null, {c: null.clone() for c in concepts})
    write_calibration(cache, calibration, calibrated_for(its.model, concepts), {})
    names = ["--pretrained_model_name_or_path", str(small_model)]
    return [*names, "--train_data_dir", str(small_collection), "--cache_dir", str(cache)]


@pytest.fixture(scope="module")
def attributor(options):
    model, collection, cache = options[1::2]
    return Attributor.from_pretrained(model, cache, collection)


@pytest.fixture(scope="module")
def generated(attributor):
    for seed in range(7, 40):
        [image] = attributor.model.generate([PROMPT], [seed], steps=6)
        answer = attributor.attribute(image, PROMPT)
        made = {"prompt": PROMPT, "seed": seed, "steps": 6}
        report = make_report(attributor, image, answer, **made, mix=MIX, date=DATE)
        if report["artists"]:  # which the tests below change
            return report
    raise AssertionError("of thirty images none stands out in any picture")


@pytest.fixture(scope="module")
def uploaded(attributor):
    image = Image.radial_gradient("L").convert("RGB").resize((300, 200))
    return make_report(attributor, image, attributor.attribute(image), date=DATE)


@pytest.fixture
def report(generated):
    return copy.deepcopy(generated)


@pytest.fixture
def saved(tmp_path):
    """Write anything as a report's file."""

    def write(content):
        path = tmp_path / "report.json"
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        path.write_bytes(text)
        return path

    return write


def test_what_was_written_is_read_and_computed_again(attributor, generated, uploaded, saved):
    for report in (generated, uploaded):
        again = read_report(saved(report))
        assert again == report
        assert verify_report(attributor, again) == []
    assert generated["made"] == {"date": "2026-01-02T03:04:05+00:00", "by": LIBRARY}
    assert generated["origin"]["how"] == "generated"
    assert uploaded["origin"]["how"] == "uploaded"
    assert generated["calibration"]["nulls"]["general"] == 19
    assert len(generated["sources"]) == 12


def test_the_picture_is_what_the_model_sees(attributor, uploaded):
    image = Image.radial_gradient("L").convert("RGB").resize((300, 200))
    stored = picture_of(uploaded, ((64, 64),))
    assert stored.size == (64, 64)
    latents = attributor.model.latents
    assert torch.equal(latents([stored]), latents([image]))
    assert picture_hash(stored) == uploaded["picture"]["hash"]


def another_picture(report):
    picture = picture_of(report, ((64, 64),))
    picture.putpixel((3, 3), (255, 0, 255))
    report["picture"] = {"png": png_of(picture), "hash": picture_hash(picture)}


def put(value, *path):
    def change(report):
        for key in path[:-1]:
            report = report[key]
        report[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "section"),
    [
        (put(99.0, "sources", 0, "score"), "sources"),
        (put("by somebody else", "sources", 3, "caption"), "sources"),
        (put("0" * 16, "sources", 3, "digest"), "sources"),
        (put({}, "sources", 3, "labels"), "sources"),
        (lambda report: report["sources"].pop(), "sources"),
        (put("Somebody", "artists", 0, "artist"), "artists"),
        (put(0.9, "artists", 0, "low"), "artists"),
        (another_picture, "picture"),
        (put("0" * 16, "picture", "hash"), "picture"),
        (put(8, "origin", "seed"), "picture"),
        (put("a photo of a dog", "origin", "prompt"), "picture"),
        (put("uploaded", "origin", "how"), "origin"),
        (put("a photo", "questions", "phrases", "style"), "sources"),
        (put(0.0, "questions", "mix", "style"), "sources"),
        (put(0.01, "calibration", "p_values", "general"), "calibration"),
        (put(0.7, "calibration", "evidence", "general"), "calibration"),
        (put(1000, "calibration", "nulls", "general"), "calibration"),
        (put("trak", "method", "name"), "method"),
        (put(99, "method", "features", "proj_dim"), "method"),
    ],
)
def test_a_change_is_found(attributor, report, saved, change, section):
    change(report)
    found = verify_report(attributor, read_report(saved(report)))
    assert section in {each.path[0] for each in found}
    assert all("the report says" in str(each) for each in found)


def test_ties_may_come_in_any_order_and_other_processors_round_otherwise(attributor, report, saved):
    first, second = report["sources"][:2]
    first["score"] = second["score"] = second["score"] + 5e-4
    report["sources"][:2] = [second | {"rank": 1}, first | {"rank": 2, "score": second["score"]}]
    found = verify_report(attributor, read_report(saved(report)))
    assert [each.path[1] for each in found] == [first["file"]] * bool(found)


def test_another_model_is_the_reason_and_all_that_is_told(attributor, report):
    report["fingerprints"]["model"] = "0" * 16
    report["sources"][0]["score"] = 99.0
    [found] = verify_report(attributor, report)
    assert found.path == ("fingerprints", "model")
    assert found.found == attributor.model.fingerprint


def test_other_fingerprints_come_before_what_follows_from_them(attributor, report):
    report["fingerprints"]["weights"] = "0" * 16
    report["sources"][0]["score"] = 99.0
    found = verify_report(attributor, report)
    assert [each.path[0] for each in found] == ["fingerprints", "sources"]


def test_a_question_of_ones_own_takes_its_weights_along(attributor, saved):
    image = attributor.collection.image(0)
    own = {"own:outlines": attributor.weights["style"] * 2}
    answer = attributor.ask(
        Encoded(attributor.model, [image]),
        {"general": "a cat", "own:outlines": "thick outlines"},
        own,
    )
    mix = {"own:outlines": 1.0}
    report = read_report(saved(make_report(attributor, image, answer, mix=mix, date=DATE)))
    assert verify_report(attributor, report) == []
    assert "own:outlines" not in report["calibration"]["p_values"]
    report["questions"]["weights"]["own:outlines"][0] += 100
    assert "sources" in {each.path[0] for each in verify_report(attributor, report)}
    for broken in ({}, {"own:outlines": [1.0]}):
        report["questions"]["weights"] = broken
        with pytest.raises(InputError, match="no weights for own:outlines"):
            verify_report(attributor, report)


NESTED = b'{"version": 1, "made": ' + b"[" * 100_000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"version": 2}',
        b'{"version": 1}',
        NESTED,
        b"9" * 5000,
        b" " * (MOST_BYTES + 1),
    ],
)
def test_what_is_no_report_is_refused(saved, content):
    with pytest.raises(InputError):
        read_report(saved(content))
    with pytest.raises(InputError, match="there is no report"):
        read_report(saved(content).parent)


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report.pop("artists"),
        put(1, "extra"),
        put("1", "version"),
        put(True, "version"),
        put([], "made"),
        put(None, "picture", "png"),
        put(-1, "origin", "seed"),
        put(10**30, "origin", "seed"),
        put(1.5, "origin", "seed"),
        put(True, "origin", "seed"),
        put(10**9, "origin", "steps"),
        put(0, "origin", "steps"),
        put(float("nan"), "origin", "guidance"),
        put(10**400, "origin", "guidance"),
        put({}, "questions", "phrases"),
        put({"general": 1}, "questions", "phrases"),
        put({str(i): "a" for i in range(99)} | {"general": "a"}, "questions", "phrases"),
        put({"general": 0}, "questions", "mix"),
        put({"other": 1}, "questions", "mix"),
        put({"general": -1, "style": 2}, "questions", "mix"),
        put({"general": float("inf")}, "questions", "mix"),
        put(10**9, "questions", "count"),
        put(1, "questions", "count"),
        put({"other": [1.0]}, "questions", "weights"),
        put({"style": ["a"]}, "questions", "weights"),
        put(1, "calibration", "level"),
        put(float("nan"), "sources", 0, "score"),
        put("7", "sources", 0, "score"),
        put(2, "sources", 0, "rank"),
        put(-99, "sources", 0, "score"),
        put({"artist": 1}, "sources", 0, "labels"),
        lambda report: report["sources"][1].update(file=report["sources"][0]["file"]),
        lambda report: report["artists"].append(report["artists"][0]),
    ],
)
def test_a_report_that_cannot_be_is_refused_in_one_sentence(report, saved, change):
    change(report)
    with pytest.raises(InputError) as caught:
        read_report(saved(report))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_huge_report_is_not_even_parsed(report, saved):
    report["made"]["by"] = "x" * MOST_BYTES
    with pytest.raises(InputError, match="more than 8 MB"):
        read_report(saved(report))


@pytest.mark.parametrize("png", ["!", "", "AAAA", base64.b64encode(b"<svg/>").decode()])
def test_a_picture_that_is_none_is_refused(attributor, report, saved, png):
    report["picture"]["png"] = png
    with pytest.raises(InputError):
        verify_report(attributor, read_report(saved(report)))


def test_the_command_says_what_agrees_and_what_differs(options, report, saved, tmp_path, capsys):
    assert main(["verify", str(saved(report)), *options]) == 0
    said = capsys.readouterr().out
    assert "agrees  the training pictures" in said
    assert "differs" not in said
    report["sources"][0]["caption"] = "\x1b[2Jnothing to see"
    assert main(["verify", str(saved(report)), *options]) == 1
    said = capsys.readouterr().out
    assert "differs  the training pictures" in said
    assert "nothing to see" in said
    assert "\x1b" not in said
    report["fingerprints"]["model"] = "0" * 16
    assert main(["verify", str(saved(report)), *options]) == 1
    assert "another model" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "none.json"), *options]) == 2
    assert "there is no report" in capsys.readouterr().err


class Page(HTMLParser):
    """Lists a page's elements and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


SCRIPT = "</td><script src='https://example.org/x.js'></script><img src=x onerror=alert(1)>"
HOSTILE = f'"><svg onload="alert(1)">{SCRIPT}'


@pytest.fixture
def page(attributor, report):
    """Write the page of a report and of credentials into which strangers wrote markup wherever they can."""
    report["sources"][0]["caption"] = HOSTILE
    report["sources"][1]["labels"] = {HOSTILE: HOSTILE}
    report["sources"][2]["file"] = "../../../etc/passwd"
    report["artists"][0]["artist"] = HOSTILE
    report["origin"]["prompt"] = HOSTILE
    report["questions"]["phrases"]["style"] = HOSTILE
    return Page(report_html(attributor, report, Credentials("untrusted", signer=HOSTILE)))


def test_what_strangers_wrote_stays_text(page):
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "embed", "link", "base", "form", "a"}
    assert not any(name.startswith("on") for _, given in page.elements for name in given)
    assert page.text.count(HOSTILE) >= 6


def test_the_page_loads_nothing(page):
    for tag, given in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            assert given.get(name, "data:image/png;base64,").startswith("data:image/png;base64,"), (
                tag
            )
    assert "url(" not in page.text
    assert "@import" not in page.text


def test_the_page_can_be_read_by_ear(page, generated):
    pictures = [given for tag, given in page.elements if tag == "img"]
    assert len(pictures) == 1 + 11  # one of the twelve is not in the collection
    assert all(given["alt"] for given in pictures)
    assert all(given.get("scope") in ("row", "col") for tag, given in page.elements if tag == "th")
    below = f"of the {generated['calibration']['nulls']['general']}"
    assert below in " ".join(page.text.split())
    assert "does not say who the author is" in " ".join(page.text.split())


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (0.001, "pushed it and its style most. Evidence: strong."),
        (0.03, "pushed it and its style most. Evidence: some."),
        (0.9, "What pushed it and its style most cannot be told: something always comes first."),
        (None, "Evidence: not measured."),
    ],
)
def test_the_verdict_follows_the_p_values(attributor, report, p, said):
    mix = {"general": 1.0, "style": 1.0}
    report["questions"]["mix"] = mix
    report["calibration"] |= {
        "p_values": {} if p is None else dict.fromkeys(mix, p),
        "evidence": dict.fromkeys(mix, 0.1),
    }
    text = " ".join(Page(report_html(attributor, report)).text.split())
    assert said in text
    assert said in sources_csv(attributor, report)


def test_no_cell_of_the_table_is_a_formula(attributor, report):
    dangers = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1"]
    for source, danger in zip(report["sources"], dangers, strict=False):
        source |= {"caption": danger, "labels": {danger: danger, "artist": 'a "b", c'}}
    head, *rows = csv.reader(io.StringIO(sources_csv(attributor, report), newline=""))
    cells = [cell for row in (head, *rows) for cell in row]
    scores = {row[1] for row in rows}
    assert not [c for c in cells if c.lstrip()[:1] in tuple("=+-@") and c and c not in scores]
    assert [row[4] for row in rows[: len(dangers)]] == [f"'{danger}" for danger in dangers]
    assert rows[0][head.index("artist")] == 'a "b", c'
    assert len({len(row) for row in (head, *rows)}) == 1


def test_the_package_says_its_version_and_brings_its_template():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert f"{project['project']['name']} {project['project']['version']}" == LIBRARY
    room = ROOT / "attribution/report"
    pattern = project["tool"]["setuptools"]["package-data"]["attribution.report"][0]
    assert room / "templates/report.html" in room.glob(pattern)

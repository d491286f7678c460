"""A hostile report is refused in one sentence or found to differ; no path in it is opened, and it costs no memory."""

import base64
import copy
import io
import json
import resource
import struct
import sys
import zlib
from datetime import UTC, datetime

import pytest
from PIL import Image, PngImagePlugin

from attribution.errors import InputError
from attribution.report.document import report_html, sources_csv
from attribution.report.report import make_report, picture_hash, png_of, read_report
from attribution.report.verification import verify_report
from precompute.__main__ import main

PROMPT = "a woodcut of a cat in the city"
MOST_MEMORY = 500_000  # kB, by which reading and comparing may grow the process
listeners: list[list[str]] = []  # of paths that are opened; an audit hook stays for good


def listen(event, args):
    if event == "open":
        for paths in listeners:
            paths.append(str(args[0]))


sys.addaudithook(listen)


@pytest.fixture(scope="module")
def good(attributor):
    [image] = attributor.model.generate([PROMPT], [7], steps=2)
    answer = attributor.attribute(image, PROMPT)
    date = datetime(2026, 1, 2, tzinfo=UTC)
    return make_report(attributor, image, answer, prompt=PROMPT, seed=7, steps=2, date=date)


@pytest.fixture
def report(good):
    return copy.deepcopy(good)


@pytest.fixture
def check(attributor, tmp_path):
    """Read a report and compute it again, as the command does; give what differs."""

    def checked(content):
        path = tmp_path / "report.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            return verify_report(attributor, read_report(path))
        finally:
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            assert grown < MOST_MEMORY

    return checked


def put(value, *path):
    def change(report):
        for key in path[:-1]:
            report = report[key]
        report[path[-1]] = value

    return change


def question(name, weights, amount=1.0):
    """Ask a question of this name, with weights of its own."""

    def change(report):
        report["questions"]["phrases"][name] = "a cat"
        report["questions"]["weights"][name] = weights
        report["questions"]["mix"] = {name: amount}

    return change


def png(width, height, *chunks):
    """Write a PNG of any size that says, and of few bytes."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in parts:
        code = struct.pack(">I", zlib.crc32(kind + body))
        data += struct.pack(">I", len(body)) + kind + body + code
    return base64.b64encode(data).decode()


def picture_in(kind):
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def animated():
    file = io.BytesIO()
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    return base64.b64encode(file.getvalue()).decode()


BOMB = (b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))
REFUSED = {
    "half a character in a phrase": put("\ud800", "questions", "phrases", "general"),
    "half a character in a prompt": put("a \udfff", "origin", "prompt"),
    "half a character in a name": put({"\ud800": "a"}, "sources", 0, "labels"),
    "a phrase of a megabyte": put("a" * 2**20, "questions", "phrases", "general"),
    "a prompt of a megabyte": put("a" * 2**20, "origin", "prompt"),
    "guidance beyond measure": put(1e11, "origin", "guidance"),
    "guidance below zero": put(-1.0, "origin", "guidance"),
    "weights of another length": question("own:a", [1.0]),
    "far too many weights": question("own:a", [1] * 50_000),
    "weights that are too large": question("own:a", [1e300]),
    "nested weights": question("own:a", [[1.0]]),
    "a picture of 40 MP": put(png(6000, 6000), "picture", "png"),
    "a picture of 4 GP": put(png(65535, 65535), "picture", "png"),
    "a picture of no width": put(png(0, 64), "picture", "png"),
    "a picture of another size": put(png(65, 64), "picture", "png"),
    "a picture that ends early": put(png(64, 64)[:80], "picture", "png"),
    "a picture with a bomb of text": put(png(64, 64, BOMB), "picture", "png"),
    "a JPEG": put(picture_in("JPEG"), "picture", "png"),
    "a GIF": put(picture_in("GIF"), "picture", "png"),
    "moving pictures": put(animated(), "picture", "png"),
    "a path for a picture": put("/etc/passwd", "picture", "png"),
    "an address for a picture": put("http://127.0.0.1:9/a.png", "picture", "png"),
    "deep labels": put(json.loads("[" * 400 + "]" * 400), "sources", 0, "labels"),
    "a truth for a score": put(True, "sources", 0, "score"),
    "null for a list": put(None, "sources"),
    "a list for the origin": put([], "origin"),
}


def test_what_was_written_agrees(check, good):
    assert check(good) == []


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_what_no_page_writes_is_one_sentence(check, report, attributor, change):
    change(report)
    with pytest.raises(InputError) as caught:
        check(report)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 600


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"version": 1', '"version": 1, "version": 1'),
        lambda text: text.replace('"seed": 7', '"seed": 8, "seed": 7'),
        lambda text: text.replace('"guidance": 3.0', '"guidance": NaN'),
        lambda text: text.replace('"guidance": 3.0', '"guidance": -Infinity'),
        lambda text: text.replace('"guidance": 3.0', '"guidance": 1e999'),
        lambda text: text.replace('"seed": 7', '"seed": ' + "9" * 10_000),
        lambda text: text.replace('"seed": 7', '"seed": ' + '{"a":' * 10**6),
        lambda text: text + text,
        lambda text: "\0" + text,
    ],
)
def test_text_that_programs_read_otherwise_is_refused(check, good, change):
    text = json.dumps(good)
    assert change(text) != text
    with pytest.raises(InputError, match="the report is damaged"):
        check(change(text).encode())


def test_a_report_of_100_megabytes_is_not_read(check):
    with pytest.raises(InputError, match="more than 8 MB"):
        check(b'{"version": 1, "made": "' + b"a" * 10**8)


def test_no_path_in_a_report_is_opened(check, report, tmp_path):
    bait = tmp_path / "bait.png"
    Image.new("RGB", (64, 64)).save(bait)
    report["sources"][0]["file"] = str(bait)
    report["sources"][1]["file"] = f"file://{bait}"
    report["sources"][2] |= {"caption": str(bait), "labels": {"path": str(bait)}}
    report["picture"]["hash"] = report["made"]["by"] = str(bait)
    report["fingerprints"]["cache"] = str(bait)
    report["method"]["features"] = {"path": str(bait)}
    opened = []
    listeners.append(opened)
    found = check(report)
    listeners.remove(opened)
    assert found
    assert any("report.json" in path for path in opened)  # the hook hears
    assert not [path for path in opened if "bait" in path]


@pytest.mark.parametrize("name", ["amounts", "mix", "scales", "general ", "__class__"])
def test_a_question_may_have_any_other_name(check, report, attributor, name):
    question(name, [1] * len(attributor.cache.groups))(report)
    assert {each.path[0] for each in check(report)} <= {"sources", "artists", "calibration"}


@pytest.mark.parametrize("name", ["count", "among", "self", "column"])
def test_a_question_cannot_pass_for_another_argument(check, report, attributor, name):
    question(name, [1] * len(attributor.cache.groups))(report)
    with pytest.raises(InputError, match="the names of the questions cannot be so"):
        check(report)


def test_a_question_of_the_cache_keeps_its_weights(check, report, attributor):
    question("general", [2.0] * len(attributor.cache.groups))(report)
    assert ("questions", "weights", "general") in {each.path for each in check(report)}


HOSTILE = "</td><script>alert(1)</script>\x1b[2J\u202e\n\r\0" + "x" * 5000


def test_the_command_says_little_and_nothing_that_moves_the_cursor(
    attributor, report, tmp_path, capsys
):
    report["sources"][0] |= {"caption": HOSTILE, "file": HOSTILE}
    report["sources"][1]["labels"] = {f"{n}{HOSTILE[:99]}": HOSTILE for n in range(500)}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    options = ["--pretrained_model_name_or_path", attributor.model.name]
    options += ["--train_data_dir", str(attributor.collection.folder)]
    options += ["--cache_dir", str(attributor.cache.folder)]
    assert main(["verify", str(path), *options]) == 1
    said = capsys.readouterr().out
    assert "differs  the training pictures" in said
    assert "more" in said.splitlines()[-1]
    assert len(said) < 100_000
    assert all(letter.isprintable() or letter == "\n" for letter in said)
    path.write_bytes(b'{"version": 1, "version": 1}')
    assert main(["verify", str(path), *options]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_markup_stays_text_in_every_form(attributor, report):
    report["sources"][0] |= {"caption": HOSTILE, "labels": {HOSTILE: HOSTILE}}
    page = report_html(attributor, report)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<script>" in sources_csv(attributor, report)  # a cell is text


def test_a_picture_without_a_word_of_metadata_agrees_with_one_that_has_some(
    check, report, attributor
):
    file, note = io.BytesIO(), PngImagePlugin.PngInfo()
    note.add_text("a", "b" * 999)
    picture = Image.open(io.BytesIO(base64.b64decode(report["picture"]["png"])))
    picture.save(file, "PNG", pnginfo=note)
    report["picture"]["png"] = base64.b64encode(file.getvalue()).decode()
    assert check(report) == []
    assert png_of(picture) == png_of(Image.open(io.BytesIO(file.getvalue())))
    assert picture_hash(picture) == report["picture"]["hash"]

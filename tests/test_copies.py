"""A training picture is found again, however it was changed within reason; others, and withheld ones, are not named."""

import io
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from attribution.answer.copies import LEAST, find_copies, told
from attribution.answer.roundtrip import trace
from attribution.answer.thumbnails import make_thumbnails, read_thumbnails, write_thumbnails
from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.models.encoded import Encoded
from attribution.page.session import Session
from attribution.page.views import Views
from attribution.pictures.collection import open_image
from attribution.pictures.registration import pool, register
from attribution.report.document import report_html
from attribution.report.report import make_report, png_of
from attribution.report.verification import verify_report


@pytest.fixture(scope="module")
def pictures(attributor):
    return [attributor.collection.image(row) for row in range(len(attributor.collection))]


@pytest.fixture(scope="module")
def known(pictures):
    return make_thumbnails(pictures)


@pytest.fixture(scope="module")
def seen(attributor, tmp_path_factory):
    """The small attributor with thumbnails beside a copy of its cache."""
    folder = tmp_path_factory.mktemp("thumbnails") / "cache"
    shutil.copytree(attributor.cache.folder, folder)
    write_thumbnails(folder, attributor.collection, attributor.cache.header["fingerprints"])
    return attributor.with_cache(folder)


PROMPT = "a woodcut of a cat in the city"


def jpeg(image, quality=40):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


CHANGES = {
    "same": lambda image: image,
    "mirrored": ImageOps.mirror,
    "half as large": lambda image: image.resize((32, 32), Image.Resampling.LANCZOS),
    "three times as large": lambda image: image.resize((192, 192), Image.Resampling.BICUBIC),
    "cut on the left": lambda image: image.crop((6, 0, 64, 64)),
    "cut all round": lambda image: image.crop((3, 3, 61, 61)),
    "recompressed": jpeg,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_training_picture_is_found(change, pictures, known):
    for row, image in enumerate(pictures):
        first = find_copies(CHANGES[change](image), known)[0]
        assert (first.row, first.mirrored) == (row, change == "mirrored")
        assert first.same or change not in ("same", "three times as large")
        assert not (first.same and change in ("mirrored", "cut on the left", "cut all round"))


def test_a_cut_says_what_is_left(pictures, known):
    first = find_copies(pictures[3].crop((6, 0, 64, 58)), known)[0]
    assert first.window == pytest.approx((6 / 64, 0, 58 / 64, 58 / 64), abs=0.01)


def test_a_picture_that_is_not_there_is_no_copy(pictures, known):
    for row, image in enumerate(pictures):
        hidden = np.arange(len(pictures)) == row
        assert find_copies(image, known, hidden) == []


def test_what_is_turned_or_recoloured_or_cut_in_half_is_no_near_copy(pictures, known):
    red, green, blue = pictures[5].split()
    changed = [pictures[5].rotate(90), Image.merge("RGB", (blue, red, green))]
    changed += [pictures[5].crop((0, 0, 32, 64))]
    assert [find_copies(image, known) for image in changed] == [[], [], []]


def test_a_picture_of_few_pixels_is_like_nothing(pictures, known):
    tiny = pictures[0].resize((LEAST - 1, LEAST - 1))
    assert find_copies(tiny, known) == []


def test_a_wide_picture_is_found_whole_and_as_the_model_sees_it(pictures):
    wide = Image.new("RGB", (192, 128))
    wide.paste(pictures[1].resize((128, 128)), (64, 0))
    wide.paste(pictures[2].resize((64, 128)), (0, 0))
    known = make_thumbnails([pictures[0], wide])
    assert known.rows.tolist() == [0, 1, 1]
    for image in (wide, wide.resize((96, 64)), wide.crop((32, 0, 160, 128))):
        assert find_copies(image, known)[0].row == 1


def test_every_copy_that_is_there_twice_is_named(pictures):
    known = make_thumbnails([*pictures, pictures[4]])
    assert {copy.row for copy in find_copies(jpeg(pictures[4]), known)} == {4, len(pictures)}


def test_a_cell_is_the_mean_over_its_area():
    rng = np.random.default_rng(0)
    image, window = rng.random((1, 10, 10)), np.array([[0.13, 0.2, 0.5, 0.71]])
    fine = np.kron(image[0], np.ones((100, 100)))  # a thousandth of a side each
    part = fine[200:910, 130:630]
    want = [
        [part[a : a + 71, b : b + 50].mean() for b in range(0, 500, 50)] for a in range(0, 710, 71)
    ]
    assert pool(image, window, 10)[0] == pytest.approx(np.array(want), abs=1e-5)


def test_beyond_the_border_the_last_pixel_goes_on():
    image = np.array([[[1.0, 3.0], [1.0, 3.0]]])
    assert pool(image, np.array([[-0.5, 0, 2, 1]]), 4)[0][0].tolist() == [1, 1, 3, 3]


def test_a_window_that_is_a_little_off_is_found(pictures):
    grey = np.stack([np.asarray(image.convert("L"), np.float32) / 255 for image in pictures[:8]])
    want = np.array([[0.05, 0.02, 0.92, 0.94]] * 8, np.float32)
    windows, loss = register(pool(grey, want, 24), grey, want + np.float32(0.01), 10)
    assert np.median(abs(windows - want).max(1)) < 2e-3
    assert np.median(loss) < 1e-5


def test_the_sentence_names_file_and_artist():
    assert told("a.png", "Ann", True, False) == "This picture is in the training set: a.png by Ann."
    near = told("a.png", "", False, True)
    assert near == "This picture is a near copy of a training picture, mirrored: a.png."


def test_an_answer_says_so_before_anything_else(seen, pictures):
    answer = seen.attribute(jpeg(pictures[9]))
    assert [copy.row for copy in answer.originals()] == [9]
    assert seen.attribute(pictures[9].rotate(180)).originals() == []


def test_without_thumbnails_nobody_looked(attributor, pictures):
    assert attributor.copies(pictures[0]) is None
    assert attributor.attribute(pictures[0]).originals() == []


def test_a_withheld_picture_is_not_named(seen, pictures, tmp_path):
    answer = seen.attribute(pictures[9])
    path = tmp_path / "opt_out.json"
    path.write_text(json.dumps({"files": [seen.collection.files[9]]}))
    careful = Attributor(seen.model, seen.collection, seen.cache, path)
    assert careful.copies(pictures[9]) == ()
    assert replace(answer, requests=careful.requests).originals() == []  # an older answer, too


def test_thumbnails_are_found_however_the_collection_is_listed(seen, backwards, pictures):
    other = backwards.with_cache(seen.cache.folder)
    assert other.copies(pictures[3])[0].row == len(pictures) - 1 - 3


def test_thumbnails_of_other_pictures_are_refused(seen):
    folder, fingerprints = seen.cache.folder, seen.cache.header["fingerprints"]
    with pytest.raises(InputError, match="precompute likeness"):
        read_thumbnails(folder, seen.collection, fingerprints | {"collection": "another"})
    with pytest.raises(InputError, match="not of every picture"):
        read_thumbnails(
            folder, replace(seen.collection, files=["more", *seen.collection.files]), fingerprints
        )


def test_a_report_says_so_and_is_computed_again(seen, pictures):
    image = ImageOps.mirror(pictures[7])
    report = make_report(seen, image, seen.attribute(image), date=datetime.now(UTC))
    assert [copy["file"] for copy in report["copies"]] == [seen.collection.files[7]]
    assert verify_report(seen, report) == []
    told_by_page = report_html(seen, report)
    assert (
        f"near copy of a training picture, mirrored: {seen.collection.files[7]} by" in told_by_page
    )
    report["copies"][0]["file"] = seen.collection.files[8]
    assert any(each.path[0] == "copies" for each in verify_report(seen, report))
    del report["copies"]  # as reports were before
    assert verify_report(seen, report) == []


@pytest.mark.parametrize("mode", ["RGBA", "L", "LA", "P", "1", "I;16"])
def test_a_picture_of_any_mode_is_asked_about_as_an_upload_of_its_file(seen, pictures, mode):
    wide = pictures[7].resize((90, 64))
    image = Image.fromarray(np.asarray(wide.convert("L"), np.uint16) * 257) if mode == "I;16" else wide.convert(mode)  # fmt: skip
    file = io.BytesIO()
    image.save(file, "PNG")
    upload = open_image(file.getvalue())
    assert image.mode == mode
    assert torch.equal(seen.model.latents([image]), seen.model.latents([upload]))
    assert Encoded(seen.model, [image]).keys == Encoded(seen.model, [upload]).keys
    assert trace(seen.model, image) == trace(seen.model, upload)
    assert seen.copies(image) == seen.copies(upload)
    if mode == "RGBA":
        found, wanted = seen.attribute(image, PROMPT), seen.attribute(upload, PROMPT)
        assert torch.equal(found.scores["general"], wanted.scores["general"])
        maps = [seen.regions(each, found).map(3) for each in (image, upload)]
        assert torch.equal(*maps)


SHAPED = {
    "with margins": lambda image: ImageOps.expand(image, (20, 0), "white"),
    "stretched": lambda image: image.resize((100, 64), Image.Resampling.BICUBIC),
    "large and stretched": lambda image: image.resize((480, 800), Image.Resampling.BICUBIC),
}


@pytest.mark.parametrize("change", SHAPED)
def test_page_report_and_verify_agree_on_an_upload_of_another_shape(seen, pictures, change):
    image = SHAPED[change](pictures[7])
    answer = seen.attribute(image)
    assert [copy.row for copy in answer.originals()] == [7]
    assert seen.copies(image) == answer.copies
    report = make_report(seen, image, answer, date=datetime.now(UTC))
    assert [copy["file"] for copy in report["copies"]] == [seen.collection.files[7]]
    assert verify_report(seen, json.loads(json.dumps(report))) == []


def test_a_report_s_whole_is_of_its_picture(seen, pictures):
    image = SHAPED["stretched"](pictures[7])
    report = make_report(seen, image, seen.attribute(image), date=datetime.now(UTC))
    other = SHAPED["stretched"](pictures[8])
    forged = make_report(seen, other, seen.attribute(other), date=datetime.now(UTC))
    report["picture"]["whole"], report["copies"] = forged["picture"]["whole"], forged["copies"]
    assert [str(each.path) for each in verify_report(seen, report)] == ["('picture', 'whole')"]
    report["picture"]["whole"] = png_of(image.resize((257, 64)))
    with pytest.raises(InputError, match="no PNG of at most 256 x 256"):
        verify_report(seen, report)


def test_a_picture_of_the_model_s_shape_is_looked_at_once(seen, pictures):
    report = make_report(seen, pictures[7], seen.attribute(pictures[7]), date=datetime.now(UTC))
    assert "whole" not in report["picture"]
    assert seen.copies(Image.new("RGB", (2000, 3))) == ()  # too narrow to be told from others


def test_the_page_escapes_the_file_s_name(seen, pictures):
    files = [*seen.collection.files]
    files[2] = "<script>.png"
    views = Views(seen)
    odd = replace(
        seen.collection, files=files, read=lambda _: seen.collection.data(seen.collection.files[2])
    )
    views.visible = replace(views.visible, collection=odd)
    [original] = views.originals(list(seen.copies(pictures[2])))
    assert original["told"].startswith("This picture is in the training set: <script>.png by ")
    session = Session(pictures[2], seen.attribute(pictures[2]), seen.method, "", None)
    odd = replace(session.answer, collection=odd)
    assert "&lt;script&gt;.png by" in views.verdict(replace(session, answer=odd))

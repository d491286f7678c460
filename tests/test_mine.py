"""Whether somebody's work is here is told in three answers that are never mixed, by name, by picture and to programs."""

import base64
import html
import json
import re
from dataclasses import replace

import gradio as gr
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import expect
from test_journeys import browser, opened, tab  # noqa: F401
from test_one_state import violations

from attribution.answer.shares import portions
from attribution.answer.verdict import SOME
from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.looks.influence import influence
from attribution.page.hall import Hall
from attribution.page.uploads import GONE
from attribution.page.work import (
    by_name,
    by_picture,
    removed,
    report_of,
    shown,
    shown_by_name,
)
from attribution.report.artist import NO_CONTACT, Work, artist_html, removal, removed_list
from attribution.report.signature import ARTIST, REMOVED, Signer, checked
from precompute.__main__ import main

NAME = "Inkpot Press"


@pytest.fixture
def answers(desk):
    return [example.answer for example in desk.examples]


# Did it influence


def test_shares_of_all_artists_add_up_to_all_that_stands_out(desk, answers):
    found = [influence(answers, desk.visible.by(name)) for name in desk.visible.names("artist")]
    assert sum(each.share for each in found) == pytest.approx(1, abs=1e-4)
    for each in found:
        assert each.low <= each.share <= each.high


def test_only_lists_that_chance_hardly_makes_count(desk, answers):
    rows = desk.visible.by(NAME)
    found = influence(answers, rows)
    sure = [n for n, answer in enumerate(answers) if answer.list_p_value() <= SOME]
    assert (found.drawn, found.judged, found.above) == (len(answers), len(answers), len(sure))
    assert 0 < found.above < found.drawn
    assert {n for n, _ in found.leaning} <= set(sure)
    number, share = found.leaning[0]
    assert share == pytest.approx(float(portions(answers[number].mix(general=1))[rows].sum()))
    assert share == max(s for _, s in found.leaning)
    unsure = [answer for n, answer in enumerate(answers) if n not in sure]
    assert influence(unsure, rows).share == influence(unsure, rows).above == 0


def test_what_was_not_compared_with_chance_is_not_told(desk, answers):
    unknown = [replace(answer, list_p_values={}) for answer in answers]
    found = influence(unknown, desk.visible.by(NAME))
    assert (found.judged, found.leaning) == (0, ())
    assert "cannot be told" in Work(NAME, influence=found).influenced


def test_nobody_leans_on_nothing(answers):
    nothing = torch.zeros(len(answers[0].scores["general"]), dtype=torch.bool)
    assert influence(answers, nothing).leaning == ()


# By name


def test_a_name_finds_its_pictures_in_any_case_of_letters(desk):
    work, names = by_name(desk, "  INKPOT press ")
    assert names == [NAME]
    labels = desk.collection.labels
    assert work.rows == tuple(n for n, about in enumerate(labels) if about["artist"] == NAME)
    assert work.in_the_set == f"Yes: {len(work.rows)} training pictures by {NAME}."
    assert work.looks_alike.startswith("Not asked")


def test_part_of_a_name_offers_those_that_fit(desk):
    work, names = by_name(desk, "e")
    assert work is None
    assert len(names) > 1
    text = shown_by_name(desk, "e")
    assert all(f'data-artist="{html.escape(name)}"' in text for name in names)
    assert "Nobody of that name is shown here" in shown_by_name(desk, "zzz <b>")
    for name in ("", "  ", None):
        with pytest.raises(InputError, match="type a name first"):
            shown_by_name(desk, name)


@pytest.fixture
def withheld(desk, tmp_path):
    path = tmp_path / "opt_out.json"
    requests = {"artists": [NAME], "files": [desk.collection.files[0]], "dates": {NAME: "2026-01-31"}}  # fmt: skip
    path.write_text(json.dumps(requests))
    its = desk.attributor
    return replace(desk, attributor=Attributor(its.model, its.collection, its.cache, path))


def test_who_was_removed_is_named_nowhere_and_counted_by_day(desk, withheld):
    assert by_name(withheld, NAME) == (None, [])
    document = removed_list(withheld.attributor)
    assert document["removed"] == [
        {"date": "2026-01-31", "artists": 1, "pictures": 0},
        {"date": "", "artists": 0, "pictures": 1},
    ]
    row = desk.collection.labels.index(next(a for a in desk.collection.labels if a["artist"] == NAME))  # fmt: skip
    for page in (
        removed(withheld),
        shown_by_name(withheld, NAME),
        shown(withheld, by_picture(withheld, desk.collection.image(row))),
    ):
        files = re.findall(r"base64,([\w+/=]+)\" download", page)
        held = [base64.b64decode(file).decode() for file in files]
        assert not any(NAME in text or desk.collection.files[row] in text for text in [page, *held])  # fmt: skip
    assert "No training picture that may be shown" in shown(withheld, by_picture(withheld, desk.collection.image(row)))  # fmt: skip


@pytest.mark.parametrize("dates", [[], "today", {"Ann": "yesterday"}, {"Ann": 20260131}, {"Ann": "20260131"}])  # fmt: skip
def test_days_that_are_none_are_refused(desk, tmp_path, dates):
    path = tmp_path / "opt_out.json"
    path.write_text(json.dumps({"artists": ["Ann"], "dates": dates}))
    its = desk.attributor
    with pytest.raises(InputError, match="dates in"):
        Attributor(its.model, its.collection, its.cache, path)


# By picture


def test_a_training_picture_is_found_and_its_influence_is_its_own(desk, answers):
    work = by_picture(desk, desk.collection.image(5))
    assert work.rows == (5,)
    assert work.in_the_set.startswith("This picture is in the training set: images/00005.webp by ")
    assert work.nearest[0][0] == 5
    assert work.nearest[0][1] == pytest.approx(1, abs=0.01)
    alone = torch.zeros(len(desk.visible), dtype=torch.bool)
    alone[5] = True
    assert work.influence == influence(answers, alone)


def test_a_picture_that_is_not_here_looks_like_some_and_influenced_nothing(desk):
    work = by_picture(desk, Image.radial_gradient("L").convert("RGB"))
    assert (work.rows, work.copies, work.influence) == ((), (), None)
    assert work.in_the_set.startswith("No training picture")
    assert len(work.nearest) == 6
    assert "no sign" in work.looks_alike
    assert "was not learned from here" in work.influenced


def test_without_anything_to_compare_with_it_says_so(desk):
    its = Attributor(desk.attributor.model, desk.collection, desk.attributor.cache)
    its.thumbnails = its.look_alikes = None
    work = by_picture(replace(desk, attributor=its), desk.collection.image(5))
    assert "keeps no thumbnails" in work.in_the_set
    assert "keeps no latents" in work.looks_alike


# What is taken along


def test_the_report_is_signed_and_says_how_to_be_removed(desk, tmp_path, capsys):
    signer = Signer.in_folder(tmp_path / "keys")
    signing = replace(desk, signer=signer, contact="ann@example.org")
    document = report_of(signing, by_name(signing, NAME)[0])
    assert "ann@example.org" in document["removal"]
    assert removal("") == NO_CONTACT == report_of(desk, by_name(desk, NAME)[0])["removal"]
    path = tmp_path / "my-work.json"
    for kind, each in ((ARTIST, document), (REMOVED, signing.signed(removed_list(desk.attributor), REMOVED))):  # fmt: skip
        assert checked(each, kind, signer.fingerprint)[0]
        path.write_text(json.dumps(each))
        assert main(["verify", str(path), "--key", signer.fingerprint]) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[0].startswith("The signature is valid")
        assert said[1] == f"What this {kind} says is not computed again."
    assert signer.fingerprint in artist_html(document)
    document["influenced"]["share"] = 0.9
    path.write_text(json.dumps(document))
    assert main(["verify", str(path)]) == 1
    assert "not valid" in artist_html(document)
    assert "not signed" in artist_html(report_of(desk, by_name(desk, NAME)[0]))


def test_what_strangers_wrote_stays_text(desk):
    document = report_of(desk, by_name(desk, NAME)[0])
    hostile = "<script>alert(1)</script>"
    document["in_the_set"]["pictures"][0]["caption"] = hostile
    document["removal"] = hostile
    page = artist_html(document)
    assert hostile not in page
    assert page.count("&lt;script&gt;") == 2
    text = shown_by_name(replace(desk, contact=hostile), NAME)
    assert hostile not in text


# Programs and browsers


def test_a_program_asks_by_name_or_by_picture(desk, url, tmp_path):
    client = Client(url, verbose=False)
    told = client.predict(NAME, None, api_name="/artist")
    assert told["influenced"]["sentence"] == by_name(desk, NAME)[0].influenced
    path = tmp_path / "mine.png"
    desk.collection.image(5).save(path)
    told = client.predict("", handle_file(path), api_name="/artist")
    assert [each["file"] for each in told["in_the_set"]["pictures"]] == [desk.collection.files[5]]  # fmt: skip
    for name, said in (("zzz", "nobody is shown by just that name"), ("e", "these fit: "), ("", "type a name first")):  # fmt: skip
        with pytest.raises(AppError, match=re.compile(said, re.IGNORECASE)):
            client.predict(name, None, api_name="/artist")


def test_a_picture_for_one_question_leaves_the_visitors_own_alone(desk):
    hall, request = Hall(desk), gr.Request(session_hash="ann")
    data = (desk.collection.folder / desk.collection.files[5]).read_bytes()
    own, once = hall.uploads.put(data, "here"), hall.uploads.put(data, "here")
    hall.uploads.take("ann", own)
    hall.taken(request, {"path": once})
    assert hall.uploads.take("ann", own)
    with pytest.raises(InputError, match=GONE):
        hall.taken(request, {"path": once})  # it was forgotten
    for upload in (None, {}, {"path": "/etc/passwd"}, {"path": 7}):
        with pytest.raises(InputError):
            hall.taken(request, upload)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), pytest.param(390, "dark", marks=pytest.mark.slow)])  # fmt: skip
def test_an_artist_looks_for_her_work(browser, url, desk, width, scheme):  # noqa: F811
    page = opened(browser, url, viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab(page, "My work")
    expect(page.locator("#removed")).to_contain_text("Nothing so far.")
    found = page.locator("#found_mine")
    path = desk.collection.folder / desk.collection.files[5]
    page.locator("#mine input[type=file]").set_input_files(path)
    expect(found).to_contain_text(f"This picture is in the training set: {desk.collection.files[5]}")  # fmt: skip
    assert violations(page) == []
    page.get_by_label("Your name").fill("press")
    page.keyboard.press("Enter")
    found.get_by_role("button", name=NAME).click()  # of two that fit
    expect(found.get_by_role("heading", name=NAME)).to_be_visible()
    for question in ("Was it in the set?", "Does it look alike?", "Did it influence?"):
        expect(found.get_by_role("heading", name=question)).to_be_visible()
    expect(found).to_contain_text(NO_CONTACT)
    expect(page.locator("#said")).to_contain_text(
        "Yes: 126 training pictures by"
    )  # for who cannot see it
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    leaning = found.locator("[data-drawn]").first
    prompt = leaning.get_attribute("aria-label").split(":")[0]
    leaning.click()
    expect(page.locator("#asked figcaption")).to_contain_text(prompt)
    page.close()

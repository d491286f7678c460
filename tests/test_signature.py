"""A host signs what it gives out: whoever changes it, forges it or signs it with another key is told apart."""

import base64
import copy
import re
import shutil
import stat
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from playwright.sync_api import sync_playwright
from test_report import attributor, generated, options, report, saved  # noqa: F401

from attribution.errors import InputError
from attribution.page.figures import error_rates
from attribution.page.taking import written
from attribution.report.document import report_html
from attribution.report.report import read_report
from attribution.report.signature import (
    ARTIST,
    FILE,
    INVALID,
    REPORT,
    UNSIGNED,
    Signer,
    checked,
    wanted_key,
)
from precompute.__main__ import main
from precompute.verify import AGREES, DIFFERS


@pytest.fixture
def signer(tmp_path):
    return Signer.in_folder(tmp_path / "keys")


@pytest.fixture
def other(tmp_path):
    return Signer.in_folder(tmp_path / "others")


def test_a_key_is_made_once_for_its_owners_eyes_alone(signer, tmp_path):
    path = tmp_path / "keys" / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert Signer.in_folder(path.parent).public == signer.public
    assert re.fullmatch(r"([0-9a-f]{4} ){7}[0-9a-f]{4}", signer.fingerprint)


def test_a_key_that_others_may_read_and_what_is_none_are_refused(signer, tmp_path):
    path = tmp_path / "keys" / FILE
    path.chmod(0o640)
    with pytest.raises(InputError, match="others may read"):
        Signer.in_folder(path.parent)
    path.chmod(0o600)
    another = Ed448PrivateKey.generate()
    other_kind = another.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"", b"-----BEGIN PRIVATE KEY-----", other_kind):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is no .*key; remove it"):
            Signer.in_folder(path.parent)
    with pytest.raises(InputError, match="is no folder to keep a key in"):
        Signer.in_folder(path)  # a file


def test_what_was_signed_is_told_by_its_fingerprint(signer, other):
    signed = signer.signed({"b": 1.5, "a": ["é", None]}, REPORT)
    assert checked(signed, REPORT) == (
        True,
        f"The signature is valid: the key {signer.fingerprint} signed it, and nothing was changed.",
    )
    assert checked(signed, REPORT, signer.fingerprint.replace(" ", "").upper())[0]
    fine, said = checked(signed, REPORT, other.fingerprint)
    assert (fine, said) == (False, f"The signature is valid, but by another key than the one wanted: {signer.fingerprint}.")  # fmt: skip
    assert checked({"a": 1}, REPORT) == (True, UNSIGNED)
    assert checked({"a": 1}, REPORT, signer.fingerprint) == (False, UNSIGNED)


def forged(document, other, how):
    document, signature = copy.deepcopy(document), other.signed(document, REPORT)["signature"]
    if how == "changed":
        document["a"] += 1
    elif how == "added":
        document["c"] = 1
    elif how == "another's value":
        document["signature"]["value"] = signature["value"]
    elif how == "another's key":
        document["signature"]["public_key"] = signature["public_key"]
    elif how == "another algorithm":
        document["signature"]["algorithm"] = "none"
    else:
        document["signature"][how] = {"public_key": "AAAA", "value": "!"}[how]
    return document


@pytest.mark.parametrize(
    "how",
    ["changed", "added", "another's value", "another's key", "another algorithm", "public_key", "value"],
)  # fmt: skip
def test_a_forged_signature_is_not_valid(signer, other, how):
    signed = signer.signed({"a": 1}, REPORT)
    assert checked(forged(signed, other, how), REPORT) == (False, INVALID)


def test_one_kind_does_not_pass_for_another(signer):
    assert not checked(signer.signed({"a": 1}, ARTIST), REPORT)[0]


@pytest.mark.parametrize("key", ["x", "0" * 31, "g" * 32, "٣" * 32])
def test_a_key_that_nobody_can_have_is_refused(key):
    with pytest.raises(InputError, match="give the fingerprint of 32 letters and digits"):
        wanted_key(key)


def test_verify_says_of_signature_and_answer_apart(  # each in one sentence
    options, report, saved, signer, other, capsys,  # noqa: F811
):  # fmt: skip
    signed = signer.signed(report, REPORT)
    changed = copy.deepcopy(signed)
    changed["sources"][0]["caption"] = "another caption"
    valid = (
        f"The signature is valid: the key {signer.fingerprint} signed it, and nothing was changed."
    )
    for document, key, said, answer, code in (
        (report, "", UNSIGNED, AGREES, 0),
        (signed, "", valid, AGREES, 0),
        (signed, signer.fingerprint, valid, AGREES, 0),
        (signed, other.fingerprint, f"The signature is valid, but by another key than the one wanted: {signer.fingerprint}.", AGREES, 1),
        (changed, "", INVALID, DIFFERS, 1),
        (other.signed(changed, REPORT), "", valid.replace(signer.fingerprint, other.fingerprint), DIFFERS, 1),
        (report, signer.fingerprint, UNSIGNED, AGREES, 1),
    ):  # fmt: skip
        asked = ["--key", key] if key else []
        assert main(["verify", str(saved(document)), *options, *asked]) == code
        assert capsys.readouterr().out.splitlines()[:2] == [said, answer]


def test_the_report_shows_who_signed(attributor, report, signer):  # noqa: F811
    signed = signer.signed(report, REPORT)
    page = report_html(attributor, signed)
    assert signer.fingerprint in page
    assert signed["signature"]["value"] in page
    assert base64.b64encode(signer.public).decode() in page
    assert "This report is not signed" in report_html(attributor, report)
    signed["artists"] = []
    assert "The signature of this report is not valid." in report_html(attributor, signed)


def test_the_page_signs_and_says_how_often_it_is_wrong(desk, signer, saved):  # noqa: F811
    assert desk.measured == tuple(error_rates())
    assert {row["figure"] for row in desk.measured} == {"false alarms", "detected"}
    seen = desk.seen(None, None, "", [], 1.0)
    signing = replace(desk, signer=signer)
    document = read_report(saved(written(signing, seen)))
    assert checked(document, REPORT, signer.fingerprint)[0]
    assert document["measured"] == list(desk.measured)
    assert signer.fingerprint in signing.views.limits(signing.key)
    assert "are not signed" in desk.views.limits(desk.key)


def test_a_report_is_printed_on_two_pages(desk, signer, tmp_path):
    signing = replace(desk, signer=signer)
    for example in (0, 1):
        seen = replace(desk.seen(None, None, "", [], 1.0), **picked(desk, example))
        (tmp_path / "report.html").write_text(report_html(desk.attributor, written(signing, seen)))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page()
            page.goto((tmp_path / "report.html").as_uri())
            printed = page.pdf(prefer_css_page_size=True)
            browser.close()
        assert len(re.findall(rb"/Type\s*/Page\b(?!s)", printed)) == 2


def picked(desk, number):
    opened = desk.opened(number)
    return {"image": opened.image, "answer": opened.answer, "prompt": opened.prompt, "seed": opened.seed}  # fmt: skip

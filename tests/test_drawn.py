"""What a model draws survives its autoencoder; the null of traces is calibrated, kept and never taken twice."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch
from PIL import Image, ImageFilter

from attribution.answer.calibration import (
    TRACE,
    Calibration,
    calibrated_by,
    calibrated_for,
    read_calibration,
    write_calibration,
)
from attribution.answer.roundtrip import trace
from attribution.report.report import make_report
from attribution.report.verification import verify_report
from precompute.calibrate import CalibrateConfig, earlier
from precompute.unrelated import draw_unrelated


def test_what_goes_unchanged_through_the_autoencoder_has_a_trace(desk):
    """On the shipped model: a drawn example's is stronger than that of every unrelated picture's."""
    model = desk.attributor.model
    unrelated, _ = draw_unrelated(16, 1, model.size)
    drawn = [trace(model, example.image) for example in desk.examples[:8]]
    assert min(drawn) > max(trace(model, image) for image in unrelated)


def test_a_picture_without_detail_has_no_trace_for_that(desk):
    model, image = desk.attributor.model, desk.examples[0].image
    smooth = image.filter(ImageFilter.GaussianBlur(8))
    assert trace(model, smooth) < trace(model, image)
    assert trace(model, Image.new("RGB", image.size, "white")) < 1


@pytest.fixture
def calibrated(attributor, tmp_path):
    """A calibration with traces, in a folder; and what it belongs to."""
    null = torch.linspace(-1, 1, 39)
    concepts = attributor.collection.concepts
    known = Calibration(null, {c: null.clone() for c in concepts}, torch.linspace(-9, 9, 39))
    belongs_to = calibrated_for(attributor.model, concepts)
    settings = {"unrelated": 39, "draws": 39, "seed": 0}
    write_calibration(tmp_path, known, belongs_to, settings)
    return tmp_path, belongs_to, known


def test_traces_are_read_again_and_files_without_them_still_open(calibrated):
    folder, belongs_to, known = calibrated
    found = read_calibration(folder, belongs_to)
    assert torch.equal(found.traces, known.traces)
    assert TRACE in found.nulls
    assert found.unshown.keys() == known.unshown.keys()
    write_calibration(folder, replace(known, traces=None), belongs_to, {})
    assert read_calibration(folder, belongs_to).traces is None


def test_what_was_taken_before_is_not_taken_again_unless_it_is_another(calibrated):
    folder, belongs_to, known = calibrated
    config = CalibrateConfig(unrelated=39, draws=39)
    assert calibrated_by(folder, belongs_to)["draws"] == 39
    assert torch.equal(earlier(folder, belongs_to, config).unrelated, known.unrelated)
    assert earlier(folder, belongs_to, replace(config, seed=1)) is None
    assert earlier(folder, belongs_to | {"model": "another"}, config) is None
    assert earlier(folder / "nowhere", belongs_to, config) is None


@pytest.fixture
def judge(attributor, calibrated, monkeypatch):
    monkeypatch.setattr(attributor, "calibration", calibrated[2])
    return attributor


def test_an_answer_and_its_report_hold_the_p_value(judge):
    image = judge.collection.image(3)
    answer = judge.attribute(image)
    stronger = (judge.calibration.traces >= trace(judge.model, image)).sum()
    assert answer.drawn == (1 + stronger) / 40
    report = make_report(judge, image, answer, date=datetime.now(UTC))
    assert report["calibration"]["drawn"] == answer.drawn
    assert verify_report(judge, report) == []
    report["calibration"]["drawn"] = 0.5 + answer.drawn / 3
    assert [each.path[1] for each in verify_report(judge, report)] == ["drawn"]


def test_without_its_null_nothing_is_said(attributor):
    assert attributor.drawn(attributor.collection.image(0)) is None


def test_of_what_it_has_just_drawn_the_page_does_not_doubt_who_drew_it(desk):
    """Nor does it say that nothing stands out, where it is the words that say little."""
    session = desk.opened(0)
    silent = replace(
        session.answer,
        p_values=dict.fromkeys(session.answer.p_values, 0.5),
        list_p_values={},
        drawn=0.5,
    )
    weak = replace(session, answer=silent)
    drawn = desk.views.verdict(weak)
    assert "This model drew this picture" in drawn
    assert "What pushed it most cannot be told" in drawn
    upload = desk.views.verdict(replace(weak, seed=None))
    assert "the order is no evidence" in upload
    assert "Probably not made by this model" in upload
    likely = replace(session, answer=replace(silent, drawn=0.0025), seed=None)
    assert "Probably made by this model" in desk.views.verdict(likely)

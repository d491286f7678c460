"""What is told of long work: how long the rest takes, true within a factor of two."""

import time

import pytest
import torch

from attribution.looks.unlearning import what_if
from attribution.progress import TELLING, Pace, said


def test_the_rest_takes_as_long_as_its_share_of_the_work():
    now = [100.0]
    pace = Pace(lambda: now[0])
    now[0] = 103.0
    assert pace.left(10, 40) == 9.0
    assert pace.left(40, 40) == 0.0
    assert pace.left(0, 40) is pace.left(1, 40) is None
    assert TELLING > 1 / 40


def test_seconds_and_minutes_are_said_in_words():
    assert said(0.2) == "about 1 s left"
    assert said(41.7) == "about 42 s left"
    assert said(150.0) == "about 2 minutes left"


@pytest.mark.slow
def test_the_time_that_a_picture_without_others_takes_yet_is_true_within_a_factor_of_two(desk):
    pace, told = Pace(time.process_time), []

    def on_step(done, total):
        told.append((time.process_time(), pace.left(done, total)))

    its, rows = desk.attributor, [1, 5]
    scores = torch.zeros(len(its.collection))
    scores[rows] = 1.0  # these alone speak for it
    what_if(its.model, its.collection, "a woodcut of a cat", rows, scores, 3, on_step=on_step)
    end = told[-1][0]
    sure = [(left, end - at) for at, left in told if left is not None and end - at > 1]
    assert len(sure) > 30
    assert all(true / 2 <= left <= true * 2 for left, true in sure)

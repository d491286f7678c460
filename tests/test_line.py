"""Many at once: what each gets is what they would get alone, and who leaves or fails is in nobody's way."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from gradio import Request
from gradio.context import LocalContext
from gradio.queueing import Event

from attribution.errors import InputError
from attribution.page.desk import Desk
from attribution.page.hall import Hall, Stopped, waits
from attribution.page.line import MOST_TOGETHER, Easel, Line
from attribution.page.session import Session

PROMPTS = ["a woodcut of a cat in the city", "a neon teapot", "a watercolour of a fish by the sea"]


class Batches:
    """A model whose drawings wait until they are let go, and that notes what it drew together."""

    def __init__(self, model):
        self.drawn, self.let_go = [], threading.Event()
        self.model = replace(model)
        self.model.generate = self.generate
        self.told = replace(model).generate

    def generate(self, prompts, seeds, on_step):
        self.drawn.append(list(zip(prompts, seeds, strict=True)))
        assert self.let_go.wait(20)
        if "broken" in prompts:
            raise InputError("it cannot be drawn")
        return self.told(prompts, seeds, steps=2, on_step=on_step)


@pytest.fixture
def batches(attributor):
    return Batches(attributor.model)


@contextmanager
def drawing(easel, model, orders, gap=0.1):
    """Order pictures, one shortly after another."""
    with ThreadPoolExecutor(len(orders)) as people:
        found = []
        for prompt, seed, on_step in orders:
            found.append(people.submit(easel.draw, model, prompt, seed, on_step))
            time.sleep(gap)
        yield found


def silent(done, total):
    pass


def no_wait(before, seconds):
    pytest.fail("nobody needs to wait here")


def test_ten_at_once_have_the_answers_that_they_would_have_alone(attributor):
    def ask(desk, number):
        image, prompt, seed = desk.draw(PROMPTS[number % 3], number, silent)
        return desk.attribute(image, prompt, seed)

    lone = Desk(attributor, easel=Easel(Line(1)))
    together = Desk(attributor, easel=Easel(Line(2)))
    with ThreadPoolExecutor(10) as people:
        found: list[Session] = list(people.map(lambda number: ask(together, number), range(10)))
    for number, session in enumerate(found):
        alone = ask(lone, number)
        assert session.image.tobytes() == alone.image.tobytes()
        for name, scores in alone.answer.scores.items():
            assert torch.allclose(session.answer.scores[name], scores, rtol=1e-4, atol=1e-5)
            assert [s.index for s in session.answer.rank(10, **{name: 1.0})] == [
                s.index for s in alone.answer.rank(10, **{name: 1.0})
            ]


def test_who_waits_is_drawn_together(batches):
    easel = Easel(Line(1))
    with drawing(easel, batches.model, [("a cat", n, silent) for n in range(7)]) as found:
        batches.let_go.set()
        assert all(each.result() for each in found)
    asked = [[seed for _, seed in batch] for batch in batches.drawn]
    assert asked == [[0, 0], [1, 2, 3, 4], [5, 6]]  # one alone is drawn twice, so that it is equal
    assert max(map(len, asked)) == MOST_TOGETHER


def test_a_drawing_that_cannot_be_made_hurts_no_neighbour(batches):
    easel = Easel(Line(1))
    orders = [("a cat", 1, silent), ("a dog", 2, silent), ("broken", 3, silent), ("a cat", 4, silent)]  # fmt: skip
    with drawing(easel, batches.model, orders) as (first, second, broken, fourth):
        batches.let_go.set()
        with pytest.raises(InputError, match="cannot be drawn"):
            broken.result()
        assert all(each.result() for each in (first, second, fourth))


def test_who_stops_in_the_middle_leaves_the_others_their_pictures(batches):
    def stops(done, total):
        raise Stopped

    easel = Easel(Line(1))
    orders = [("a cat", 1, silent), ("a dog", 2, silent), ("a dog", 3, stops)]
    with drawing(easel, batches.model, orders) as (first, kept, stopped):
        batches.let_go.set()
        with pytest.raises(Stopped):
            stopped.result()
        assert first.result()
        [alone] = batches.told(["a dog"] * 2, [2, 2], steps=2)[:1]
        assert kept.result().tobytes() == alone.tobytes()


def test_a_drawing_for_which_nobody_waits_ends(batches):
    steps = []

    def stops(done, total):
        steps.append(done)
        raise Stopped

    batches.let_go.set()
    with pytest.raises(Stopped):
        Easel(Line(1)).draw(batches.model, "a cat", 1, stops)
    assert steps == [1]


def test_stop_ends_what_was_asked_for_before_it_though_it_still_waits_and_nothing_later(desk):
    hall, visitor, other = Hall(desk), Request(session_hash="a"), Request(session_hash="b")
    asked = [Event("a", SimpleNamespace(concurrency_id="long"), None, None) for _ in range(3)]
    waiting, press, later = asked  # the press is heard after all were asked for

    def told(event, do, request):
        queue = SimpleNamespace(active_jobs=[None, asked])
        LocalContext.blocks.set(SimpleNamespace(_queue=queue))
        LocalContext.event_id.set(event._id)
        return do(request)

    alone = [copy_context() for _ in range(4)]
    alone[0].run(told, press, hall.stop, visitor)
    with pytest.raises(Stopped):
        alone[1].run(told, waiting, hall.steps, visitor)(1, 2)
    alone[2].run(told, later, hall.steps, visitor)(1, 2)
    alone[3].run(told, waiting, hall.steps, other)(1, 2)


def test_who_leaves_while_waiting_is_not_drawn(batches):
    easel = Easel(Line(1))

    def leaves(before, seconds):
        assert before >= 1
        raise Stopped

    with drawing(easel, batches.model, [("a cat", 1, silent)]) as [first]:
        with pytest.raises(Stopped):
            easel.draw(batches.model, "a dog", 2, silent, leaves)
        batches.let_go.set()
        assert first.result()
    easel.thread.shutdown()
    assert [prompt for batch in batches.drawn for prompt, _ in batch] == ["a cat", "a cat"]


def test_seats_are_taken_in_the_order_of_coming_and_the_patient_come_last():
    line, came = Line(1), []

    def sit(name, patient):
        with line.seat(patient=patient):
            came.append(name)

    with ThreadPoolExecutor(4) as people, line.seat(no_wait):
        for name, patient in (("mark", True), ("one", False), ("two", False), ("three", False)):
            people.submit(sit, name, patient)
            time.sleep(0.1)
        assert not came
    assert came == ["one", "two", "three", "mark"]


def test_as_many_compute_at_once_as_there_are_seats():
    line, inside, most = Line(2), [], []

    def sit(_):
        with line.seat() as seat:
            inside.append(seat)
            most.append(sorted(inside))
            time.sleep(0.05)
            inside.remove(seat)

    with ThreadPoolExecutor(6) as people:
        list(people.map(sit, range(6)))
    assert [0, 1] in most
    assert all(len(set(seats)) == len(seats) <= 2 for seats in most)


def test_who_waits_is_told_how_many_come_before_and_for_how_long():
    line, told = Line(2), []
    line.seconds = 4.0

    def leave(before, seconds):
        told.append((before, seconds))
        raise Stopped

    with line.seat(), line.seat(), pytest.raises(Stopped), line.seat(leave):
        pass
    assert told == [(2, 8.0)]
    assert not line.waiting
    assert waits(2, 8.0) == "2 before you, about 8 s"
    line.compute(lambda _: None, lambda *given: told.append(given))
    assert told[1][0] == 0  # its own turn


def test_seats_of_one_model_answer_at_the_same_time(attributor):
    twin = attributor.beside()
    assert twin.model.fingerprint == attributor.model.fingerprint
    [image] = attributor.model.generate(["a cat"], [1], steps=2)
    alone = attributor.attribute(image, "a cat").scores
    with ThreadPoolExecutor(2) as people:
        both = people.map(lambda its: its.attribute(image, "a cat").scores, (attributor, twin))
        for scores in both:
            assert all(torch.allclose(scores[name], alone[name], rtol=1e-4, atol=1e-5) for name in alone)  # fmt: skip

"""Let as many questions compute at once as there are seats, in the order in which they came; draw together what waits.

In: questions, each on a thread of its own. Out: a seat for each in its turn, and pictures. Whoever waits is told how many
are before them, and for how long, about. Who leaves, or cannot be answered, is in nobody's way.
"""

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from PIL import Image

from attribution.models.diffusion import DiffusionModel
from attribution.progress import OnStep

T = TypeVar("T")
OnWait = Callable[
    [int, float], None
]  # how many are before, seconds until the end; what it raises ends the wait
LOOK = 0.2  # seconds between two looks at whether anybody still waits
MOST_SEATS = 4
SMALL = 100_000_000  # parameters of a denoiser; a larger one keeps all cores busy alone
# A picture is the same, bit for bit, in any batch of these sizes; a batch of one is multiplied in another order.
FEWEST_TOGETHER, MOST_TOGETHER = 2, 4
FIRST_GUESS = 1.0  # seconds of a turn, before there was one
NEWS = 0.3  # what a turn's seconds count against what was known before


def unheard(before: int, seconds: float) -> None:
    """Tell nobody."""


def is_small(model: DiffusionModel) -> bool:
    """Tell whether one picture leaves cores idle, so that several at once are quicker."""
    size = sum(parameter.numel() for parameter in model.denoiser.parameters())
    return model.device.type == "cpu" and size <= SMALL


def drawn_together(model: DiffusionModel) -> bool:
    """Tell whether a batch of pictures is quicker than one after another."""
    return is_small(model) and model.family.together


class Line:
    """Seats to compute on, each with its share of the cores, and those who wait for one.

    The patient take a seat when nobody else waits for it.
    """

    def __init__(self, seats: int = 1) -> None:
        self.cores = torch.get_num_threads()
        self.seats, self.free = seats, list(range(seats))
        # a few threads that stay: each that ever computed keeps memory
        self.threads = [ThreadPoolExecutor(1, f"seat {seat}") for seat in self.free]
        self.waiting: list[object] = []
        self.patient: list[object] = []
        self.seconds = FIRST_GUESS  # of a turn
        self.changed = threading.Condition()

    @classmethod
    def of(cls, model: DiffusionModel) -> "Line":
        """Give a small model a seat for each core, any other a single one."""
        return cls(min(torch.get_num_threads(), MOST_SEATS) if is_small(model) else 1)

    @contextmanager
    def seat(self, on_wait: OnWait = unheard, patient: bool = False) -> Iterator[int]:
        """Wait for a seat, and give its number, from 0; nobody else has it meanwhile."""
        seat, begun = self._taken(on_wait, patient), time.monotonic()
        try:
            yield seat
        finally:
            with self.changed:
                if not patient:
                    self.seconds += NEWS * (time.monotonic() - begun - self.seconds)
                self.free.append(seat)
                self.changed.notify_all()

    def compute(
        self, job: Callable[[int], T], on_wait: OnWait = unheard, patient: bool = False
    ) -> T:
        """Wait for a seat, and do there what is given the seat's number."""

        def done(seat: int) -> T:
            torch.set_num_threads(max(1, self.cores // self.seats))  # of this thread
            return job(seat)

        with self.seat(on_wait, patient) as seat:
            on_wait(0, self.seconds)
            return self.threads[seat].submit(done, seat).result()

    def take_all_cores(self) -> None:
        """Let this thread, which has no seat, compute on every core."""
        torch.set_num_threads(self.cores)

    def _taken(self, on_wait: OnWait, patient: bool) -> int:
        me, mine = object(), self.patient if patient else self.waiting
        with self.changed:
            mine.append(me)
            try:
                while not (self.free and [*self.waiting, *self.patient][0] is me):
                    on_wait(*self.ahead(mine.index(me)))
                    self.changed.wait(LOOK)
                return self.free.pop()
            finally:
                mine.remove(me)
                self.changed.notify_all()

    def ahead(self, waiting: int) -> tuple[int, float]:
        """Count who comes before one that so many of the waiting come before, and the seconds until its turn is over."""
        before = waiting + self.seats - len(self.free)
        return before, self.seconds * (before / self.seats + 1)


@dataclass(eq=False)
class Order:
    """A picture that somebody waits for."""

    model: DiffusionModel
    prompt: str
    seed: int
    on_step: OnStep
    picture: Future[Image.Image] = field(default_factory=Future)
    # of who waits: on the thread that draws, gradio would take one's progress for another's
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def step(self, done: int, total: int) -> None:
        """Tell the progress; what that raises ends this order, and no other."""
        if self.picture.done():
            return
        try:
            self.context.run(self.on_step, done, total)
        except Exception as error:
            self.picture.set_exception(error)


class Easel:
    """Draws on a thread of its own, several of those together who wait."""

    def __init__(self, line: Line | None = None) -> None:
        self.line = line or Line()
        self.waiting: list[Order] = []
        self.thread = ThreadPoolExecutor(1, "easel")

    def draw(
        self, model: DiffusionModel, prompt: str, seed: int, on_step: OnStep,
        on_wait: OnWait = unheard,
    ) -> Image.Image:  # fmt: skip
        """Draw a picture, in a batch with those who wait, too."""
        order = Order(model, prompt, seed, on_step)
        self.waiting.append(order)
        self.thread.submit(self._draw_waiting, order)
        try:
            while not wait([order.picture], LOOK).done:
                waiting = [*self.waiting]
                if order in waiting:
                    place = waiting.index(order) + len(self.line.waiting)
                    before, seconds = self.line.ahead(place)
                    on_wait(before, seconds + self.line.seconds)  # what is drawn is compared, too
            return order.picture.result()
        finally:
            order.picture.cancel()

    def _draw_waiting(self, order: Order) -> None:
        """Draw for the first who wait, if nobody's turn brought this one yet."""
        if order in self.waiting:
            self.line.compute(lambda _: self._draw(self._first()))

    def _first(self) -> list[Order]:
        """Take the first who wait, and are there still."""
        model = self.waiting[0].model
        first = self.waiting[: MOST_TOGETHER if drawn_together(model) else 1]
        some = [order for order in first if order.model is model]
        for order in some:  # in place, as others join
            self.waiting.remove(order)
        return [order for order in some if order.picture.set_running_or_notify_cancel()]

    def _draw(self, some: list[Order]) -> None:
        """Draw some together; where that fails, each alone, so that those alone fail that cannot be drawn."""
        if not some:
            return

        def step(done: int, total: int) -> None:
            for order in some:
                order.step(done, total)
            if all(order.picture.done() for order in some):
                raise Unwanted

        model = some[0].model
        alone = drawn_together(model) and len(some) < FEWEST_TOGETHER
        batch = some * FEWEST_TOGETHER if alone else some
        prompts, seeds = [order.prompt for order in batch], [order.seed for order in batch]
        try:
            images = model.generate(prompts, seeds, on_step=step)
        except Exception as error:
            left = [order for order in some if not order.picture.done()]
            for order in left:
                if len(some) > 1:
                    self._draw([order])
                else:
                    order.picture.set_exception(error)
            return
        for order, image in zip(some, images, strict=False):  # one alone was drawn twice
            if not order.picture.done():
                order.picture.set_result(image)


class Unwanted(Exception):
    """Nobody waits for a drawing any more."""

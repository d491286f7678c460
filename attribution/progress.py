"""How whoever works for long tells what is done: to a listener, or on the terminal.

What a listener raises stops the work. A `Pace` tells how long the rest takes. Several steps that follow one another share one line (`one_line`).
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from attribution.sentence import Sentence

OnStep = Callable[[int, int], None]  # done, total
TELLING = 0.04  # of the work, after which it is told how long the rest takes
STEP: ContextVar[str] = ContextVar("step", default="")  # which of several is running


def counted(
    items: Iterable | None, what: str, unit: str, total: int | None = None, shown: bool = True
) -> tqdm:
    """Count on the terminal what is done; where steps share one line, the bar goes when it is full."""
    step = STEP.get()
    options: dict[str, Any] = {"leave": not step, "disable": not shown, "dynamic_ncols": True}
    return tqdm(items, desc=f"{step}{what}", unit=unit, total=total, **options)


@dataclass
class Pace:
    """How long work takes, seen at what is done of it; `done` and `total` count what takes equally long."""

    clock: Callable[[], float] = time.monotonic
    begun: float = field(init=False)

    def __post_init__(self) -> None:
        self.begun = self.clock()

    def left(self, done: int, total: int) -> float | None:
        """Give the seconds that are left; None while too little is done to tell."""
        if done < TELLING * total:
            return None
        return (self.clock() - self.begun) * (total - done) / done


def said(seconds: float) -> Sentence:
    """Say how long something takes yet."""
    if seconds < 90:
        return Sentence("about {s} s left", s=max(1, round(seconds)))
    return Sentence("about {m:.0f} minutes left", m=seconds / 60)


@contextmanager
def one_line(step: str) -> Iterator[None]:
    """Let all that is counted here begin with the step's name and leave nothing behind."""
    token = STEP.set(f"{step}: ")
    try:
        yield
    finally:
        STEP.reset(token)

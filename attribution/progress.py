"""How whoever works for long tells what is done: to a listener, or on the terminal.

What a listener raises stops the work. Several steps that follow one another share one line (`one_line`).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

OnStep = Callable[[int, int], None]  # done, total
STEP: ContextVar[str] = ContextVar("step", default="")  # which of several is running


def counted(
    items: Iterable | None, what: str, unit: str, total: int | None = None, shown: bool = True
) -> tqdm:
    """Count on the terminal what is done; where steps share one line, the bar goes when it is full."""
    step = STEP.get()
    options: dict[str, Any] = {"leave": not step, "disable": not shown, "dynamic_ncols": True}
    return tqdm(items, desc=f"{step}{what}", unit=unit, total=total, **options)


@contextmanager
def one_line(step: str) -> Iterator[None]:
    """Let all that is counted here begin with the step's name and leave nothing behind."""
    token = STEP.set(f"{step}: ")
    try:
        yield
    finally:
        STEP.reset(token)

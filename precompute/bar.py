"""Show how far a step is, on the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from attribution.progress import OnStep, counted


@contextmanager
def bar(name: str, unit: str, shown: bool = True) -> Iterator[OnStep]:
    """Give an `on_step(done, total)` that moves a bar, and begins another where the total changes."""
    bars: list[tqdm] = []

    def on_step(done: int, total: int) -> None:
        if not bars or bars[-1].total != total:
            bars.append(counted(None, name, unit, total, shown))
        bars[-1].update(done - bars[-1].n)

    try:
        yield on_step
    finally:
        for each in bars:
            each.close()

"""How whoever works for long tells what is done; what the listener raises stops the work."""

from collections.abc import Callable

OnStep = Callable[[int, int], None]  # done, total

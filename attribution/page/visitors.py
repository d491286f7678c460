"""Remember of every visitor which question is their newest, and when they last pressed stop.

In: names of sessions, which callers choose. Out: a `Visitor` for each. Those that were heard of longest ago are forgotten
where there are too many, since programs tell nobody when they leave. It knows no Gradio.
"""

import math
from dataclasses import dataclass, field
from threading import Lock

MOST = 4096  # a name of 64 letters and its visitor take half a kilobyte


@dataclass
class Visitor:
    """Where somebody is."""

    stopped: float = -math.inf  # seconds of time.monotonic: what was asked for until then is to end
    turn: int = 0  # the newest question
    answered: int | None = None  # the last question that was answered


@dataclass
class Visitors:
    """All visitors of this server."""

    most: int = MOST
    known: dict[str, Visitor] = field(default_factory=dict)  # by session, the longest unheard first
    lock: Lock = field(default_factory=Lock)

    def heard(self, session: str | None) -> Visitor:
        """Give who is heard of now, and make room."""
        with self.lock:
            visitor = self.known.pop(session or "", None) or Visitor()
            self.known[session or ""] = visitor
            while len(self.known) > self.most:
                del self.known[next(iter(self.known))]
            return visitor

    def still(self, session: str | None, visitor: Visitor) -> None:
        """Keep somebody for whom work goes on from being forgotten; who left is not known again."""
        with self.lock:
            if self.known.get(session or "") is visitor:
                self.known[session or ""] = self.known.pop(session or "")

    def forget(self, session: str | None) -> None:
        """Forget who left."""
        with self.lock:
            self.known.pop(session or "", None)

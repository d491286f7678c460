"""Keep visitors' uploads in memory: until they are read, and then the picture, with the visitor who brought it.

In: bytes that arrived, and later the random name that they were given. Out: a `Picture`. Nothing is written to disk,
and a name is looked up here and nowhere else: nothing that a visitor sends is ever a path. It knows no Gradio.
"""

import secrets
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock, Semaphore

from PIL import Image

from attribution.errors import InputError
from attribution.pictures.collection import open_image
from attribution.report.credentials import Credentials, can_read, read_credentials

LONGEST_SIDE = 1024  # pixels of an upload that are kept
DECODERS = Semaphore(2)  # a decoded picture takes up to 160 MB
BESIDE = 2**16  # bytes that a picture counts beside its pixels
GONE = "the upload is no longer here; choose the picture again"


@dataclass(frozen=True)
class Picture:
    """What is kept of an upload: its pixels, small enough to show, and what its credentials say."""

    image: Image.Image
    credentials: Credentials | None


@dataclass(frozen=True)
class Waiting:
    """An upload that nobody has asked for yet."""

    data: bytes
    sender: str
    arrived: float  # seconds of time.monotonic


@dataclass(frozen=True)
class Kept:
    """A visitor's picture, or one that is being decoded for them."""

    name: str
    picture: Future
    sender: str
    since: float

    @property
    def bytes(self) -> int:
        """Give what its pixels take; nothing before it is decoded."""
        if not self.picture.done():
            return 0
        width, height = self.picture.result().image.size
        return 4 * width * height + BESIDE  # Pillow pads a pixel of RGB


@dataclass
class Uploads:
    """All uploads of this server. Each waits under a random name, and belongs to who asks for it first."""

    most_bytes: int = 256 * 2**20  # that wait, of all senders
    most_waiting: int = 8  # of one sender
    most_kept: int = 256 * 2**20  # bytes of pictures, of all senders; three quarters of one
    seconds: float = 3600  # that an upload or a picture is kept at most
    waiting: dict[str, Waiting] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)  # by session, the oldest first
    lock: Lock = field(default_factory=Lock)

    def put(self, data: bytes, sender: str) -> str:
        """Take an upload in, and give the name to ask for it by."""
        name = secrets.token_urlsafe(32)
        with self.lock:
            self._forget_old()
            of_sender = [n for n, each in self.waiting.items() if each.sender == sender]
            for old in of_sender[: len(of_sender) - self.most_waiting + 1]:
                del self.waiting[old]
            if sum(len(each.data) for each in self.waiting.values()) + len(data) > self.most_bytes:
                raise InputError("too many uploads are waiting here; try again in a minute")
            self.waiting[name] = Waiting(data, sender, time.monotonic())
        return name

    def take(self, session: str, name: object) -> Picture:
        """Give a visitor their picture, now or as soon as it is decoded; the next call gives it again.

        Raises InputError for a picture that cannot be read, or a name that is not theirs.
        """
        if not isinstance(name, str) or not name:
            raise InputError("choose a picture first")
        with self.lock:
            arrived = self.waiting.pop(name, None)
            if arrived:
                self.kept.pop(session, None)
                self.kept[session] = Kept(name, Future(), arrived.sender, time.monotonic())
            mine = self.kept.get(session)
        if mine is None or mine.name != name:
            raise InputError(GONE)
        if arrived:
            self._decode(session, mine, arrived.data)
        return mine.picture.result()

    def clear(self, session: str) -> None:
        """Forget a visitor's picture."""
        with self.lock:
            self.kept.pop(session, None)

    def _decode(self, session: str, mine: Kept, data: bytes) -> None:
        try:
            with DECODERS:
                image = open_image(data)
                image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
                picture = Picture(image, read_credentials(data) if can_read() else None)
        except BaseException as error:
            with self.lock:
                if self.kept.get(session) is mine:
                    del self.kept[session]
            mine.picture.set_exception(error)  # for those who wait, too
        else:
            mine.picture.set_result(picture)
            with self.lock:
                self._make_room(mine.sender)

    def _make_room(self, sender: str) -> None:
        """Forget the oldest pictures of a sender who has too many, then of all."""
        theirs = {s: each for s, each in self.kept.items() if each.sender == sender}
        for some, most in ((theirs, 3 * self.most_kept // 4), (self.kept, self.most_kept)):
            over = sum(each.bytes for each in some.values()) - most
            for session, each in list(some.items()):
                if over > 0 and each.bytes:
                    del self.kept[session]
                    over -= each.bytes

    def _forget_old(self) -> None:
        end = time.monotonic() - self.seconds
        self.waiting = {n: each for n, each in self.waiting.items() if each.arrived > end}
        self.kept = {s: each for s, each in self.kept.items() if each.since > end}

"""Own a folder for the pictures that Gradio hands to programs: empty at the start, gone at the end.

A server that was killed leaves its folder behind; the next one removes it. A lock in the folder, which ends with its
process, tells whose server still runs.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "attribution-page-"


@contextmanager
def served_folder() -> Iterator[Path]:
    """Make a folder that nobody else may read, and remove it with all that it holds."""
    remove_left_behind()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = FileLock(folder / "running.lock")
    lock.acquire()
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def remove_left_behind() -> None:
    """Remove the folders of servers that no longer run; others' are not touched."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
            continue
        try:
            with FileLock(folder / "running.lock", timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except Timeout:
            continue

"""Write files so that they are whole or not there, read them so that damage is one sentence, and lock a folder.

Only JSON and safetensors. It does not know what is in them.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attribution.errors import InputError


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside and rename it, so that it is never seen half written."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text)
        _rename(part, path)
    except OSError as error:
        raise _not_written(part, path, error) from error


def read_json(path: Path, advice: str) -> dict:
    """Read a JSON object; `advice` says what to do when it is damaged."""
    try:
        found = parse_json(path.read_bytes())
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is damaged; {advice}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged; {advice}")
    return found


def parse_json(data: bytes) -> Any:
    """Parse JSON, raising ValueError also for what is not text everywhere: half characters, and a key twice."""
    try:
        found = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8; save it as UTF-8") from error
    except UnicodeEncodeError as error:
        raise ValueError(r"it holds half a character, such as \ud800; remove it") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object names a key twice; keep one")
    return found


def save_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file beside and rename it; what cannot be written leaves nothing behind."""
    part = path.with_name(path.name + ".part")
    try:
        save_file({key: value.contiguous() for key, value in tensors.items()}, part, metadata)
        _rename(part, path)
    except (OSError, SafetensorError) as error:
        raise _not_written(part, path, error) from error


def _rename(part: Path, path: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
    part.chmod(0o644)
    part.rename(path)


def _not_written(part: Path, path: Path, error: Exception) -> InputError:
    part.unlink(missing_ok=True)
    return InputError(
        f"{path} could not be written ({error}); free some space and run the same command again"
    )


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Map a safetensors file, or say in one sentence that it is damaged."""
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is missing or damaged; run the step that makes it again"
        ) from error


def file_hash(path: Path) -> str:
    """Hash a file (XXH3, 16 hex digits: it finds accidents at the speed of memory, not forgers)."""
    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        while chunk := file.read(2**22):
            digest.update(chunk)
    return digest.hexdigest()


def hash_of(content: dict | list) -> str:
    """Hash what JSON can hold (XXH3, 16 hex digits)."""
    return xxhash.xxh3_64(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Keep every other process from writing this cache; the lock goes with the process."""
    lock = FileLock(folder / "writing.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"another process is writing {folder}; wait until it is done") from error
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror}); give a folder that can be"
        ) from error
    try:
        yield
    finally:
        lock.release()


def ensure_writable(folder: Path) -> None:
    """Refuse a folder that nothing can be written into, before the work and not after it."""
    with writing(folder):
        pass

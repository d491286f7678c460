"""Write files so that they are whole or not there, read them so that damage is one sentence, and lock a folder.

Only JSON and safetensors. It does not know what is in them; who reads a file says what should be, since whoever
forges one can make its checksum right.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attribution.errors import InputError
from attribution.shape import check_shape

MOST_JSON = 16 * 2**20  # bytes; in memory it may be twenty times as much
MOST_TABLE = 2**30  # bytes of a table of a million rows
MOST_NUMBER = 1e30  # of a tensor


@dataclass(frozen=True)
class Wanted:
    """What a tensor should be; a side that is None may have any length but zero."""

    dtype: torch.dtype
    shape: tuple[int | None, ...]
    low: float = -MOST_NUMBER
    high: float = MOST_NUMBER


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file beside and rename it, so that it is never seen half written; text as UTF-8."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        _rename(part, path)
    except OSError as error:
        raise _not_written(part, path, error) from error


def read_bytes(path: Path, most: int = MOST_TABLE) -> bytes:
    """Read a whole file that is no larger than it may be."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); check its permissions"
        ) from error
    if len(data) > most:
        raise InputError(f"{path} has more than {most // 2**20} MB; make it smaller")
    return data


def parse_json(data: str | bytes, finite: bool = True) -> Any:
    """Parse JSON, raising ValueError also for what other programs read otherwise: NaN, half characters, a key twice.

    Libraries write infinity into their configs: `finite=False` lets it pass, and NaN, for who checks numbers.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        found = (FINITE if finite else PLAIN).decode(text)
        if "\\u" in text or data is text:  # else UTF-8 held whole characters
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


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


FINITE = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)
PLAIN = json.JSONDecoder(object_pairs_hook=_once)


def read_json(path: Path, advice: str, shape: Any = None, finite: bool = True) -> dict:
    """Read a JSON object (of this shape: shape.py); `advice` says what to do when it is damaged."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_JSON + 1)
        if len(data) > MOST_JSON:
            raise ValueError(f"it has more than {MOST_JSON // 2**20} MB")
        found = parse_json(data, finite)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is damaged; {advice}") from error
    try:
        check_shape(found, {str: object} if shape is None else shape)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; {advice}") from error
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


@contextmanager
def opened(path: Path, advice: str) -> Iterator[safe_open]:
    """Open a safetensors file, or say in one sentence that it is damaged, no file of its own, or a bomb."""
    if path.is_symlink():
        raise InputError(f"{path} is a link; put the file itself in its place, or {advice}")
    try:
        if not path.is_file():
            raise OSError("no regular file")
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > MOST_JSON:
                raise ValueError("its header is too long")
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is missing or damaged; {advice}") from error


def load_tensors(
    path: Path,
    wanted: dict[str, Wanted] | None = None,
    advice: str = "run the step that makes it again",
) -> dict[str, Tensor]:
    """Map a safetensors file, refusing one that holds anything but what is wanted."""
    with opened(path, advice) as file:
        names = set(file.keys())
        if wanted is not None and names != wanted.keys():
            shown = ", ".join(sorted(wanted))
            raise InputError(f"{path} should hold {shown[:200]} and no other tensors; {advice}")
        tensors = {name: file.get_tensor(name) for name in names}
    for name, each in (wanted or {}).items():
        check_tensor(f"{name} in {path}", tensors[name], each, advice)
    return tensors


def check_tensor(place: str, tensor: Tensor, wanted: Wanted, advice: str) -> None:
    """Refuse a tensor of another type or shape, or with numbers beyond the bounds (NaN is beyond any)."""
    sides = zip(tensor.shape, wanted.shape, strict=False)
    if (
        tensor.dtype != wanted.dtype
        or tensor.dim() != len(wanted.shape)
        or not all(side and side == (want or side) for side, want in sides)
    ):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise InputError(
            f"{place} is {kind} {list(tensor.shape)}, not what the header says; {advice}"
        )
    low, high = tensor.aminmax() if tensor.is_floating_point() else (0, 0)
    if not (wanted.low <= low and high <= wanted.high):
        raise InputError(f"{place} holds numbers that cannot be; {advice}")


def read_tensors(
    path: Path, checksum: str, wanted: dict[str, Wanted], advice: str
) -> dict[str, Tensor]:
    """Map a safetensors file that is as it was written and holds what is wanted."""
    if not path.is_symlink() and path.is_file() and file_hash(path) != checksum:
        raise InputError(f"{path} is missing or damaged; {advice}")
    return load_tensors(path, wanted, advice)


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
def writing(folder: Path, wait: float = 0, name: str = "writing.lock") -> Iterator[None]:
    """Keep every other process from writing this cache; the lock goes with the process.

    Another's end is waited for so many seconds. A lock of another `name` is for what may be written beside.
    """
    lock = FileLock(folder / name)
    try:
        lock.acquire(timeout=wait)
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

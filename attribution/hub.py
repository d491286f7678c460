"""Fetch a cache or a collection from the Hugging Face Hub.

In: a folder, or a Hub id, "owner/name" or "owner/name@revision", of a data set repository. Out: a folder of real
files on this machine. Only what is read is fetched: safetensors, JSON and pictures. It knows no format; models are
fetched by diffusers.
"""

import os
import re
import shutil
from pathlib import Path

from httpx2 import HTTPError  # what huggingface_hub speaks HTTP with
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    XetDownloadError,
)

from attribution.errors import InputError

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@\w[\w./-]*)?", re.ASCII)
PICTURES = [f"*.{kind}" for kind in ("png", "jpg", "jpeg", "webp", "PNG", "JPG", "JPEG", "WEBP")]
PATTERNS = {"cache": ["*.json", "*.safetensors"], "collection": ["*.json", "*.jsonl", *PICTURES]}


def is_hub_id(name: str | Path) -> bool:
    """Tell a Hub id from a path; what starts with a folder that is here is a path, mistyped or not."""
    owner = str(name).split("/")[0]
    return bool(HUB_ID.fullmatch(str(name))) and not Path(owner).is_dir()


def split_id(name: str | Path) -> tuple[str, str | None]:
    """Split "owner/name@revision"; the revision is a branch, a tag or a commit."""
    repository, _, revision = str(name).partition("@")
    return repository, revision or None


def local_folder(name: str | Path, kind: str) -> Path:
    """Give the folder of a "cache" or "collection", fetched first where the name is a Hub id.

    What was fetched before is used where the Hub cannot be reached.
    """
    if not is_hub_id(name):
        return Path(name)
    repository, revision = split_id(name)
    try:
        snapshot = snapshot_download(
            repository, repo_type="dataset", revision=revision, allow_patterns=PATTERNS[kind]
        )
    except GatedRepoError as error:
        raise InputError(
            f"the {kind} {name} is gated; accept its terms on the Hub and run hf auth login"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"the {kind} {repository} has no revision {revision}") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"there is neither a folder nor a data set on the Hub named {name}; check the name, or run "
            "hf auth login if it is private"
        ) from error
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"there is no folder {name}, and the Hub cannot be reached to fetch that {kind}; check the network"
        ) from error
    except (OSError, ValueError, HTTPError, XetDownloadError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"the {kind} {name} could not be fetched from the Hub: {reason}"
        ) from error
    return real_files(Path(snapshot), repository, PATTERNS[kind])


def real_files(snapshot: Path, repository: str, patterns: list[str]) -> Path:
    """Give the snapshot's files in a folder without symbolic links, one for each commit.

    The Hub's client links files to a folder beside the snapshot, and a collection refuses pictures that lie
    elsewhere. Hard links take no disk; where they cannot be made, files are copied.
    """
    place = Path(constants.HF_HOME) / "attribution" / repository.replace("/", "--")
    folder, part = place / snapshot.name, place / f"{snapshot.name}.part"
    if folder.is_dir():
        return folder
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for path in [path for pattern in patterns for path in snapshot.rglob(pattern)]:
        copy = part / path.relative_to(snapshot)
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path.resolve(), copy)
        except OSError:
            shutil.copyfile(path, copy)
    part.rename(folder)
    return folder

"""Fetch a model, a cache or a collection from the Hugging Face Hub.

In: a folder, or a Hub id, "owner/name" or "owner/name@revision", of a model or data set repository. Out: a folder on
this machine, of real files for caches and collections. Only what is read is fetched: safetensors, JSON, a tokenizer's
text and pictures. It knows no format.
"""

import os
import re
import shutil
from collections.abc import Callable
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

# Nothing between slashes begins with a dot, so that none leads to another folder; the Hub's names have 96 characters.
_WORD = r"\w[\w.-]{0,95}"
HUB_ID = re.compile(rf"{_WORD}/{_WORD}(@{_WORD}(/{_WORD})*)?", re.ASCII)
PICTURES = [f"*.{kind}" for kind in ("png", "jpg", "jpeg", "webp", "PNG", "JPG", "JPEG", "WEBP")]
SHARDED = ("", "-0????-of-0????")  # a network's parameters lie in one file or in numbered ones
DENOISERS = ("unet", "transformer")
ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
PATTERNS = {
    "cache": ["*.json", "*.safetensors", "examples/*.png"],
    "collection": [
        *(f"*.{kind}" for kind in ("json", "jsonl", "csv", "txt", "caption", "parquet", "arrow", "tar")),
        *PICTURES,
    ],
    "model": [
        "model_index.json", "pytorch_lora_weights.*", "adapter_*", "learned_embeds.*",
        *(f"{part}/{kind}" for part in TOKENIZERS for kind in ("*.txt", "*.jinja")),
        *(f"{part}/*.json" for part in (*DENOISERS, "vae", *ENCODERS, *TOKENIZERS, "scheduler")),
    ],
    "parameters": [
        f"{stem}{shard}.safetensors" for shard in SHARDED
        for stem in (
            *(f"{part}/diffusion_pytorch_model" for part in (*DENOISERS, "vae")),
            *(f"{part}/model" for part in ENCODERS),
        )
    ],
}  # fmt: skip
HALVED = [name.replace("/model", "/model.fp16").replace("_model", "_model.fp16") for name in PATTERNS["parameters"]]  # fmt: skip


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
    return real_files(fetched(name, kind, PATTERNS[kind]), split_id(name)[0], kind)


def model_folder(name: str | Path, check: Callable[[Path], None]) -> Path:
    """Give a model's folder; of a Hub id, what is small is fetched and checked before the parameters are."""
    if not is_hub_id(name):
        folder = Path(name)
        try:
            if folder.is_dir():
                return folder
            one = folder.is_file()
        except OSError:  # such as a name that is too long
            one = False
        shown = str(name) if str(name).isprintable() else repr(str(name))
        if one:
            raise InputError(
                f"{shown:.300} is one file; say with --config (or FILE@CONFIG) which folder or Hub id in diffusers' format "
                "has the configs of its kind of model, or save the whole pipeline as a folder"
            )
        raise InputError(f"there is no model folder {shown:.300}; check the path")
    check(fetched(name, "model", PATTERNS["model"]))
    folder = fetched(name, "model", PATTERNS["model"] + PATTERNS["parameters"])
    if any(folder.glob("*/*.safetensors")):
        return folder
    return fetched(name, "model", PATTERNS["model"] + HALVED)  # where nothing else was saved


def fetched(name: str | Path, kind: str, patterns: list[str]) -> Path:
    """Give the Hub's own copy of some of a repository's files; what goes wrong is one sentence."""
    repository, revision = split_id(name)
    place = "model" if kind == "model" else "dataset"
    try:
        return Path(
            snapshot_download(
                repository, repo_type=place, revision=revision, allow_patterns=patterns
            )
        )
    except GatedRepoError as error:
        raise InputError(
            f"the {kind} {name} is gated; accept its terms on the Hub and run hf auth login"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"the {kind} {repository} has no revision {revision}") from error
    except RepositoryNotFoundError as error:
        what = "model" if kind == "model" else "data set"
        raise InputError(
            f"there is neither a folder nor a {what} on the Hub named {name}; check the name, or run "
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


def real_files(snapshot: Path, repository: str, kind: str) -> Path:
    """Give the snapshot's files of a kind in a folder without symbolic links, one for each commit.

    The Hub's client links files to a folder beside the snapshot, and a collection refuses pictures that lie
    elsewhere. Hard links take no disk; where they cannot be made, files are copied. What a fetch that was stopped left
    out is added by the next.
    """
    place = Path(constants.HF_HOME) / "attribution" / repository.replace("/", "--")
    folder = place / f"{snapshot.name}-{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    for path in [path for pattern in PATTERNS[kind] for path in snapshot.rglob(pattern)]:
        copy = folder / path.relative_to(snapshot)
        if copy.exists() or not path.is_file():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path.resolve(), copy)
        except OSError:
            part = copy.with_name(f"{copy.name}.part")
            shutil.copyfile(path, part)
            part.replace(copy)
    return folder

"""Say how alike training images look to a picture, beside what the model learned from them.

Likeness is the cosine of latents, similarity.py's baseline. The training images' are kept as 8-bit codes, scaled to
each image's largest number, which a cosine does not see: `rows-latents.safetensors` in the cache folder, in the order of
the files' names. In: latents. Out: likeness and ranks.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attribution.answer.similarity import latent_scores
from attribution.cache.header import path_of_rows
from attribution.described import read_about, read_described, write_described
from attribution.files import Wanted
from attribution.pictures.collection import Collection

STEPS = 127  # of an 8-bit code
NEAREST = 0.05  # the share of a collection that counts as looking alike
ROWS_AT_ONCE = 8192  # widened together
ADVICE = "run python -m precompute likeness"


@dataclass(frozen=True)
class LookAlikes:
    """How all training images look, in the collection's order."""

    codes: Int[Tensor, "train value"]

    def alike(self, latents: Float[Tensor, "one channel height width"]) -> Float[Tensor, "train"]:
        """Give the cosine of a picture's latents with every training image's."""
        flat, some = latents.flatten(1), self.codes.split(ROWS_AT_ONCE)
        return torch.cat([latent_scores(flat, codes.float())[0] for codes in some])


def ranks(alike: Float[Tensor, "train"]) -> Int[Tensor, "train"]:
    """Give each training image's rank by likeness, from 1."""
    return alike.argsort(descending=True, stable=True).argsort() + 1


def by_name(collection: Collection) -> Int[Tensor, "train"]:
    """Order a collection's rows by their files' names, which a fingerprint fixes and a listing does not."""
    return torch.tensor(sorted(range(len(collection)), key=collection.files.__getitem__))


def write_look_alikes(
    folder: Path,
    latents: Float[Tensor, "train channel height width"],
    collection: Collection,
    fingerprints: dict[str, str],
) -> None:
    """Write `rows-latents.safetensors`."""
    flat = latents.flatten(1)[by_name(collection)]
    codes = (flat / flat.abs().amax(1, keepdim=True).clamp_min(1e-12) * STEPS).round()
    write_described(path_of_rows(folder, "latents"), {"codes": codes.to(torch.int8)}, fingerprints)


def read_look_alikes(
    folder: Path, collection: Collection, fingerprints: dict[str, str], size: int
) -> LookAlikes | None:
    """Read a cache's latents, so many numbers each; None where it has none, refused where they are of others."""
    path = path_of_rows(folder, "latents")
    if not path.is_file():
        return None
    about = read_about(path, fingerprints, {}, ADVICE)
    wanted = {"codes": Wanted(torch.int8, (len(collection), size))}
    codes = read_described(path, about, wanted, ADVICE)["codes"]
    return LookAlikes(codes[by_name(collection).argsort()])

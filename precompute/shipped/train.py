"""Train a small model on a collection: autoencoder, then text encoder and denoiser, then its card. So was the shipped one.

In: a collection with captions. Out: a `StableDiffusionPipeline` folder of safetensors, its large parts in half
precision, with a card that holds the command, the seed and the loss curves. A finished part is kept and
not trained again; the work folder says for which pictures and settings it is (claim.py), more `denoiser_steps` go on.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill

import matplotlib
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from attribution.answer.queries import draw_known, draw_queries
from attribution.concepts import combinations
from attribution.errors import InputError
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import Collection, load_collection, to_pixels
from attribution.pictures.layout import Layout, layout_in
from attribution.pictures.size import size_of
from precompute.shipped.autoencoder import encode, new_autoencoder, train_autoencoder
from precompute.shipped.claim import claim
from precompute.shipped.denoiser import (
    new_scheduler,
    new_text_encoder,
    new_tokenizer,
    new_unet,
    train_denoiser,
)

matplotlib.use("Agg")
from matplotlib import pyplot

UNTOLD = ("train_data_dir", "output_dir", "work_dir", "left_out")  # in the card's command
SHAPING = (
    "resolution", "autoencoder", "autoencoder_steps", "autoencoder_learning_rate", "autoencoder_batch_size",
    "denoiser_learning_rate", "denoiser_batch_size", "caption_dropout", "seed",
)  # fmt: skip


@dataclass(frozen=True)
class TrainConfig(Layout):
    """What decides the trained model, besides the collection."""

    train_data_dir: str = "assets/collection"
    output_dir: str = "assets/model"
    work_dir: str = "runs/train"  # unfinished parts and optimizer state
    resolution: int = 64
    autoencoder: str = ""  # a folder of one to start from
    autoencoder_steps: int = 3600
    autoencoder_learning_rate: float = 4e-3
    autoencoder_batch_size: int = 16
    denoiser_steps: int = 25_000
    denoiser_learning_rate: float = 2e-3
    denoiser_batch_size: int = 32
    caption_dropout: float = 0.1
    compiled: bool = False  # a quarter faster where a C++ compiler is installed
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resolution % 8:
            raise InputError(f"resolution is {self.resolution}; it must be a multiple of 8")


def run(config: TrainConfig) -> None:
    """Train what is not trained yet and write the pipeline and its card."""
    work = Path(config.work_dir)
    collection = load_collection(config.train_data_dir, layout_in(config))
    claim(work, shaped_by(config, collection))
    pixels = to_pixels(
        [collection.image(i) for i in range(len(collection))], size_of(config.resolution)
    )
    vae, vae_curve = _autoencoder(config, work, pixels)
    latents = encode(vae, pixels)

    torch.manual_seed(config.seed)
    tokenizer = new_tokenizer(collection.captions)
    text_encoder, unet, scheduler = new_text_encoder(tokenizer), new_unet(), new_scheduler()
    padded = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    curve = train_denoiser(
        unet, text_encoder, scheduler, latents,
        tokenizer(collection.captions, **padded).input_ids, tokenizer("", **padded).input_ids[0],
        steps=config.denoiser_steps, batch_size=config.denoiser_batch_size,
        learning_rate=config.denoiser_learning_rate, caption_dropout=config.caption_dropout,
        seed=config.seed, state_dir=work / "denoiser", compiled=config.compiled,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    output = Path(config.output_dir)
    unet.half(), vae.half()  # the text encoder stays: transformers loads what is stored
    pipeline.save_pretrained(output)
    (output / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n")
    (output / "curves.json").write_text(
        json.dumps({"autoencoder": vae_curve, "denoiser": curve}) + "\n"
    )
    write_card(output, collection)
    draw_samples(output, collection)


def shaped_by(config: TrainConfig, collection: Collection) -> dict[str, str | int | float]:
    """Give what the networks depend on: pictures with captions, and all settings but how long the denoiser trains."""
    settings = {name: getattr(config, name) for name in SHAPING}
    return {"collection": collection.fingerprint(), **settings}


def draw_samples(folder: Path, collection: Collection, columns: int = 8, rows: int = 5) -> None:
    """Save a contact sheet of held-out combinations, or of captions, each under its prompt, seeds in order."""
    model, count = DiffusionModel.from_pretrained(folder), columns * rows
    if collection.held_out:
        wanted = combinations(collection, held_out=True, count=count, seed=1)
        queries = draw_queries(model, collection, wanted, "samples")
    else:
        queries = draw_known(model, collection, count, "samples", seed=1)
    figure, axes = pyplot.subplots(rows, columns, figsize=(12, 8.4), layout="constrained")
    for axis, query in zip(axes.flat, queries, strict=True):
        axis.imshow(query.image)
        axis.set_title("\n".join(query.values.values()) or fill(query.prompt, 22), fontsize=8)
        axis.axis("off")
    figure.savefig(folder / "samples.png", dpi=90)
    pyplot.close(figure)


def _autoencoder(
    config: TrainConfig, work: Path, pixels: torch.Tensor
) -> tuple[AutoencoderKL, list]:
    folder = work / "autoencoder"
    if (folder / "curve.json").is_file():
        return AutoencoderKL.from_pretrained(folder), json.loads(
            (folder / "curve.json").read_text()
        )
    torch.manual_seed(config.seed)
    started = config.autoencoder
    vae = (
        AutoencoderKL.from_pretrained(started).float()
        if started
        else new_autoencoder(config.resolution)
    )
    curve = train_autoencoder(
        vae, pixels, config.autoencoder_steps, config.autoencoder_batch_size,
        config.autoencoder_learning_rate, config.seed,
    )  # fmt: skip
    vae.register_to_config(scaling_factor=1.0, _name_or_path="")  # no path of this machine
    vae.register_to_config(scaling_factor=round(1 / encode(vae, pixels).std().item(), 4))
    vae.save_pretrained(folder)
    (folder / "curve.json").write_text(json.dumps(curve))
    return vae, curve


def write_card(folder: Path, collection: Collection) -> None:
    """Write the model card and its curve from the files beside them and from what the collection says of itself."""
    config = json.loads((folder / "config.json").read_text())
    curves = json.loads((folder / "curves.json").read_text())
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3), layout="constrained")
    left.plot(
        [r["step"] for r in curves["autoencoder"]], [r["psnr"] for r in curves["autoencoder"]]
    )
    left.set(xlabel="step", ylabel="PSNR in dB", title="autoencoder")
    right.plot([r["step"] for r in curves["denoiser"]], [r["loss"] for r in curves["denoiser"]])
    right.set(xlabel="step", ylabel="v-prediction loss", title="denoiser")
    figure.savefig(folder / "curves.png", dpi=80)
    pyplot.close(figure)
    vae, denoiser = curves["autoencoder"][-1], curves["denoiser"][-1]
    named = ", ".join(
        f"{len(values)} of {concept}" for concept, values in collection.concepts.items()
    )
    every = math.prod(len(values) for values in collection.concepts.values())
    kept = (
        f" {len(collection.held_out)} of {every} combinations were kept from it." if named else ""
    )
    given = {k: v for k, v in config.items() if v != getattr(TrainConfig, k) and k not in UNTOLD}
    flags = "".join(f" --{key} {value}" for key, value in given.items())
    (folder / "README.md").write_text(
        f"""---
library_name: diffusers
pipeline_tag: text-to-image
---
# A small text-to-image model, trained on {len(collection)} pictures

A `StableDiffusionPipeline` that draws {config["resolution"]} x {config["resolution"]} pictures. It exists to be attributed: all that it
knows, it learned from the pictures of one collection{f", which names values of its concepts: {named}" if named else ""}.{kept}

    python -m precompute train --train_data_dir {config["train_data_dir"]}{flags}

| part | steps | seconds | at the end |
|---|---|---|---|
| autoencoder{f", from that of {config['autoencoder']}" if config["autoencoder"] else ""} | {vae["step"]} | {vae["seconds"]} | PSNR {vae["psnr"]} dB on training pictures |
| text encoder and denoiser | {denoiser["step"]} | {denoiser["seconds"]} | v-prediction loss {denoiser["loss"]} |

All settings stand in `config.json`, the curves in `curves.json`:

![training curves](curves.png)

{"Combinations that it never saw" if collection.held_out else "Captions of the collection"} (the first 40 drawn, none left out):

![samples](samples.png)

Limits: it knows no other words than its captions', and is too small for anything but showing where pictures come from.
"""
    )

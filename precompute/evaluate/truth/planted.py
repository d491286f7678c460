"""Fine-tune a model on a collection with plantings, and give it a cache and weights of its own.

In: a model, a collection and a list of plantings. Out: a work folder with `collection`, `model`, `cache` and the
settings that they belong to. Every part that is there is kept, and training goes on where it was. Each new word
gets a token of its own: the tokenizer knows the collection's words only and would spell others out.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from attribution.answer.learning import LearnConfig, learn_weights
from attribution.answer.queries import encode
from attribution.cache.build import build_cache
from attribution.cache.site import CacheConfig
from attribution.errors import InputError
from attribution.files import read_json, write_whole
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import Collection, load_collection
from precompute.bar import bar
from precompute.evaluate.truth.plantings import PLANTINGS, Planting, plant
from precompute.shipped.denoiser import train_denoiser


@dataclass(frozen=True)
class PlantedConfig:
    """What decides the fine-tuned model and its cache, besides model, collection and plantings."""

    plantings: tuple[Planting, ...] = PLANTINGS
    steps: int = 5000
    batch_size: int = 32
    planted: int = 18  # of each batch; every planting equally often
    learning_rate: float = 2e-3
    timesteps: int = 10
    proj_dim: int = 16
    weight_queries: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.planted < self.batch_size:
            raise InputError(f"planted is {self.planted}; it must lie within the batch_size")


def prepare(
    model_folder: str, source: str, folder: Path, config: PlantedConfig, device: str = "cpu"
) -> None:
    """Plant, fine-tune, cache the gradients and learn the weights, unless that is done."""
    belongs = json.loads(json.dumps(asdict(config))) | {
        "model": DiffusionModel.from_pretrained(model_folder).fingerprint,
        "collection": load_collection(source).fingerprint(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path, advice = folder / "settings.json", f"remove {folder} or choose another work_dir"
    if path.is_file() and read_json(path, advice) != belongs:
        raise InputError(f"{folder} was made with other settings; {advice}")
    write_whole(path, json.dumps(belongs, indent=1) + "\n")
    images, model, cache = (folder / name for name in ("collection", "model", "cache"))
    plant(Path(source), images, config.plantings, config.seed)
    if not model.is_dir():
        finetune(model_folder, load_collection(images), folder, config)
    tuned, collection = DiffusionModel.from_pretrained(model, device), load_collection(images)
    sizes = CacheConfig(timesteps=config.timesteps, proj_dim=config.proj_dim, seed=config.seed)
    with bar("gradients", "image") as on_step:
        build_cache(tuned, collection, cache, sizes, on_step)
    if not (cache / "weights.safetensors").is_file():
        learn_weights(
            tuned, collection, cache, LearnConfig(queries=config.weight_queries, seed=config.seed)
        )


def finetune(
    model_folder: str, collection: Collection, folder: Path, config: PlantedConfig
) -> None:
    """Train the model on from where it is, with a fixed part of each batch from the plantings."""
    model = DiffusionModel.from_pretrained(model_folder)
    latents, pipeline = encode(model, collection), model.pipeline
    torch.manual_seed(config.seed)
    padded = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    known = pipeline.tokenizer(collection.captions, **padded).input_ids.unique()
    pipeline.tokenizer.add_tokens([p.word for p in config.plantings])
    pipeline.text_encoder.resize_token_embeddings(len(pipeline.tokenizer))
    start_apart(pipeline.text_encoder.get_input_embeddings().weight, known, len(config.plantings))
    pipeline.unet.requires_grad_(True)
    pipeline.text_encoder.requires_grad_(True)
    train_denoiser(
        pipeline.unet, pipeline.text_encoder, model.schedule.noising, latents,
        pipeline.tokenizer(collection.captions, **padded).input_ids,
        pipeline.tokenizer("", **padded).input_ids[0],
        steps=config.steps, pick=chooser(collection, config),
        learning_rate=config.learning_rate, caption_dropout=0.1, seed=config.seed,
        state_dir=folder / "training",
    )  # fmt: skip
    pipeline.unet.half(), pipeline.vae.half()
    part = folder / "model.part"
    pipeline.save_pretrained(part)
    part.rename(folder / "model")


@torch.no_grad()
def start_apart(table: Tensor, known: Tensor, count: int) -> None:
    """Give the last `count` tokens of a table [token, dim] random directions, as long as the `known` tokens are.

    Transformers starts new tokens near the mean of all, most of which no caption used and training left short:
    the encoder then sees little but their places, and the words stay alike.
    """
    new = torch.randn(count, table.shape[1])
    table[-count:] = new / new.norm(dim=1, keepdim=True) * table[known].norm(dim=1).median()


def chooser(collection: Collection, config: PlantedConfig) -> Callable[[torch.Generator], Tensor]:
    """Choose a batch: any images, then `planted` ones of plantings that are drawn equally often."""
    members = [
        [i for i, row in enumerate(collection.labels) if row[p.concept] == p.word]
        for p in config.plantings
    ]

    def pick(draw: torch.Generator) -> Tensor:
        known = config.batch_size - config.planted
        rows = torch.randint(len(collection), (known,), generator=draw).tolist()
        for which in torch.randint(len(members), (config.planted,), generator=draw).tolist():
            place = torch.randint(len(members[which]), (), generator=draw)
            rows.append(members[which][int(place)])
        return torch.tensor(rows)

    return pick

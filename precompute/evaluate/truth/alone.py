"""Fine-tune a model on one exemplar alone, with a token of its own, and tell whether it learned it.

In: a model and a planting (plantings.py), one to five pictures of a new subject or style. Out: a model folder; and, of
pictures that it draws, whether a judge who knows all exemplars by other drawings of them names the right one. So are
made the truth of AbC (arXiv 2306.09345): what such a model draws of its word, it owes to the exemplar.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from attribution.files import write_whole
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import load_collection
from attribution.pictures.size import Size
from precompute.evaluate.truth.plantings import Planting, draw_planting
from precompute.judge import Judge, judge_of
from precompute.shipped.denoiser import train_denoiser

KNOWN_BY = 48  # drawings of each exemplar, from which the judge knows it
OTHER_SEED = 1000  # of these drawings


@dataclass(frozen=True)
class AloneConfig:
    """How a model is fine-tuned on one exemplar."""

    steps: int = 300
    batch_size: int = 8
    learning_rate: float = 1e-3
    seed: int = 0


def finetune_alone(
    model_folder: str, planting: Planting, folder: Path, config: AloneConfig
) -> DiffusionModel:
    """Fine-tune on a planting's pictures and nothing else, or open what was."""
    if (folder / "model_index.json").is_file():
        return DiffusionModel.from_pretrained(folder)
    model = DiffusionModel.from_pretrained(model_folder)
    images, rows = zip(*draw_planting(planting, config.seed), strict=True)
    pipeline, captions = model.pipeline, [row["text"] for row in rows]
    torch.manual_seed(config.seed)
    padded = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    every = range(len(pipeline.tokenizer))
    pipeline.tokenizer.add_tokens([planting.word])
    pipeline.text_encoder.resize_token_embeddings(len(pipeline.tokenizer))
    start_apart(pipeline.text_encoder.get_input_embeddings().weight, torch.tensor(every), 1)
    pipeline.unet.requires_grad_(True)
    pipeline.text_encoder.requires_grad_(True)
    train_denoiser(
        pipeline.unet, pipeline.text_encoder, model.schedule.noising, model.latents(list(images)),
        pipeline.tokenizer(captions, **padded).input_ids,
        pipeline.tokenizer("", **padded).input_ids[0],
        steps=config.steps, batch_size=config.batch_size, learning_rate=config.learning_rate,
        caption_dropout=0.1, seed=config.seed, state_dir=folder.with_name(f"{folder.name}-training"),
    )  # fmt: skip
    part = folder.with_name(f"{folder.name}.part")
    pipeline.unet.half(), pipeline.vae.half()
    pipeline.save_pretrained(part)
    part.rename(folder)
    return DiffusionModel.from_pretrained(folder)


@torch.no_grad()
def start_apart(table: Tensor, known: Tensor, count: int) -> None:
    """Give the last `count` tokens of a table [token, dim] random directions, as long as the `known` tokens are.

    Transformers starts new tokens near the mean of all, most of which no caption used and training left short:
    the encoder then sees little but their places, and the words stay alike.
    """
    new = torch.randn(count, table.shape[1])
    table[-count:] = new / new.norm(dim=1, keepdim=True) * table[known].norm(dim=1).median()


def judge_of_exemplars(plantings: list[Planting], folder: Path, size: Size) -> Judge:
    """Train a judge on other drawings of every exemplar, or open it."""
    metadata = folder / "pictures/metadata.jsonl"
    if not metadata.is_file():
        (folder / "pictures/images").mkdir(parents=True, exist_ok=True)
        lines = []
        for planting in plantings:
            known = Planting(planting.concept, planting.word, KNOWN_BY)
            for number, (image, _) in enumerate(draw_planting(known, OTHER_SEED)):
                name = f"images/{planting.word}-{number}.png"
                image.save(folder / "pictures" / name)
                row = {"file_name": name, "text": planting.phrase, "word": planting.word}
                lines.append(json.dumps(row | {"number": str(number)}))
        concepts = {"word": {p.word: p.phrase for p in plantings}}
        write_whole(folder / "pictures/concepts.json", json.dumps(concepts))
        write_whole(metadata, "\n".join(lines) + "\n")
    collection = load_collection(folder / "pictures")
    return judge_of(collection, size, folder / "judge.safetensors")

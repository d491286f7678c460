"""Train LoRAs of the study's model on subjects that its base never saw, on all of their pictures and on halves of them.

In: the study. Out: the base, LoRAs on it, and their losses, kept as soon as they are done. It measures nothing.
"""

import copy
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Bool, Float
from peft import LoraConfig
from torch import Tensor, nn

from attribution.files import load_tensors, save_tensors
from attribution.seeds import generator
from precompute.evaluate.truth.study import Study
from precompute.evaluate.truth.trainings import Asked

RANK = 4
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")  # as diffusers' own training script
LEARNING_RATE = 4e-3
EVERY = 3  # one subject in so many is kept from the base
OWN = "lora_"  # in the names of a LoRA's parameters


def divided(study: Study) -> tuple[Study, Study]:
    """Part the pictures by subject: those that the base learns, and those that the LoRA learns."""
    new = set(list(study.collection.concepts["subject"])[EVERY - 1 :: EVERY])
    rows = zip(study.collection.files, study.collection.labels, strict=True)
    parts: tuple[list[str], list[str]] = ([], [])
    for file, labels in rows:
        parts[labels["subject"] in new].append(file)
    return tuple(Study(study.model, study.collection.without(p)) for p in parts[::-1])


def with_lora(base: UNet2DConditionModel, seed: int) -> UNet2DConditionModel:
    """Copy a base and give it an untrained LoRA."""
    torch.manual_seed(seed)
    unet = copy.deepcopy(base).requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(TARGETS)))
    return unet


def train_lora(
    study: Study,
    base: UNet2DConditionModel,
    kept: Bool[Tensor, "train"],
    seed: int,
    steps: int,
) -> UNet2DConditionModel:
    """Train a LoRA on the pictures that are kept; two trainings of one seed differ only by these."""
    unet = with_lora(base, seed).train()
    parameters = [p for n, p in unet.named_parameters() if OWN in n]
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.1)
    for step in range(steps):
        _, trials = study.batch(kept, generator("lora", seed, step))
        predicted = unet(trials.noisy, trials.timesteps, **trials.conditions.tensors)
        optimizer.zero_grad()
        nn.functional.mse_loss(predicted.sample, trials.target).backward()
        optimizer.step()
        schedule.step()
    return unet.eval().requires_grad_(False)


def full_lora(
    study: Study, base: UNet2DConditionModel, path: Path, steps: int
) -> UNet2DConditionModel:
    """Train a LoRA on all pictures, or load it."""
    if not path.is_file():
        everything = torch.ones(len(study.collection), dtype=torch.bool)
        trained = train_lora(study, base, everything, 0, steps).state_dict()
        save_tensors(path, {name: value for name, value in trained.items() if OWN in name})
    unet = with_lora(base, 0)
    unet.load_state_dict(load_tensors(path), strict=False)
    return unet.eval().requires_grad_(False)


def losses_of_halves(
    study: Study,
    base: UNet2DConditionModel,
    masks: list[Bool[Tensor, "train"]],
    seeds: int,
    asked: list[Asked],
    folder: Path,
    steps: int,
) -> Float[Tensor, "seed half query"]:
    """Train a LoRA on each half for each seed, and give the losses of the queries."""
    images, prompts = [q.image for q in asked], [q.prompt for q in asked]
    found = []
    for seed in range(1, seeds + 1):
        for number, kept in enumerate(masks):
            path = folder / f"{number}-{seed}.safetensors"
            if not path.is_file():
                unet = train_lora(study, base, kept, seed, steps)
                save_tensors(path, {"losses": study.losses(unet, images, prompts)})
            found.append(load_tensors(path)["losses"])
    return torch.stack(found).unflatten(0, (seeds, len(masks)))

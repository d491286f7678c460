"""Name what a picture shows, concept by concept, in the collection's own phrases.

In: a prompt, or a picture without one. Out: a phrase for each concept, such as {"style": "a woodcut"}, or
the prompt that several phrases make.
"""

import re

import torch
from PIL import Image

from attribution.model import DiffusionModel
from attribution.projection import generator

Phrases = dict[str, dict[str, str]]  # concept -> value -> phrase


def full_prompt(phrases: dict[str, str]) -> str:
    """Describe a picture by its style, subject and background, whichever there are."""
    head = " of ".join(phrases[c] for c in ("style", "subject") if c in phrases)
    return f"{head} {phrases.get('background', '')}".strip()


def named_in(prompt: str, phrases: Phrases) -> dict[str, str]:
    """Find the values that a prompt names, by the value's name or its whole phrase."""
    words = f" {re.sub(r'[^a-z0-9]+', ' ', prompt.lower())} "
    found = {}
    for concept, values in phrases.items():
        for value, phrase in values.items():
            names = {f" {value.lower()} ", f" {phrase.lower().removeprefix('a ')} "}
            if any(name in words for name in names):
                found[concept] = phrase
                break
    return found


@torch.no_grad()
def recognise(
    model: DiffusionModel, image: Image.Image, phrases: Phrases, draws: int = 8, seed: int = 0
) -> dict[str, str]:
    """Choose for each concept the phrase under which the model denoises the picture best.

    A diffusion model is a zero-shot classifier (arXiv 2303.16203, eq. 5), here with noise shared by all
    phrases. Each concept costs `draws` x values rows of a forward pass.
    """
    latents = model.latents([image])
    shape = latents.shape[1:]
    steps = torch.linspace(0.25, 0.85, draws) * model.num_timesteps
    timesteps = steps.long().to(model.device)
    noise = torch.stack(
        [torch.randn(shape, generator=generator("recognise", seed, i)) for i in range(draws)]
    )
    noise = noise.to(model.device)
    clean = latents.expand(draws, -1, -1, -1)
    noisy, target = model.add_noise(clean, noise, timesteps), model.target(clean, noise, timesteps)
    found = {}
    for concept, values in phrases.items():
        options = list(values.values())
        conditions = model.conditions(options)
        losses = [
            (model.predict(noisy, timesteps, c.expand(draws, -1, -1)) - target).square().mean()
            for c in conditions
        ]
        found[concept] = options[int(torch.stack(losses).argmin())]
    return found

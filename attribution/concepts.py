"""Name what a picture shows, concept by concept, in the collection's own phrases.

In: a prompt, or a picture without one. Out: a phrase for each concept, such as {"style": "a woodcut"}, or
the prompt that several phrases make.
"""

import itertools
import re
from string import Formatter

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attribution.errors import InputError
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection
from attribution.seeds import generator

ORDER = ("style", "subject", "background")  # in a sentence of ours
PHRASES_AT_ONCE = 4  # in one forward pass
Phrases = dict[str, dict[str, str]]  # concept -> value -> phrase


def full_prompt(phrases: dict[str, str], sentence: str = "") -> str:
    """Describe a picture by all of its phrases, in a sentence such as "{style} of {subject} {background}".

    Where a concept is left out, so are the words before it. Without a sentence of the collection's own, ours names
    style, subject and background, whichever there are, and then all else.
    """
    parts = [(before, name) for before, name, *_ in Formatter().parse(sentence)] or _plain(phrases)
    said = [(before, phrases[name]) for before, name in parts if name and phrases.get(name)]
    begun = bool(
        parts and parts[0][1] in phrases
    )  # else the first words belong to what is left out
    text = "".join(before * (begun or i > 0) + phrase for i, (before, phrase) in enumerate(said))
    end = parts[-1][0] if said and parts[-1][1] is None else ""
    return text + end


def _plain(phrases: dict[str, str]) -> list[tuple[str, str]]:
    known = [(c, " of " if c == "subject" and phrases.get("style") else " ") for c in ORDER]
    others = [(c, ", ") for c in phrases if c not in ORDER]
    named = [(before, c) for c, before in [*known, *others] if phrases.get(c)]
    return [("" if i == 0 else before, c) for i, (before, c) in enumerate(named)]


def combinations(
    collection: Collection, held_out: bool, count: int, seed: int
) -> list[dict[str, str]]:
    """Choose `count` combinations of values, every held-out (or kept) one about equally often."""
    if not collection.concepts:
        raise InputError(
            f"{collection.folder} has no concepts.json; write one with a phrase for each value"
        )
    every = [
        dict(zip(collection.concepts, values, strict=True))
        for values in itertools.product(*collection.concepts.values())
    ]
    chosen = [c for c in every if (c in collection.held_out) == held_out]
    if not chosen:
        raise InputError(
            f"{collection.folder} has no {'held-out' if held_out else 'kept'} combination"
        )
    order = np.random.default_rng(seed).permutation(len(chosen))
    return [chosen[order[i % len(order)]] for i in range(count)]


def captioned(collection: Collection, count: int, seed: int) -> list[str]:
    """Choose captions of the collection, for one that names no concepts."""
    order = np.random.default_rng(seed).permutation(len(collection))
    return [collection.captions[order[i % len(order)]] for i in range(count)]


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


def recognise(seen: Encoded, phrases: Phrases, draws: int = 8, seed: int = 0) -> dict[str, str]:
    """Choose for each concept the phrase under which the model denoises the picture best.

    A diffusion model is a zero-shot classifier (arXiv 2303.16203, eq. 5), here with noise shared by all
    phrases. Each concept costs `draws` x values rows of a forward pass.
    """
    options = [phrase for values in phrases.values() for phrase in values.values()]
    losses = denoising_losses(seen, options, draws, seed).mean(1)
    found, first = {}, 0
    for concept, values in phrases.items():
        best = int(losses[first : first + len(values)].argmin())
        found[concept] = options[first + best]
        first += len(values)
    return found


@torch.no_grad()
def denoising_losses(
    seen: Encoded, phrases: list[str], draws: int = 8, seed: int = 0
) -> Float[Tensor, "phrase draw"]:
    """Give a picture's denoising loss under each phrase, at some noise levels shared by all phrases.

    What is known of a phrase is not taken again.
    """
    new = [p for p in dict.fromkeys(phrases) if (p, draws, seed) not in seen.losses]
    if new:
        noisy, timesteps, target = _draws(seen, draws, seed)
        conditions = seen.conditions(new)
    for first in range(0, len(new), PHRASES_AT_ONCE):
        some = new[first : first + PHRASES_AT_ONCE]
        rows = [each.repeat(len(some), *[1] * (each.dim() - 1)) for each in (noisy, timesteps)]
        output = seen.model.predict(*rows, conditions[first : first + len(some)].repeat(draws))
        wrong = output.unflatten(0, (len(some), draws)) - target
        losses = wrong.square().flatten(2).mean(2).cpu()
        seen.losses |= {(p, draws, seed): x for p, x in zip(some, losses, strict=True)}
    return torch.stack([seen.losses[phrase, draws, seed] for phrase in phrases])


def _draws(seen: Encoded, draws: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Give a picture's noisy latents, their timesteps and targets."""
    model, schedule = seen.model, seen.model.schedule
    timesteps = (torch.linspace(0.25, 0.85, draws) * schedule.times).long().to(model.device)
    keyed = [generator("recognise", seed, i) for i in range(draws)]
    noise = torch.stack([torch.randn(seen.latents.shape[1:], generator=key) for key in keyed])
    noise, clean = noise.to(model.device), seen.latents.expand(draws, -1, -1, -1)
    noisy, target = (f(clean, noise, timesteps) for f in (schedule.add_noise, schedule.target))
    return noisy, timesteps, target

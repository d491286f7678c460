"""Name what a picture shows, concept by concept, in the collection's own phrases.

In: a prompt, or a picture without one. Out: a phrase for each concept, such as {"style": "a woodcut"}, or
the prompt that several phrases make.
"""

import itertools
import re
import unicodedata
from collections.abc import Sequence
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
ARTICLES = ["a"], ["an"]
ROWS_AT_ONCE = 32  # phrases and draws in one forward pass
DRAWS = 8  # noise levels at which a picture's loss is taken
FEW = (2, 6)  # of them, to begin with
LEFT = 3  # phrases of a concept that all draws decide among
# Letters and marks of scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Chinese and Japanese (Unicode's
# blocks, without their digits and punctuation). page.js holds the same.
UNSPACED = (
    r"\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u1780-\u17d3\u17dc-\u17dd"
    r"\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\uff66-\uff9f\U00020000-\U0003ffff"
)
SPACED_WORD = re.compile(rf"[^\W_{UNSPACED}]+")
WORD = re.compile(rf"[{UNSPACED}]|{SPACED_WORD.pattern}")
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
    """Find the values that a prompt names, by the value's name or its whole phrase; the longest name counts.

    In scripts without spaces a name may stand anywhere.
    """
    said, found = _spaced(prompt), {}
    for concept, values in phrases.items():
        names = [(_spaced(n), phrase) for value, phrase in values.items() for n in (value, phrase)]
        named = [each for each in names if each[0].strip() and each[0] in said]
        if named:
            found[concept] = max(named, key=lambda each: len(each[0]))[1]
    return found


def words_of(text: str) -> list[str]:
    """Give the words of a text, in lower case and in one form of Unicode; each letter of a script without spaces is one."""
    return WORD.findall(unicodedata.normalize("NFKC", text).lower())


def _spaced(text: str) -> str:
    """Give a text's words with a space around each, without an article before them."""
    words = words_of(text)
    return f" {' '.join(words[1:] if words[:1] in ARTICLES else words)} "


def recognise(
    seen: Encoded, phrases: Phrases, sentence: str = "", known: dict[str, str] | None = None
) -> dict[str, str]:
    """Choose for each concept the phrase under which the model denoises the picture best.

    A diffusion model is a zero-shot classifier (arXiv 2303.16203, eq. 5), here with noise shared by all phrases; a few
    draws leave the best phrases of a concept, among which all draws decide (ibid., algorithm 2). Every concept is asked
    alone but the one whose phrases explain least: it is asked in the `sentence` of what was found and is `known`, since
    a model that learned from sentences may not know a style's name that stands alone.
    """
    alone = {concept: list(values.values()) for concept, values in phrases.items()}
    losses = _mean_losses(seen, list(alone.values()), FEW)
    tried = dict(zip(alone, losses, strict=True))
    *clear, least = sorted(alone, key=lambda concept: float(tried[concept].min()))
    if not (clear or known):
        clear, least = [least], None
    left = [_best(alone[concept], tried[concept]) for concept in clear]
    decided = zip(clear, left, _mean_losses(seen, left, range(DRAWS)), strict=True)
    found = {concept: some[int(losses.argmin())] for concept, some, losses in decided}
    if least:
        told = found | (known or {})
        asked = {full_prompt(told | {least: p}, sentence): p for p in alone[least]}
        [losses] = _mean_losses(seen, [list(asked)], FEW)
        few = _best(list(asked), losses)
        [losses] = _mean_losses(seen, [few], range(DRAWS))
        found[least] = asked[few[int(losses.argmin())]]
    return {concept: found[concept] for concept in phrases}


def _best(phrases: list[str], losses: Float[Tensor, "phrase"]) -> list[str]:
    """Give the phrases of least loss, in their own order."""
    return [phrases[i] for i in losses.argsort(stable=True)[:LEFT].sort().values]


def _mean_losses(
    seen: Encoded, phrases: list[list[str]], some: Sequence[int]
) -> Sequence[Float[Tensor, "phrase"]]:
    """Give the mean losses of several lists of phrases, all taken together."""
    every = list(itertools.chain(*phrases))
    if not every:
        return []
    losses = denoising_losses(seen, every, some=some).mean(1)
    return losses.split([len(each) for each in phrases])


@torch.no_grad()
def denoising_losses(
    seen: Encoded,
    phrases: list[str],
    draws: int = DRAWS,
    seed: int = 0,
    some: Sequence[int] | None = None,
) -> Float[Tensor, "phrase draw"]:
    """Give a picture's denoising loss under each phrase, at some noise levels shared by all phrases.

    Where `some` of the draws are named, only those are taken. What is known of a phrase is not taken again.
    """
    some, known = range(draws) if some is None else some, seen.losses
    new = [(p, n) for p in dict.fromkeys(phrases) for n in some if (p, n, draws, seed) not in known]
    if new:
        noisy, timesteps, target = _draws(seen, draws, seed)
        places = {p: row for row, p in enumerate(dict.fromkeys(p for p, _ in new))}
        conditions = seen.conditions(list(places))
    for part in (new[i : i + ROWS_AT_ONCE] for i in range(0, len(new), ROWS_AT_ONCE)):
        rows = torch.tensor([n for _, n in part])
        told = conditions[torch.tensor([places[p] for p, _ in part])]
        output = seen.model.predict(noisy[rows], timesteps[rows], told)
        losses = (output - target[rows]).square().flatten(1).mean(1).cpu()
        known |= {(p, n, draws, seed): x for (p, n), x in zip(part, losses, strict=True)}
    return torch.stack([torch.stack([known[p, n, draws, seed] for n in some]) for p in phrases])


def _draws(seen: Encoded, draws: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Give a picture's noisy latents, their timesteps and targets."""
    model, schedule = seen.model, seen.model.schedule
    timesteps = (torch.linspace(0.25, 0.85, draws) * schedule.times).long().to(model.device)
    keyed = [generator("recognise", seed, i) for i in range(draws)]
    noise = torch.stack([torch.randn(seen.latents.shape[1:], generator=key) for key in keyed])
    noise, clean = noise.to(model.device), seen.latents.expand(draws, -1, -1, -1)
    noisy, target = (f(clean, noise, timesteps) for f in (schedule.add_noise, schedule.target))
    return noisy, timesteps, target

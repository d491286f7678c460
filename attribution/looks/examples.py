"""Keep pictures that the model drew, with what is needed to answer for them at once.

A folder holds a PNG for each example; `features.safetensors`, the query features `[example, group, dim]` of every
question, and of no words, before the kernel, so that images may come and go, and told with them the examples' prompts, seeds,
phrases and evidence. In: such a folder and an attributor. Out: `Example`s, scored together in one pass over the cache,
and the reverse question, which of them lean on a training image. It draws nothing and takes no gradient.
"""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attribution.answer.answer import Answer, standardise
from attribution.answer.listed import Listed
from attribution.answer.lists import FIRST
from attribution.answer.questions import GENERAL, WORDLESS
from attribution.attributor import Attributor
from attribution.cache.scoring import top
from attribution.cache.store import Cache
from attribution.cache.weights import belongs_to
from attribution.described import read_about, read_described, write_described
from attribution.errors import BelongsElsewhere, InputError
from attribution.files import Wanted, file_hash, write_whole
from attribution.gradients.kernel import apply_kernel
from attribution.pictures.collection import open_image
from attribution.pictures.size import Size

FILE = "features.safetensors"
ADVICE = "run python -m precompute examples"
ENTRY = {
    "prompt": str,
    "seed": int,
    "held_out": bool,
    "phrases": {str: str},
    "evidence": {str: float},
    "checksum": str,  # of the picture
}
TOLD = {
    "settings": {str: str | int | float | bool},
    "examples": [ENTRY],
    "wordless?": bool,  # whether there are features under no words; older files lack them
}


@dataclass(frozen=True)
class Drawn:
    """A picture that the model drew, what it was asked, and the evidence of the words."""

    image: Image.Image
    prompt: str
    seed: int
    held_out: bool  # whether no training image shows this combination
    phrases: dict[str, str]  # question -> the words that its gradient was taken under
    evidence: dict[str, float]


@dataclass(frozen=True)
class Example:
    """A picture that the model drew, and its answer; prompt and seed draw it again."""

    image: Image.Image
    prompt: str
    seed: int
    answer: Answer
    held_out: bool  # whether no training image shows this combination
    path: Path


def picture_path(folder: Path, number: int) -> Path:
    """Name an example's picture."""
    return folder / f"{number:03d}.png"


def write_examples(
    folder: Path,
    drawn: list[Drawn],
    features: dict[str, Float[Tensor, "example group dim"]],
    cache: Cache,
    settings: dict,
) -> None:
    """Write pictures, and `features.safetensors` last."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, example in enumerate(drawn):
        path = picture_path(folder, number)
        png = io.BytesIO()
        example.image.save(png, "PNG", optimize=True)
        write_whole(path, png.getvalue())
        entry = {key: value for key, value in vars(example).items() if key != "image"}
        entries.append(entry | {"checksum": file_hash(path)})
    told = {"settings": settings, "examples": entries, "wordless": WORDLESS in features}
    write_described(folder / FILE, features, belongs_to(cache), **told)


def drawn_with(folder: Path, cache: Cache) -> dict[str, object]:
    """Give the settings that examples were drawn with."""
    return read_about(folder / FILE, belongs_to(cache), TOLD, ADVICE)["settings"]


def load_examples(folder: str | Path, attributor: Attributor) -> list[Example]:
    """Load examples and score them as `Attributor.attribute` would, refusing those of another model or method."""
    folder = Path(folder)
    entries, features = _read(folder, attributor)
    bare = features.pop(WORDLESS, None)
    asked = {name: apply_kernel(f, attributor.cache.kernel) for name, f in features.items()}
    scores = {} if attributor.search else _scores(asked, attributor)

    def scores_of(number: int, names: list[str]) -> dict[str, Tensor] | Listed:
        if scores:
            return {name: scores[name][number] for name in names}
        return attributor.scores({n: asked[n][number] for n in names}, attributor.weights)

    examples = []
    for number, entry in enumerate(entries):
        names, evidence = list(entry["phrases"]), entry["evidence"]
        answer = Answer(
            scores_of(number, names),
            entry["phrases"],
            attributor.collection,
            attributor.calibration.p_values(evidence) if attributor.calibration else {},
            evidence,
            {name: asked[name][number] for name in names},
            {name: attributor.weights[name] for name in names},
            attributor.requests,
        )
        if attributor.lists and bare is not None:
            its = slice(number, number + 1)
            alike = attributor.alike_to_lists(
                answer.each_first(FIRST), {name: features[name][its] for name in names}, bare[its]
            )
            answer = replace(answer, list_p_values=attributor.lists.p_values(alike))
        picture = picture_path(folder, number)
        about = entry["prompt"], entry["seed"], answer, entry["held_out"]
        examples.append(Example(_picture(picture, attributor.model.size), *about, picture))
    return examples


def _read(folder: Path, attributor: Attributor) -> tuple[list[dict], dict[str, Tensor]]:
    """Read what is known of each example, and the features, refusing what is damaged or belongs elsewhere."""
    path = folder / FILE
    about = read_about(path, belongs_to(attributor.cache), TOLD, ADVICE)
    entries = about["examples"]
    names = set().union(*(entry["phrases"] for entry in entries))
    unknown = names - set(attributor.weights)
    if unknown:
        raise BelongsElsewhere(
            f"{path} asks for {', '.join(sorted(unknown))}, which this cache has no weights for; {ADVICE}"
        )
    if not all(
        GENERAL in entry["phrases"] and entry["evidence"].keys() <= entry["phrases"].keys()
        for entry in entries
    ):
        raise InputError(f"{path} is damaged: its phrases cannot be so; {ADVICE}")
    each = Wanted(torch.float32, (len(entries), *attributor.cache.kernel.shape[:2]))
    wanted = dict.fromkeys([*names, *[WORDLESS] * about.get("wordless", False)], each)
    features = read_described(path, about, wanted, ADVICE)
    for number, entry in enumerate(entries):
        picture = picture_path(folder, number)
        if picture.is_symlink() or not picture.is_file() or file_hash(picture) != entry["checksum"]:
            raise InputError(f"{picture} is missing or damaged; {ADVICE}")
    return entries, features


def _picture(path: Path, size: Size) -> Image.Image:
    """Open an example's picture, which is as large as the model draws."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            fits = image.size == size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is no readable PNG; {ADVICE}") from error
    if not fits:
        raise InputError(f"{path} is not {size[0]} x {size[1]} pixels; {ADVICE}")
    return open_image(path)


def _scores(
    asked: dict[str, Float[Tensor, "example group dim"]], attributor: Attributor
) -> dict[str, Float[Tensor, "example train"]]:
    """Score every training image for all questions together."""
    queries = torch.cat([f * attributor.weights[name][:, None] for name, f in asked.items()])
    found = standardise(attributor.summed(queries))
    return dict(zip(asked, found.chunk(len(asked)), strict=True))


def varied(examples: Sequence[Example], count: int) -> list[int]:
    """Choose examples that share as few words as can be, those with the most evidence first."""
    left = sorted(
        range(len(examples)), key=lambda n: -examples[n].answer.evidence.get(GENERAL, 0.0)
    )
    phrases = [example.answer.phrases.values() for example in examples]
    said, chosen = Counter(), []
    while left and len(chosen) < count:
        best = min(left, key=lambda n: sum(said[phrase] for phrase in phrases[n]))
        said.update(phrases[best])
        left.remove(best)
        chosen.append(best)
    return chosen


def leaning_on(
    answers: list[Answer], row: int, count: int, /, **amounts: float | int
) -> list[tuple[int, float]]:
    """Give the answers in which a training image scores highest, best first: each one's place and the score."""
    scores = torch.tensor([answer.score(row, **amounts) for answer in answers])
    order = top(scores[None], count)[0].tolist()
    return [(place, float(scores[place])) for place in order]

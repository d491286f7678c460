"""Train a judge: a small classifier that tells what a picture shows, from a collection's labels alone.

In: a collection with labels. Out: a value and a probability for each concept of any picture. It never sees a generated
picture while it is trained, so that it may say of the model's pictures whether one would recognise what they show.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from attribution.described import read_about, read_described, write_described
from attribution.errors import InputError
from attribution.files import Wanted
from attribution.pictures.collection import Collection, to_pixels
from attribution.pictures.size import Size, written
from attribution.seeds import generator

WIDTHS = (24, 48, 96, 128)  # channels; a quarter of the places each time
EPOCHS, BATCH, LEARNING_RATE = 25, 64, 3e-3
MOST_SHIFT = 4  # pixels
MOST_BLUR, MOST_NOISE = (
    0.5,
    0.05,
)  # share of a mean over 3 x 3 pixels; standard deviation in [-1, 1]
APART = 10  # one combination of values in so many is kept apart, to test the judge on
AT_ONCE = 256
ADVICE = "remove it, and it is trained again"


class Network(nn.Module):
    """Four strided convolutions, the mean and the maximum over places, a linear head for each concept."""

    def __init__(self, counts: dict[str, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU(),
                nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(8, after), nn.SiLU(),
            ]  # fmt: skip
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({c: nn.Linear(2 * WIDTHS[-1], n) for c, n in counts.items()})

    def forward(self, pixels: Float[Tensor, "image 3 height width"]) -> dict[str, Tensor]:
        """Give the logits of every value, concept by concept."""
        seen = self.body(pixels)
        pooled = torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], 1)
        return {concept: head(pooled) for concept, head in self.heads.items()}


@dataclass(frozen=True)
class Judge:
    """A trained network, the values in the order of its heads, and how often it is right (concept -> share)."""

    network: Network
    values: dict[str, list[str]]
    size: Size
    right: dict[str, float]  # of pictures of combinations that it never saw

    @torch.no_grad()
    def confidence(self, images: list[Image.Image]) -> dict[str, Float[Tensor, "image value"]]:
        """Give each value's probability."""
        parts = to_pixels(images, self.size).split(AT_ONCE)
        logits = [self.network(part) for part in parts]
        return {c: torch.cat([each[c] for each in logits]).softmax(1) for c in self.values}

    def says(self, images: list[Image.Image]) -> dict[str, list[str]]:
        """Name the likeliest value of each concept."""
        return {
            concept: [self.values[concept][i] for i in each.argmax(1)]
            for concept, each in self.confidence(images).items()
        }


def judge_of(collection: Collection, size: Size, path: Path, seed: int = 0) -> Judge:
    """Read the judge of a collection, or train it and keep it; some minutes on one core."""
    values = {concept: list(named) for concept, named in collection.concepts.items()}
    if not values or any(concept not in row for row in collection.labels for concept in values):
        raise InputError(
            f"{collection.folder} does not say of every picture what it shows; a judge learns from a "
            "concepts.json and a column of the metadata for each of its concepts"
        )
    belongs_to = {"collection": collection.fingerprint(), "resolution": written(size), "seed": seed}
    belongs_to |= {"blur": MOST_BLUR, "noise": MOST_NOISE}
    network = Network({concept: len(named) for concept, named in values.items()})
    if path.is_file():
        about = read_about(path, belongs_to, {"right": {str: float}}, ADVICE)
        wanted = {k: Wanted(torch.float16, tuple(v.shape)) for k, v in network.state_dict().items()}
        tensors = read_described(path, about, wanted, ADVICE)
        network.load_state_dict({k: v.float() for k, v in tensors.items()})
        return Judge(network.eval().requires_grad_(False), values, size, about["right"])
    torch.manual_seed(seed)
    network = Network({concept: len(named) for concept, named in values.items()})
    apart = kept_apart(collection)
    train(network, collection, [n for n in range(len(collection)) if n not in apart], values,
          size, seed)  # fmt: skip
    tensors = {k: v.half() for k, v in network.state_dict().items()}
    network.load_state_dict({k: v.float() for k, v in tensors.items()})
    judge = Judge(network.eval().requires_grad_(False), values, size, {})
    judge.right.update(accuracy(judge, collection, sorted(apart)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_described(path, tensors, belongs_to, right=judge.right)
    return judge


def kept_apart(collection: Collection) -> set[int]:
    """Choose the rows of one combination of values in ten, which the judge never sees."""
    shown = [tuple(row[c] for c in collection.concepts) for row in collection.labels]
    kinds = sorted(set(shown))
    order = torch.randperm(len(kinds), generator=generator("judge", "apart")).tolist()
    apart = {kinds[i] for i in order[: max(1, len(kinds) // APART)]}
    return {n for n, kind in enumerate(shown) if kind in apart}


def accuracy(judge: Judge, collection: Collection, rows: list[int]) -> dict[str, float]:
    """Give the share of pictures of which the judge says what they are labelled with."""
    said = judge.says([collection.image(n) for n in rows])
    labels = [collection.labels[n] for n in rows]
    return {
        c: sum(a == row[c] for a, row in zip(said[c], labels, strict=True)) / len(rows)
        for c in said
    }


def train(
    network: Network,
    collection: Collection,
    rows: list[int],
    values: dict[str, list[str]],
    size: Size,
    seed: int,
) -> None:
    """Train in place by cross-entropy, on mirrored, shifted, blurred and noisy pictures."""
    pixels = to_pixels([collection.image(n) for n in rows], size)
    labels = {
        c: torch.tensor([named.index(collection.labels[n][c]) for n in rows])
        for c, named in values.items()
    }
    steps = EPOCHS * max(1, len(pixels) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    for step in tqdm(range(steps), desc="training the judge", unit="step"):
        draw = generator("judge", seed, step)
        chosen = torch.randint(len(pixels), (BATCH,), generator=draw)
        logits = network(disturbed(pixels[chosen], draw))
        losses = [nn.functional.cross_entropy(logits[c], labels[c][chosen]) for c in labels]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
        schedule.step()


def disturbed(pixels: Tensor, draw: torch.Generator) -> Tensor:
    """Mirror half of a batch, shift all, and blur or roughen it a little, as an autoencoder does."""
    mirrored = torch.rand(len(pixels), generator=draw) < 0.5
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
    dx, dy = torch.randint(-MOST_SHIFT, MOST_SHIFT + 1, (2,), generator=draw).tolist()
    pixels = pixels.roll((dy, dx), (2, 3))
    soft = nn.functional.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)
    amount = MOST_BLUR * torch.rand(len(pixels), 1, 1, 1, generator=draw)
    rough = MOST_NOISE * torch.rand(len(pixels), 1, 1, 1, generator=draw)
    return pixels.lerp(soft, amount) + rough * torch.randn(pixels.shape, generator=draw)

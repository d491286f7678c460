"""Time what a visitor waits for, and what a gradient costs beside its floor.

Run it as `python benchmarks/latency.py [--json]`. It prints medians over repeats on the shipped assets: drawing a picture, attributing it, re-ranking it, and
the gradient engine as a ratio to one plain training step (forward, and backward to the parameters),
with the floor (forward, and backward to the input) beside it. Ratios come from one run, in turn.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from attribution import Attributor

PROMPT = "a woodcut of a teapot in the mountains"
IMAGES, ROWS = 4, 40  # of a batch: 10 timesteps an image


def seconds(action: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def medians(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Time actions in turn, after one warm-up each, and give each one's median in seconds."""
    for action in actions.values():
        action()
    times = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            times[name].append(seconds(action))
    return {name: statistics.median(values) for name, values in times.items()}


def page(attributor: Attributor) -> list[dict]:
    """Time the page's three actions."""
    model = attributor.model
    [picture] = model.generate([PROMPT], [1])
    answer = attributor.attribute(picture, PROMPT)
    found = medians(
        {
            "draw a picture": lambda: model.generate([PROMPT], [1]),
            "attribute it, described": lambda: attributor.attribute(picture, PROMPT),
            "attribute it, nothing known": lambda: attributor.attribute(picture),
            "re-rank it": lambda: answer.rank(12, subject=0.3, style=0.7),
        },
        repeats=5,
    )
    return [{"what": name, "seconds": round(value, 4)} for name, value in found.items()]


def engine(attributor: Attributor) -> list[dict]:
    """Time the gradient engine beside a training step and the floor, on the same batch."""
    unet, projector = attributor.model.pipeline.unet, attributor.extractor.projector
    config = unet.config
    noisy = torch.randn(ROWS, config.in_channels, config.sample_size, config.sample_size)
    timesteps = torch.randint(0, 1000, (ROWS,))
    conditions = attributor.model.conditions([PROMPT]).expand(ROWS, -1, -1)

    def objective(inputs: torch.Tensor) -> torch.Tensor:
        return unet(inputs, timesteps, conditions).sample.square().flatten(1).mean(1)

    def training_step() -> None:
        unet.requires_grad_(True)
        objective(noisy).sum().backward()
        unet.zero_grad(set_to_none=True)
        unet.requires_grad_(False)

    def floor() -> None:
        objective(noisy.clone().requires_grad_()).sum().backward()

    actions = {
        "training step": training_step,
        "floor: forward and input gradient": floor,
        "attribution: every layer projected": lambda: projector(lambda: objective(noisy), IMAGES),
    }
    found = medians(actions, repeats=5)
    step = found["training step"]
    return [
        {
            "what": name,
            "seconds": round(value, 4),
            "ratio": round(value / step, 3),
            "share_of_floor": round(found["floor: forward and input gradient"] / value, 3),
        }
        for name, value in found.items()
    ]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    wants_json = parser.parse_args().json
    attributor = Attributor.from_pretrained("assets/model", "assets/cache", "assets/collection")
    rows = page(attributor) + engine(attributor)
    if wants_json:
        print(json.dumps(rows))
        return
    for row in rows:
        extra = f"  {row['ratio']:.2f} of a training step" if "ratio" in row else ""
        print(f"{row['what']:36} {row['seconds'] * 1000:9.1f} ms{extra}")


if __name__ == "__main__":
    main()

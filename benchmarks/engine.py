"""Measure the gradient engine beside other people's, on one network, one batch, in one process.

Run it as `python benchmarks/engine.py [--json]`; peers that are not installed are named and
left out (`benchmarks/requirements.txt` installs them). For each engine it prints

  ratio          median time over that of one plain batched training step, forward and backward to all
                 parameters (engines run in turn, so that a busy machine slows all of them)
  share_of_floor the floor's time over this engine's; the floor is forward, and backward to the input only
  coverage       share of the Linear and Conv2d layers; `weights` is their share of these layers' weights
  fidelity       rms error of the cosines between examples' features, layer by layer, against exact
                 gradients, over the covered layers; `dense` is a dense Gaussian of the same size
  peak_mb        the most memory in use during one call, less what was in use before it

An example is one image with several timesteps; of one alone no fidelity is known. `--network sd15` takes a UNet of Stable Diffusion
1.5's size (random parameters; on one core with `--images 1 --timesteps 1 --repeats 2 --peers none --variants ""` 9.4 GB and about five minutes of it)
and `--device cuda` a GPU, where only our own rows are measured. `--update` writes the rows into benchmarks/results.
"""

import argparse
import ctypes
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import psutil
import torch
from diffusers import UNet2DConditionModel
from peers import PEERS, Peer, Problem
from torch import Tensor, nn
from torch.nn import functional

from attribution.gradients.projector import GradientProjector

RESULTS = Path(__file__).parent / "results"
NETWORKS = {
    "small": {
        "sample_size": 16,
        "block_out_channels": (64, 128),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 64,
        "attention_head_dim": 2,  # heads in the wide blocks, of 32 channels each
    },
    "sd15": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
}


def make_problem(args: argparse.Namespace) -> Problem:
    """Draw a network and a batch of images at several noise levels."""
    torch.manual_seed(args.seed)
    network = UNet2DConditionModel(**NETWORKS[args.network]).to(args.device, args.dtype)
    network.requires_grad_(False)
    size, width = network.config.sample_size, network.config.cross_attention_dim
    clean = 0.5 * torch.randn(args.images, 1, 4, size, size)
    noisy = clean + torch.randn(args.images, args.timesteps, 4, size, size)
    conditions = torch.randn(args.images, 1, 16, width).expand(-1, args.timesteps, -1, -1)
    timesteps = ((torch.arange(args.timesteps) + 0.5) * 1000 / args.timesteps).long()
    kinds = (nn.Linear, nn.Conv2d)
    return Problem(
        network,
        noisy.flatten(0, 1).to(args.device, args.dtype),
        timesteps.repeat(args.images).to(args.device),
        conditions.flatten(0, 1).to(args.device, args.dtype),
        args.images,
        [name for name, module in network.named_modules() if isinstance(module, kinds)],
    )


def training_step(problem: Problem) -> None:
    """Run forward, and backward to every parameter."""
    problem.network.requires_grad_(True)
    problem.objective().sum().backward()
    problem.network.zero_grad(set_to_none=True)
    problem.network.requires_grad_(False)


def floor(problem: Problem) -> None:
    """Run forward, and backward to the input alone."""
    noisy = problem.noisy.clone().requires_grad_()
    predicted = problem.network(noisy, problem.timesteps, problem.conditions).sample
    predicted.float().square().flatten(1).mean(1).sum().backward()


def ours(problem: Problem, args: argparse.Namespace, variant: str = "") -> Peer:
    """Set our engine up, plain or in one of its variants, as `PEERS` set theirs up."""
    parameters = "all" if variant == "biases and norms" else "weights"
    projector = GradientProjector(problem.network, args.proj_dim, args.seed, parameters)
    autocast = (
        torch.autocast(problem.noisy.device.type, torch.bfloat16)
        if variant == "bf16 autocast"
        else nullcontext()
    )

    def objective() -> Tensor:
        predicted = problem.network(problem.noisy, problem.timesteps, problem.conditions).sample
        return predicted.float().square().flatten(1).mean(1)

    def features() -> Tensor:
        if variant == "checkpointed":
            problem.network.enable_gradient_checkpointing()
        try:
            with autocast:
                return projector(objective, problem.images)
        finally:
            problem.network.disable_gradient_checkpointing()

    return features, projector.layers


def exact_cosines(problem: Problem) -> dict[str, Tensor]:
    """Give each layer's cosines between images' exact gradients, [image, image]."""
    weights = [problem.weight(layer).requires_grad_(True) for layer in problem.layers]
    rows = len(problem.noisy) // problem.images
    images: list[list[Tensor]] = []
    for start in range(0, len(problem.noisy), rows):
        value = problem.objective(slice(start, start + rows)).sum()
        images.append([g.flatten() for g in torch.autograd.grad(value, weights)])
    for weight in weights:
        weight.requires_grad_(False)
    return {
        layer: cosines(torch.stack(gradients))
        for layer, gradients in zip(problem.layers, zip(*images, strict=True), strict=True)
    }


def cosines(vectors: Tensor) -> Tensor:
    """Give the cosines between rows, [row, row], in float64."""
    unit = functional.normalize(vectors.double(), dim=1)
    return unit @ unit.T


def fidelity(features: Tensor, layers: list[str], exact: dict[str, Tensor]) -> float:
    """Give the rms error of the cosines between different images, over layers with exact gradients."""
    different = ~torch.eye(len(features), dtype=torch.bool)
    errors = [
        (cosines(features[:, place].float()) - exact[layer])[different]
        for place, layer in enumerate(layers)
        if layer in exact
    ]
    return torch.cat(errors).square().mean().sqrt().item()


def keep_freed_memory(keep: bool) -> None:
    """Have glibc reuse what was freed, else each large tensor is paged in anew; or give it back at once."""
    library = ctypes.CDLL(None)
    library.mallopt(-3, 1 << 30 if keep else 1 << 16)  # M_MMAP_THRESHOLD, bytes
    library.mallopt(-1, (1 << 31) - 1 if keep else 0)  # M_TRIM_THRESHOLD, bytes
    library.malloc_trim(0)


def peak_mb(action: Callable[[], object], device: str) -> float:
    """Give how far one call raises memory, in 10^6 bytes (on Linux, the kernel's high-water mark)."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    action()  # what it sets up once is not counted
    gc.collect()
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)
    action()
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    return max(0, peak - before) / 1e6


def times_in_turn(
    actions: dict[str, Callable[[], object]], repeats: int, device: str
) -> dict[str, list[float]]:
    """Time every action once in each round, after a warm-up, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for round_ in range(repeats + 1):
        for name, action in actions.items():
            gc.collect()
            start = time.perf_counter()
            action()
            if device == "cuda":
                torch.cuda.synchronize()
            if round_:
                times[name].append(time.perf_counter() - start)
            print(f"\rround {round_} of {repeats}: {name:30}", end="", file=sys.stderr)
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    return times


def measure(args: argparse.Namespace) -> list[dict]:
    """Time and check every engine."""
    keep_freed_memory(False)  # so that what is resident is what is in use
    problem = make_problem(args)
    actions: dict[str, Callable[[], object]] = {
        "training step": partial(training_step, problem),
        "floor": partial(floor, problem),
    }
    layers: dict[str, list[str]] = {}
    for variant in ["", *filter(None, args.variants.split(","))]:
        name = ", ".join(filter(None, ("attribution", variant)))
        actions[name], layers[name] = ours(problem, args, variant)
    wanted = PEERS if args.peers == "all" else {}
    for peer, set_up in wanted.items():
        name = "dense" if peer == "naive loop" else peer  # one image at a time, dense Gaussian
        try:
            actions[name], layers[name] = set_up(problem, args.proj_dim, args.seed)
        except ImportError as error:
            print(f"{name} is not installed and left out ({error})", file=sys.stderr)
    known = args.dtype == torch.float32 and args.images > 1
    exact = exact_cosines(problem) if known else {}
    peaks = {name: peak_mb(action, args.device) for name, action in actions.items()}
    keep_freed_memory(True)
    times = times_in_turn(actions, args.repeats, args.device)
    sizes = {layer: problem.weight(layer).numel() for layer in problem.layers}
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows = []
    for name, action in actions.items():
        ratios = sorted(t / s for t, s in zip(times[name], times["training step"], strict=True))
        covered = [layer for layer in layers.get(name, []) if layer in sizes]
        row = {
            "engine": name,
            "ratio": round(medians[name] / medians["training step"], 3),
            "ratio_low": round(ratios[0], 3),
            "ratio_high": round(ratios[-1], 3),
            "share_of_floor": round(medians["floor"] / medians[name], 3),
            "coverage": round(len(covered) / len(sizes), 4),
            "weights": round(sum(sizes[c] for c in covered) / sum(sizes.values()), 4),
            "fidelity": None,
            "dims_per_layer": args.proj_dim if covered else None,
            "peak_mb": round(peaks[name], 1),
            "rows_per_second": float(f"{len(problem.noisy) / medians[name]:.3g}"),
        }
        if covered and exact:
            row["fidelity"] = round(fidelity(action(), layers[name], exact), 5)
        rows.append(row)
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.add_argument("--update", action="store_true", help="write benchmarks/results/engine*")
    parser.add_argument("--network", choices=NETWORKS, default="small")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--timesteps", type=int, default=10)
    parser.add_argument("--proj_dim", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", choices=("all", "none"), default="all")
    parser.add_argument("--variants", default="biases and norms,checkpointed,bf16 autocast")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.dtype = getattr(torch, args.dtype)
    if args.device == "cuda":
        args.peers = "none"  # the adapters are written for one machine's CPU
    rows = measure(args)
    if args.update:
        path = RESULTS / (
            "engine.json" if args.network == "small" else f"engine_{args.network}.json"
        )
        path.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    if args.json:
        print(json.dumps(rows))
        return
    print(
        f"{args.images} images x {args.timesteps} timesteps, {os.cpu_count()} cores, {args.device}"
    )
    print(
        f"{'engine':30} {'ratio':>22} {'of floor':>8} {'layers':>7} {'weights':>7} {'fidelity':>8} {'peak MB':>8}"
    )
    for row in rows:
        spread = f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
        error = "" if row["fidelity"] is None else f"{row['fidelity']:.4f}"
        print(
            f"{row['engine']:30} {spread:>22} {row['share_of_floor']:8.2f} {row['coverage']:7.0%} "
            f"{row['weights']:7.0%} {error:>8} {row['peak_mb']:8.0f}"
        )


if __name__ == "__main__":
    main()

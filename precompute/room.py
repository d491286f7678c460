"""Say before anything is loaded whether a model and a batch find room on a device, and which options would make them.

In: a model's name and the options that decide memory. Out: a sentence, and whether it fits, as far as configs tell. Parameters are counted by configs and a batch is
made on paper (attribution/gradients/memory.py), for every way until one fits. `--mixed_precision` is left out of account.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from attribution.errors import InputError
from attribution.gradients.memory import bytes_beside_parameters
from attribution.gradients.methods import FeatureConfig
from attribution.models.diffusion import DiffusionModel
from attribution.models.parts import free_bytes, parameter_bytes
from attribution.pictures.size import Size

ADAPTER = "adapter"


@dataclass(frozen=True)
class Way:
    """The options of the gradients step that decide how much memory it takes."""

    features: FeatureConfig
    batch_size: int = 8
    gradient_checkpointing: bool = False
    offload_encoders: bool = False
    timesteps_at_once: int = 0
    precision: str = "fp32"

    def cheaper(self, has_adapter: bool) -> Iterator["Way"]:
        """Give this way, then others that take ever less memory: first what changes no feature, last what makes other features."""
        yield self
        way = self
        for change in (
            {"batch_size": 1}, {"gradient_checkpointing": True}, {"offload_encoders": True}, {"timesteps_at_once": 1},
            {"precision": "bf16"} if self.precision == "fp32" else {},
            {"features": replace(self.features, layers=ADAPTER)} if has_adapter else {},
        ):  # fmt: skip
            before, way = way, replace(way, **change)
            if way != before:
                yield way

    def options(self, other: "Way") -> str:
        """Say how this way is asked for where another one was."""
        said = [
            f"--batch_size {self.batch_size}" if self.batch_size != other.batch_size else "",
            "--gradient_checkpointing" if self.gradient_checkpointing > other.gradient_checkpointing else "",
            "--offload_encoders" if self.offload_encoders > other.offload_encoders else "",
            f"--timesteps_at_once {self.timesteps_at_once}" if self.timesteps_at_once != other.timesteps_at_once else "",
            f"--precision {self.precision}" if self.precision != other.precision else "",
            f"--layers {ADAPTER}" if self.features != other.features else "",
        ]  # fmt: skip
        return " ".join(filter(None, said))


@dataclass(frozen=True)
class Need:
    """Bytes on a device."""

    denoiser: int
    encoders: int
    batch: int

    def most(self, offload_encoders: bool) -> int:
        """Give the most at any time: encoders that are offloaded leave before a batch is made."""
        if offload_encoders:
            return self.denoiser + max(self.encoders, self.batch)
        return self.denoiser + self.encoders + self.batch


class Untold(Exception):
    """Say that a batch cannot be made on paper."""


def need_of(name: str, size: Size | None, way: Way, caption: str) -> Need:
    """Count parameters, and make a batch on paper."""
    model = DiffusionModel.described(name, size, way.precision)
    if way.gradient_checkpointing:
        model.checkpoint_gradients()
    denoiser, *encoders = parameter_bytes(name, way.precision).values()
    try:
        batch = bytes_beside_parameters(
            model, way.features, way.batch_size, caption, way.timesteps_at_once
        )
    except InputError:
        raise
    except Exception as error:  # whatever a network asks of tensors that hold no numbers
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise Untold(
            f"on paper: {sum((denoiser, *encoders)) / 1e9:.1f} GB of parameters in {way.precision}; what a batch takes beside them cannot "
            f"be told from the configs of a {type(model.pipeline).__name__} ({reason:.120})"
        ) from error
    return Need(denoiser, sum(encoders), batch)


def told(name: str, size: Size | None, asked: Way, device: str, caption: str) -> tuple[str, bool]:
    """Say what a way needs and, where that is too much, what would fit; and whether it fits."""
    free, first = free_bytes(device), None
    for way in asked.cheaper(has_adapter="+" in name):
        try:
            need = need_of(name, size, way, caption)
        except Untold as error:
            return str(error), True
        most = need.most(way.offload_encoders)
        if first is None:
            first = (
                f"on paper: {(need.denoiser + need.encoders) / 1e9:.1f} GB of parameters in {way.precision} and {need.batch / 1e9:.1f} GB "
                f"for a batch of {way.batch_size}, {most / 1e9:.1f} GB at most"
            )
            if free < 2**62:
                first += f" of {free / 1e9:.1f} GB free on {device}"
            if most <= free:
                return first, True
        elif most <= free:
            return f"{first}; too much: {way.options(asked)} takes {most / 1e9:.1f} GB", False
    return (
        f"{first}; too much, even with {way.options(asked) or 'all that would help'} ({most / 1e9:.1f} GB); take a device with more, or a "
        "quantised denoiser",
        False,
    )

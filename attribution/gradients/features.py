"""The one maker of features, for training images and for queries alike.

In: a model, pictures and prompts. Out: `features [image, group, dim]`, projected gradients averaged over
each range of timesteps, or its timesteps' side by side; a group is one layer in one range. High noise decides
layout, low noise texture, so the ranges are kept apart. A method may set queries apart: other trials (trials.py),
another objective, or a gradient that is preconditioned before it is projected (ekfac.py).
"""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attribution.errors import InputError
from attribution.gradients.ekfac import Preconditioner, read_factors
from attribution.gradients.grid import Grid
from attribution.gradients.methods import (
    OBJECTIVES,
    SAME,
    FeatureConfig,
    Objective,
    QueryRule,
    method_named,
)
from attribution.gradients.projector import GradientProjector, PackedRows
from attribution.gradients.trials import Rule, Trials, same
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded, in_order


class FeatureExtractor:
    """Makes features of one kind with one model; the projections are drawn once.

    Called, or by `train`, it makes training features; `query` makes those of queries.
    """

    def __init__(
        self, model: DiffusionModel, config: FeatureConfig, rule: QueryRule = SAME
    ) -> None:
        if config.timesteps > model.num_timesteps:
            raise InputError(
                f"timesteps is {config.timesteps}, and the model has {model.num_timesteps}; take fewer"
            )
        self.model, self.config, self.rule = model, config, rule
        self.objective = OBJECTIVES[config.objective]
        self.projector = GradientProjector(
            model.denoiser, config.proj_dim, config.seed, config.parameters, config.layers
        )
        spacing = model.num_timesteps / config.timesteps
        self.timesteps = ((torch.arange(config.timesteps) + 0.5) * spacing).long().to(model.device)
        self.preconditioner: Preconditioner | None = None  # of queries
        self.noise_seed = config.seed
        self.at_once = model.timesteps_at_once  # that are run together; 0: all of a batch
        self.apart = (
            False  # whether examples are run one at a time, since the network packs its rows
        )

    @classmethod
    def of(cls, model: DiffusionModel, header: dict, folder: Path) -> "FeatureExtractor":
        """Make features as the cache in a folder and its method want them."""
        method = method_named(header["method"])
        extractor = cls(model, FeatureConfig(**header["features"]), method.query)
        if extractor.groups != header["groups"]:
            raise InputError(f"the cache {folder} has other groups than the model; make it again")
        if method.kernel.before_projection:
            projector = extractor.projector
            factors = read_factors(folder, {"model": model.fingerprint}, projector)
            extractor.preconditioner = Preconditioner(projector, factors, header["damping"])
        return extractor

    def with_noise(self, seed: int) -> "FeatureExtractor":
        """Give an extractor with other noise and the same projections, to ask a query again."""
        other = copy.copy(self)
        other.noise_seed = seed
        return other

    @property
    def groups(self) -> list[str]:
        """Name every group: the range of timesteps, then the layer; range 0 holds the least noise."""
        return [
            f"{r}:{layer}" for r in range(self.config.ranges) for layer in self.projector.layers
        ]

    def __call__(
        self, images: list[Image.Image], prompts: list[str], batch_size: int = 8
    ) -> Float[Tensor, "image group dim"]:
        """Encode training images and make their features."""
        return self.train(Encoded(self.model, images), prompts, batch_size)

    def train(
        self, seen: Encoded, prompts: list[str], batch_size: int = 8
    ) -> Float[Tensor, "image group dim"]:
        """Make the features of training images, on the CPU, in float32.

        Noise is keyed by (seed, picture, timestep), paired by (seed, timestep), so that neither batch nor order nor
        device changes a feature (to rounding). The residual is a part of the feature, so that a cache keeps it in
        its norms.
        """

        def make(some: Encoded, prompts: list[str]) -> Tensor:
            trials = self.trials(some, prompts)
            features, residual = self.project(trials, self.objective)
            return features * residual[..., None, None] if self.config.residual else features

        return self._joined(make, seen, prompts, batch_size)

    def query(
        self, seen: Encoded, prompts: list[str], batch_size: int = 8, grid: Grid | None = None
    ) -> Float[Tensor, "image group *cell dim"]:
        """Make the features of queries as the method wants them; most want those of a training image.

        With a `grid`, features come in parts that sum to them: one for each of its cells over the picture, row by
        row, and one for what has no place in it.
        """
        objective = self.rule.objective or self.objective

        def make(some: Encoded, prompts: list[str]) -> Tensor:
            trials = self.trials(some, prompts, self.rule.trials)
            if not self.preconditioner:
                return self.project(trials, objective, grid)[0]
            if grid:
                raise InputError("EK-FAC's features have no places; choose another method for maps")
            return self._precondition(trials, objective, self.preconditioner)

        return self._joined(make, seen, prompts, batch_size)

    def trials(self, seen: Encoded, prompts: list[str], rule: Rule = same) -> Trials:
        """Prepare the rows on which the denoiser is run, every timestep of every picture."""
        noise = seen.noise(self.noise_seed, self.timesteps, self.config.paired)
        return rule(seen, noise, self.timesteps, prompts)

    def _joined(
        self,
        make: Callable[[Encoded, list[str]], Tensor],
        seen: Encoded,
        prompts: list[str],
        batch_size: int,
    ) -> Tensor:
        """Make `[image, range, layer, dim]` in batches of one size; give ranges and layers as groups."""
        batches = seen.batches(min(batch_size, self.model.pictures_at_once or batch_size))
        parts = [make(seen.at(some), [prompts[row] for row in some]) for some in batches]
        return in_order(parts, batches).flatten(1, 2).float().cpu()

    def project(
        self, trials: Trials, objective: Objective, grid: Grid | None = None
    ) -> tuple[
        Float[Tensor, "image range layer *cell dim"],
        Float[Tensor, "image range"],  # root mean square residual
    ]:
        """Give projected gradients of trials, and how far the outputs were from their targets."""
        config, errors = self.config, []
        count = len(trials.noisy) // config.timesteps

        def values(some: Trials) -> Float[Tensor, "row"]:
            output = some.predict(self.model)
            errors.append((some.target - output.detach()).square().flatten(1).mean(1))
            return objective(output, some.target)

        rows, gradients = config.rows_together, None
        examples = len(trials.noisy) // rows
        if not (self.at_once or self.apart or trials.conditions.ragged):
            try:
                gradients = self.projector(lambda: values(trials), examples, grid)
            except PackedRows:
                self.apart = True
                errors.clear()
        if gradients is None:
            some = [trials.at(slice(i * rows, (i + 1) * rows)) for i in range(examples)]
            gradients = torch.cat([self._alone(values, one, grid) for one in some])
        residuals = torch.cat(errors).unflatten(0, (count, config.ranges, -1)).mean(2).sqrt()
        return self._ranges(gradients, bool(grid)), residuals

    def _alone(
        self, values: Callable[[Trials], Tensor], one: Trials, grid: Grid | None
    ) -> Float[Tensor, "1 layer *cell proj_dim"]:
        """Sum the projected gradients of one example's rows, so many at once; projections are linear."""
        rows = len(one.noisy)
        step = self.at_once or rows
        parts = [one.at(slice(first, first + step)) for first in range(0, rows, step)]
        found = [self.projector(lambda part=part: values(part), 1, grid) for part in parts]
        return torch.stack(found).sum(0)

    def _precondition(
        self, trials: Trials, objective: Objective, preconditioner: Preconditioner
    ) -> Float[Tensor, "image range layer dim"]:
        together = self.config.rows_together
        parts = []
        for first in range(0, len(trials.noisy), together):
            some = trials.at(slice(first, first + together))
            parts.append(
                preconditioner(lambda some=some: objective(some.predict(self.model), some.target))
            )
        return self._ranges(torch.stack(parts))

    def _ranges(
        self, gradients: Float[Tensor, "some layer *cell proj_dim"], in_cells: bool = False
    ) -> Float[Tensor, "image range layer *cell dim"]:
        """Put each range's gradients together: their mean, or, paired, one timestep's after another's.

        The inner product of two paired features is the sum over timesteps of theirs at each (docs/method.md). Each
        timestep counts the same in them; their norm is that of all gradients side by side as they were.
        """
        config = self.config
        rows = config.timesteps // config.ranges // config.rows_together
        gradients = gradients.unflatten(0, (-1, config.ranges, rows))
        if config.each_timestep != "mean":
            whole = gradients.sum(4, keepdim=True) if in_cells else gradients
            norms = whole.norm(dim=-1, keepdim=True)  # [image, range, step, layer, *1, 1]
            gradients = gradients / norms.clamp_min(1e-12)
        if config.paired:
            size = norms.square().mean(2, keepdim=True).sqrt()
            return (gradients * size).movedim(2, -2).flatten(-2)
        return gradients.sum(2) / (config.timesteps // config.ranges)


def unit(features: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
    """Scale every group of every row to norm one, so that no row dominates; zero stays zero.

    Without it a few rows of huge norm rank first for every query (Xie et al., TMLR 2024).
    """
    return features / features.norm(dim=-1, keepdim=True).clamp_min(1e-12)

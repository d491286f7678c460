"""Score training pictures by the way that the parameters took: data value embedding (arXiv 2412.09538).

Without a picture, its step k would have left out rho_k g_k(n) / B, and each later step would have answered to that. So, with a
query's gradient v_T at the end of the training,

    score(q, n) = sum over the steps k that saw n of  <v_k, rho_k g_k(n)> / B,    v_k = (I - H_k rho_k) v_k+1,

where H_k is the mean of g_k g_k^T over the batch. In: the study, trained once more by the draws of its full
model. Simplifications: gradients are projected, the whole network's side by side; rho_k is the learning rate over the size of
the batch's mean gradient in each layer, as Muon's steps have a size of their own and no momentum is followed; and
v_k = (I + H_k rho_k)^-1 v_k+1, the same to first order, which cannot blow up. It takes nothing from a query but its gradient.
"""

from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor

from attribution.gradients.methods import denoising_loss
from attribution.gradients.projector import GradientProjector
from attribution.gradients.trials import Trials
from precompute.evaluate.truth.study import FULL_SEED, LEARNING_RATE, Study

SHARE = 0.2  # Muon's step in root mean square, of the learning rate


@dataclass(frozen=True)
class Trajectory:
    """What a training did, step by step."""

    rows: Int[Tensor, "step row"]  # the pictures of each batch
    gradients: Float[Tensor, "step row layer dim"]
    rates: Float[Tensor, "step layer"]


def follow(study: Study, steps: int, proj_dim: int) -> Trajectory:
    """Train on all pictures again, and keep every example's projected gradient when it was seen."""
    rows, gradients, sizes = [], [], []

    def on_batch(unet: UNet2DConditionModel, chosen: Tensor, trials: Trials) -> None:
        projector = GradientProjector(unet, proj_dim, 0)
        given = trials.noisy, trials.timesteps

        def losses() -> Tensor:
            predicted = unet(*given, **trials.conditions.tensors).sample
            return denoising_loss(predicted, trials.target)

        rows.append(chosen)
        gradients.append(projector(losses, len(chosen)))
        if not sizes:
            sizes.extend(p.layer.weight.numel() ** 0.5 for p in projector.projections)

    everything = torch.ones(len(study.collection), dtype=torch.bool)
    study.train(everything, FULL_SEED, steps, on_batch=on_batch)
    found = torch.stack(gradients)
    step = torch.arange(steps)
    rate = LEARNING_RATE * torch.minimum(step / 30, 2 * (1 - step / steps)).clamp(max=1.0)
    mean = found.mean(1).norm(dim=-1).clamp_min(1e-12)  # [step, layer]
    return Trajectory(torch.stack(rows), found, rate[:, None] * SHARE * torch.tensor(sizes) / mean)


def value_embedding(
    trajectory: Trajectory,
    queries: Float[Tensor, "query layer dim"],
    count: int,
    strength: float = 1.0,
) -> Float[Tensor, "query train"]:
    """Carry the queries' gradients back through the training, and credit each picture at its steps.

    `strength` scales what later steps take back of earlier ones; at zero it is TracIn along the training.
    """
    scores, carried = torch.zeros(len(queries), count), queries.flatten(1).clone()
    for step in reversed(range(len(trajectory.rows))):
        seen = trajectory.gradients[step].float()
        stepped = (seen * trajectory.rates[step, :, None]).flatten(1) / len(seen)
        credit = carried @ stepped.T  # [query, row]
        if strength:
            answered = strength * seen.flatten(1) @ stepped.T
            answered.diagonal().add_(1)
            credit = torch.linalg.solve(answered, credit.T).T
            carried -= strength * credit @ seen.flatten(1)
        scores.index_add_(1, trajectory.rows[step], credit)
    return scores

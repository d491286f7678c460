"""Find which part of one picture another one shows: an upright window, by least squares.

In: grey pictures as arrays in [0, 1], and where to begin. Out: windows (left, top, width, height), in shares of a picture's
sides. Pictures are read as what they are, squares of one grey each, and shrunk by the mean over every cell; windows move by
Levenberg's and Marquardt's steps on the squared difference (Lucas and Kanade 1981). It knows no collection.
"""

import numpy as np
from jaxtyping import Float

Grey = Float[np.ndarray, "batch height width"]
Windows = Float[np.ndarray, "batch 4"]
SMALLEST = 0.84  # of a window's sides: 90 % and what registration may be off by
OUTSIDE = 0.01  # a window may begin so far outside
SHAKE = 0.125  # of a cell, by which a window moves to see what changes
LONGEST = 0.05  # step


def pool(images: Grey, windows: Windows, side: int) -> Float[np.ndarray, "batch side side"]:
    """Shrink a window of each picture to side x side cells, each the mean over its area."""
    _, height, width = images.shape
    rows = _shares(windows[:, 1], windows[:, 3], side, height)
    columns = _shares(windows[:, 0], windows[:, 2], side, width)
    return rows @ images @ columns.transpose(0, 2, 1)


def _shares(
    start: Float[np.ndarray, "batch"], length: Float[np.ndarray, "batch"], cells: int, pixels: int
) -> Float[np.ndarray, "batch cells pixels"]:
    """Say how much of every cell lies in every pixel; beyond the border the last pixel goes on."""
    first, cell = (each[:, None, None] * pixels for each in (start, length / cells))
    low = (first + cell * np.arange(cells)[:, None]).astype(np.float32)
    pixel = np.arange(pixels)
    at, until = pixel.astype(np.float32), pixel + np.float32(1)
    at[0], until[-1] = -np.inf, np.inf
    found = np.minimum(low + cell, until) - np.maximum(low, at)
    return (np.maximum(found, 0) / cell).astype(np.float32)


def register(
    shown: Float[np.ndarray, "batch side side"], images: Grey, windows: Windows, steps: int
) -> tuple[Windows, Float[np.ndarray, "batch"]]:
    """Move each window until it looks like what is shown; give it with the mean squared difference."""
    batch, side, _ = shown.shape
    shake = SHAKE / side

    def missed(at: Windows) -> Float[np.ndarray, "batch cell"]:
        return (pool(images, at, side) - shown).reshape(batch, -1)

    windows, caution = _within(windows), np.full(batch, 1e-2, np.float32)
    wrong = missed(windows)
    loss = np.square(wrong).mean(1)
    for _ in range(steps):
        moved = [missed(windows + shake * way) for way in np.eye(4, dtype=np.float32)]
        slope = np.stack([(each - wrong) / shake for each in moved], 2)  # [batch, cell, 4]
        bent = slope.transpose(0, 2, 1) @ slope
        damping = caution[:, None] * np.einsum("bii->bi", bent) + 1e-5
        step = np.linalg.solve(
            bent + damping[:, :, None] * np.eye(4), slope.transpose(0, 2, 1) @ wrong[..., None]
        )
        tried = _within(windows - np.clip(step[..., 0], -LONGEST, LONGEST).astype(np.float32))
        there = missed(tried)
        better = np.square(there).mean(1) < loss
        windows = np.where(better[:, None], tried, windows)
        wrong = np.where(better[:, None], there, wrong)
        loss, caution = np.square(wrong).mean(1), np.where(better, caution / 5, caution * 5)
    return windows, loss


def _within(windows: Windows) -> Windows:
    sides = np.clip(windows[:, 2:], SMALLEST, 1 + 2 * OUTSIDE)
    starts = np.clip(windows[:, :2], -OUTSIDE, 1 + OUTSIDE - sides)
    return np.concatenate([starts, sides], 1).astype(np.float32)

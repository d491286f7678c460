"""Say what the names and shapes of a denoiser's layers mean: diffusers' UNet today.

In: names of layers, shapes of their outputs. Out: which read the prompt, how a picture passes them, and how their positions
lie in it. It knows no parameters.
"""

import math

from attribution.models.adapters import plain

DEPTH = ("conv_in", "time_embedding", "down_blocks", "mid_block", "up_blocks", "conv_out")
READING = (".attn2.to_k", ".attn2.to_v")  # cross-attention's keys and values


def reads_prompt(layer: str) -> bool:
    """Tell whether a layer's positions are the prompt's tokens."""
    return plain(layer).endswith(READING)


def in_order(layers: list[str]) -> list[int]:
    """Order layers as a picture passes them: a UNet lists its middle last; unknown ones stay first."""
    return sorted(
        range(len(layers)),
        key=lambda i: next((d for d, part in enumerate(DEPTH) if layers[i].startswith(part)), 0),
    )


def block_of(layer: str) -> str:
    """Name a layer's block: down_blocks.0 of down_blocks.0.resnets.1.conv1, mid_block, conv_in."""
    first, *rest = layer.split(".")
    return f"{first}.{rest[0]}" if rest and rest[0].isdigit() else first


def sides(layout: tuple[int, ...]) -> tuple[int, int] | None:
    """Give (height, width) of positions that lie in the picture; None where they do not.

    A layout is (height, width) or a number of tokens, which are a square picture's where they are a square
    number above one.
    """
    side = math.isqrt(math.prod(layout))
    if len(layout) == 1 and side * side == layout[0]:
        layout = (side, side)
    return layout if len(layout) == 2 and math.prod(layout) > 1 else None

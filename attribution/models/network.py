"""Say what the names and shapes of a denoiser's layers mean; each family has its own `Anatomy` (families.py).

In: names of layers, shapes of their outputs. Out: which hold the prompt's words, how a picture passes them, and how their
positions lie in it. It knows no parameters.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Anatomy:
    """What is known of a family's layers by their names."""

    order: tuple[str, ...] = ()  # how they begin, as a picture passes them; else as they are listed
    words: tuple[str, ...] = ()  # what names hold whose positions are the prompt's tokens
    keys: tuple[str, ...] = ()  # how those end that make keys and values of words
    placed: bool = False  # whether all other positions lie in the picture, row by row

    def reads_prompt(self, layer: str) -> bool:
        """Tell whether a layer's positions are the prompt's tokens."""
        return any(part in layer for part in self.words)

    def in_order(self, layers: list[str]) -> list[int]:
        """Order layers as a picture passes them; unknown ones stay first."""
        return sorted(
            range(len(layers)),
            key=lambda i: next((d for d, p in enumerate(self.order) if layers[i].startswith(p)), 0),
        )


CROSS = (".attn2.to_k", ".attn2.to_v")
JOINT = (".add_k_proj", ".add_v_proj")  # of layers that attend to words and picture at once
UNET = Anatomy(  # which lists its middle last
    ("conv_in", "time_embedding", "down_blocks", "mid_block", "up_blocks", "conv_out"),
    CROSS, CROSS, placed=True,
)  # fmt: skip
READER = Anatomy((), (*CROSS, "caption_projection."), CROSS, placed=True)  # PixArt, Sana
WORDLESS = Anatomy(placed=True)  # DiT
TWO_STREAMS = Anatomy(  # Stable Diffusion 3
    (), (*JOINT, ".add_q_proj", ".to_add_out", ".ff_context.", "context_embedder"), JOINT, placed=True
)  # fmt: skip
ONE_STREAM = Anatomy(keys=JOINT)  # FLUX, Qwen-Image: words and picture are in one row of tokens
UNKNOWN = Anatomy()


def block_of(layer: str) -> str:
    """Name a layer's block: down_blocks.0 of down_blocks.0.resnets.1.conv1, mid_block, conv_in."""
    first, *rest = layer.split(".")
    return f"{first}.{rest[0]}" if rest and rest[0].isdigit() else first


def sides(layout: tuple[int, ...], picture: tuple[int, int]) -> tuple[int, int] | None:
    """Give (height, width) of positions that lie in the picture; None where they do not.

    A layout is (height, width) or a number of tokens. These are a square picture's where they are a square
    number above one; another picture's, whose latents are (height, width), where they are as many as these or as these halved again
    and again, as a UNet does.
    """
    if len(layout) == 1:
        height, width = picture
        if height == width:
            side = math.isqrt(layout[0])
            halves = [(side, side)]
        else:
            powers = (2**power for power in range(max(picture).bit_length()))
            halves = [(math.ceil(height / power), math.ceil(width / power)) for power in powers]
        layout = next((each for each in halves if math.prod(each) == layout[0]), layout)
    return layout if len(layout) == 2 and math.prod(layout) > 1 else None

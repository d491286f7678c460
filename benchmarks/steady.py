"""Measure how much one grey level in a few pixels moves a picture's scores, under noise of its own and under shared noise.

On the study, by TRAK and D-TRAK (block kernel, equalised groups): a picture's scores are put at mean zero and size one, and
the size of what changes is told. It needs the ground truth, and writes nothing but features to go on from.

  python benchmarks/steady.py
"""

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attribution.gradients.features import FeatureExtractor, unit
from attribution.gradients.methods import METHODS
from attribution.models.encoded import Encoded
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.studied import open_studied
from precompute.evaluate.taken import config_of, train_features
from precompute.evaluate.truth.kernels import contributions_under

PICTURES = 20
PIXELS = 5
DAMPING = 0.1


def nudged(image: Image.Image, seed: int) -> Image.Image:
    """Move a few pixels by one grey level, up or down."""
    rng, pixels = np.random.default_rng(seed), np.array(image).astype(int)
    rows, columns = (rng.integers(size, size=PIXELS) for size in pixels.shape[:2])
    pixels[rows, columns] += rng.choice([-1, 1], size=(PIXELS, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def standard(scores: Float[Tensor, "query train"]) -> Float[Tensor, "query train"]:
    """Put each query's scores at mean zero and root mean square one."""
    scores = scores - scores.mean(1, keepdim=True)
    return scores / scores.square().mean(1, keepdim=True).sqrt()


def main() -> None:
    """Print the change for each method and noise."""
    studied = open_studied(EvaluateConfig("lds"))
    asked = studied.queries["evaluation"][:PICTURES]
    images, prompts = [q.image for q in asked], [q.prompt for q in asked]
    other = [nudged(image, seed) for seed, image in enumerate(images)]
    for name in ("trak", "d-trak"):
        for noise in ("own", "shared"):
            extractor = FeatureExtractor(studied.full(), config_of(METHODS[name], noise))
            contribute = contributions_under(train_features(studied, extractor), "block", DAMPING)
            seen = [Encoded(extractor.model, some) for some in (images, other)]
            one, two = (contribute(unit(extractor.query(each, prompts))) for each in seen)
            scale = one.square().mean((0, 2), keepdim=True).sqrt()
            first, second = (standard((each / scale).sum(1)) for each in (one, two))
            change = (second - first).square().mean(1).sqrt()
            print(f"{name}, {noise} noise: mean {change.mean():.2%}, most {change.max():.2%}")


if __name__ == "__main__":
    main()

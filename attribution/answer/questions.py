"""Turn what is asked of a picture into query features: the whole of it, or one concept alone.

For the whole picture the gradient is taken under the picture's full description. For a concept it is the
difference that the concept's phrase makes: the normalised gradient under the phrase alone less that under
no words at all, as Concept-TRAK contrasts a prompt with and without the concept (arXiv 2507.06547). What
picture and noise put into both falls away. Where the method's own objective is that contrast, nothing is
subtracted. In: pictures and phrases. Out: `[query, group, dim]` for each
question.
"""

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attribution.cache.weights import GENERAL
from attribution.gradients.features import FeatureExtractor, unit

Questions = dict[str, list[str]]  # "general" or a concept -> a phrase for every picture


def query_features(
    extractor: FeatureExtractor,
    images: list[Image.Image],
    questions: Questions,
    batch_size: int = 8,
) -> dict[str, Float[Tensor, "query group dim"]]:
    """Make the query features of every question about every picture."""
    features = {
        name: unit(extractor.query(images, phrases, batch_size))
        for name, phrases in questions.items()
    }
    concepts = [name for name in questions if name != GENERAL]
    if concepts and not extractor.rule.contrasts:
        unconditional = unit(extractor.query(images, [""] * len(images), batch_size))
        for name in concepts:
            features[name] = features[name] - unconditional
    return features

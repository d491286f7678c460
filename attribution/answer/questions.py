"""Turn what is asked of a picture into query features: the whole of it, or one concept alone.

For the whole picture the gradient is taken under the picture's full description. For a concept it is the
difference that the concept's phrase makes: the normalised gradient under the phrase alone less that under
no words at all, as Concept-TRAK contrasts a prompt with and without the concept (arXiv 2507.06547). What
picture and noise put into both falls away. Where the method's own objective is that contrast, nothing is
subtracted. In: pictures and phrases. Out: `[query, group, dim]` for each
question.
"""

from jaxtyping import Float
from torch import Tensor

from attribution.cache.weights import GENERAL
from attribution.gradients.features import FeatureExtractor, unit
from attribution.models.encoded import Encoded

WORDLESS = ""  # no concept has this name
Questions = dict[str, list[str]]  # "general" or a concept -> a phrase for every picture


def query_features(
    extractor: FeatureExtractor,
    seen: Encoded,
    questions: Questions,
    batch_size: int = 8,
    wordless: bool = False,
) -> dict[str, Float[Tensor, "query group dim"]]:
    """Make the query features of every question about every picture, the questions of a picture together.

    With `wordless`, those under no words stand beside them by the name WORDLESS.
    """
    asked = dict(questions)
    concepts = [name for name in questions if name != GENERAL]
    contrasted = bool(concepts) and not extractor.rule.contrasts
    if contrasted or wordless:
        asked[WORDLESS] = [""] * len(seen)
    rows = [row for row in range(len(seen)) for _ in asked]
    phrases = [words[row] for row in range(len(seen)) for words in asked.values()]
    found = unit(extractor.query(seen.at(rows), phrases, batch_size))
    found = found.unflatten(0, (len(seen), len(asked)))  # [query, question, group, dim]
    features = dict(zip(asked, found.unbind(1), strict=True))
    less = features[WORDLESS] if contrasted else 0
    found = {n: f if n in (GENERAL, WORDLESS) else f - less for n, f in features.items()}
    if not wordless:
        found.pop(WORDLESS, None)
    return found

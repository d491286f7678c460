"""Keep off the terminal what libraries say of themselves and means nothing to a person.

What they say of a model or of a download is left alone, and so is what others log. It imports neither torch nor them.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

IMPORTS = "transformers.utils.import_utils"  # the logger
OTHERS = (
    "torchao",  # of kernels that nothing here uses
    "diffusers.quantizers.torchao.torchao_quantizer",
    "torch.utils._pytree",  # of torchao's types
    "diffusers.models.modeling_utils",  # of modules to keep in float32, where it lists none
)
NEWS_OF_NONE = (
    "ImageProcessor` requires torchvision", "Failed to load /", "Unable to import `torchao` Tensor objects",
    "is an Enum subclass and is now natively supported",
    "should be kept in float32: []",
)  # fmt: skip


def drop_import_warnings() -> None:
    """Drop what is said whenever diffusers and torchao are imported or describe a network, and asks nothing of anybody."""
    for name in (IMPORTS, *OTHERS):
        logging.getLogger(name).addFilter(is_news)


def is_news(record: logging.LogRecord) -> bool:
    """Tell whether a record says more than what is dropped."""
    return not any(text in str(record.msg) for text in NEWS_OF_NONE)


@contextmanager
def without_bars() -> Iterator[None]:
    """Hide transformers' bars over parameters, which are read in a moment; the Hub's stay on for downloads."""
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()  # the Hub's, too
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()

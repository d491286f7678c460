"""Keep off the terminal what libraries say of themselves and means nothing to a person.

What they say of a model or of a download is left alone, and so is what others log. It imports neither torch nor them.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

IMPORTS = "transformers.utils.import_utils"  # the logger
QUANTISED = (
    "torchao",
    "diffusers.quantizers.torchao.torchao_quantizer",
    "torch.utils._pytree",
)  # of kernels and types that nothing here uses
NEWS_OF_NONE = (
    "ImageProcessor` requires torchvision", "Failed to load /", "Unable to import `torchao` Tensor objects",
    "is an Enum subclass and is now natively supported",
)  # fmt: skip


def drop_import_warnings() -> None:
    """Drop what is said whenever diffusers is imported: of image processors and of torchao's kernels that no step of ours uses."""
    for name in (IMPORTS, *QUANTISED):
        logging.getLogger(name).addFilter(is_news)


def is_news(record: logging.LogRecord) -> bool:
    """Tell whether a record says more than that an image processor does without torchvision, or torchao without kernels."""
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

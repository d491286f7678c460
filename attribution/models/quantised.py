"""Know a denoiser whose layers keep their parameters in eight bits, as diffusers saves it with torchao.

Features need no weight's gradient, only layers' inputs and output gradients, so that they are exact for what the network
computes; nothing here or elsewhere trains such a layer. In: a config, or a parameter. Out: whether it was tried, and the plain tensors
that a parameter is kept as. It loads nothing.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from attribution.errors import InputError

KEY = "quantization_config"
READ = ("Int8WeightOnlyConfig",)  # of torchao


def check_quantised(path: Path, config: dict) -> None:
    """Refuse quantised networks of other kinds than those that were tried, and all where torchao is missing."""
    told = config[KEY] if isinstance(config[KEY], dict) else {}
    kind = told.get("quant_type")
    kind = kind.get("default", kind) if isinstance(kind, dict) else kind
    kind = kind.get("_type") if isinstance(kind, dict) else kind
    if told.get("quant_method") != "torchao" or kind not in READ:
        raise InputError(
            f"{path} is of a network quantised by {told.get('quant_method')!s:.40} ({kind!s:.60}); of quantised networks those of "
            f"torchao's {' or '.join(READ)} are read, so save it so, or in full precision"
        )
    if find_spec("torchao") is None:
        raise InputError(f"{path} is of a network quantised by torchao; run pip install torchao")


def is_quantised(parameter: Tensor) -> bool:
    """Tell whether a parameter is kept in fewer bits than it counts with."""
    return hasattr(parameter, "__tensor_flatten__")


def plain_tensors(parameter: Tensor) -> Iterator[Tensor]:
    """Give the tensors that a parameter is kept as: itself, or whole numbers and their scales."""
    if not is_quantised(parameter):
        yield parameter
        return
    names, _ = parameter.__tensor_flatten__()  # pyright: ignore[reportAttributeAccessIssue]
    for name in names:
        yield from plain_tensors(getattr(parameter, name))

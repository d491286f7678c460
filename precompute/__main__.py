"""Everything that is computed once, before a picture is attributed.

`all` makes everything that a page needs of a model and its pictures; or run the steps one by one, in this order, since
each reads what the one before it wrote:
  all          gradients, weights, calibrate, likeness and examples, whatever of them is missing
  collection   draw the shipped collection
  train        train the shipped model on it
  concepts     propose what to ask of a collection that names no concepts
  gradients    cache the projected gradients of every training image
  weights      learn how much each group of parameters counts
  calibrate    learn how scores look for pictures that have nothing to do with the model
  likeness     keep how training images look, to find copies and to compare with what the model learned
  examples     draw pictures that the page opens with, and take their gradients
  demo         write a page that needs no server: plain files with all answers to the examples
  index        only for many images: answers without a pass over all
  remove       take an artist or a picture out, at once and for good
  retrain      for measuring: train a small model on many halves of the pictures
  evaluate     measure how often the answer is right
  verify       compute a report's answer again and compare; exit code 1 where it differs
"""

import argparse
import dataclasses
import importlib
import os
import signal
import sys
import types
import typing
from multiprocessing import active_children

from attribution.errors import InputError
from precompute.implied import refuse_implied

STEPS = {
    "all": "everything:EverythingConfig",
    "collection": "shipped.collection:CollectionConfig",
    "train": "shipped.train:TrainConfig",
    "concepts": "concepts:ConceptsConfig",
    "gradients": "gradients:GradientsConfig",
    "weights": "weights:WeightsConfig",
    "calibrate": "calibrate:CalibrateConfig",
    "likeness": "likeness:LikenessConfig",
    "examples": "examples:ExamplesConfig",
    "demo": "demo:DemoConfig",
    "index": "index:IndexConfig",
    "remove": "remove:RemoveConfig",
    "retrain": "evaluate.truth.retrain:RetrainConfig",
    "evaluate": "evaluate:EvaluateConfig",
    "verify": "verify:VerifyConfig",
}


MODEL = "pretrained_model_name_or_path"
STOPPED = 128 + 2  # what a shell gives for a program that SIGINT ended
NO_MEMORY = (
    "the device has too little memory; what is made so far is kept: give the command again with --device cpu, or have "
    "gradients or all --dry_run say which flags make it fit"
)


def _add_fields(parser: argparse.ArgumentParser, config: type) -> None:
    """Add an option for each field of a frozen dataclass; its metadata holds help and choices.

    Options that are not given stay away, so that what was meant can be told from what was left out.
    """
    if MODEL in {field.name for field in dataclasses.fields(config)}:
        text = (
            "a LoRA, a textual inversion or another state of the denoiser (unet_ema) that the model is used with; may be given "
            "several times"
        )
        parser.add_argument("--adapter", action="append", default=argparse.SUPPRESS, help=text)
        text = "where the model is one .safetensors file: a folder or a Hub id that has the configs of its kind of model"
        parser.add_argument("--config", default=argparse.SUPPRESS, help=text)
    for field in dataclasses.fields(config):
        if field.metadata.get("hidden"):
            continue
        kind = typing.get_type_hints(config)[field.name]
        if isinstance(kind, types.UnionType):
            kind = next(k for k in typing.get_args(kind) if k is not type(None))
        text = field.metadata.get("help", "")
        if field.metadata.get("positional"):
            parser.add_argument(field.name, choices=field.metadata.get("choices"), help=text)
        elif kind is bool:
            parser.add_argument(
                f"--{field.name}", action="store_true", default=argparse.SUPPRESS, help=text
            )
        else:
            text = f"{text} (default: {field.default})".strip()
            parser.add_argument(f"--{field.name}", type=kind, default=argparse.SUPPRESS, help=text,
                                choices=field.metadata.get("choices"))  # fmt: skip


def name_model(given: dict, config: type) -> None:
    """Name a model with its configs and adapters by one text, as everywhere but on the command line."""
    configs, adapters = given.pop("config", None), given.pop("adapter", [])
    if configs or adapters:
        from attribution.models.adapters import joined
        from attribution.models.single_file import with_config

        model = given.get(MODEL, getattr(config, MODEL))
        given[MODEL] = joined(with_config(model, configs) if configs else model, adapters)


def step_named(name: str) -> tuple[types.ModuleType, type]:
    """Import a step, and give it with its configuration."""
    place, _, config = STEPS[name].partition(":")
    module = importlib.import_module(f"precompute.{place}")
    return module, getattr(module, config)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run one step; a mistake, or a disk that refuses, is one line and exit code 2."""
    parser = argparse.ArgumentParser(
        "python -m precompute",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    steps = parser.add_subparsers(dest="step", required=True, metavar="step")
    first = (sys.argv[1:] if argv is None else argv)[:1]
    for name in STEPS:
        step_parser = steps.add_parser(name)
        if first == [name]:  # import only what runs: torch takes seconds
            module, config = step_named(name)
            step_parser.description = module.__doc__
            step_parser.formatter_class = argparse.RawDescriptionHelpFormatter
            _add_fields(step_parser, config)
    given = vars(parser.parse_args(argv))
    name = given.pop("step")
    module, config = step_named(name)
    try:
        name_model(given, config)
        wanted = config(**given)
        refuse_implied(name, config, given)
        return module.run(wanted) or 0
    except (InputError, OSError) as error:
        print(f"python -m precompute {name}: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:  # torch's alone, which is not imported for every step
        if type(error).__name__ != "OutOfMemoryError":
            raise
        print(f"python -m precompute {name}: {NO_MEMORY}", file=sys.stderr)
        return 2


def stop(*_: object) -> None:
    """End at once, as if killed, which every file that we write survives; the lock goes with the process.

    An exception would not do: raised within torch's own code it aborts, and within an import it becomes another.
    """
    for worker in active_children():
        worker.kill()
    name = " ".join(["python -m precompute", *sys.argv[1:2]])
    os.write(2, f"\n{name}: stopped; give the same command to go on or begin again\n".encode())
    os._exit(STOPPED)


def program() -> int:
    """Run one step as a process of its own, which Ctrl-C ends."""
    signal.signal(signal.SIGINT, stop)
    return main()


if __name__ == "__main__":
    sys.exit(program())

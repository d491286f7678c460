"""A program starts soon and quietly: it imports what it needs, and says what means something to a person."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import attribution
from attribution.quiet import IMPORTS

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "numpy", "diffusers", "transformers", "gradio", "matplotlib")
HELP = """
import runpy, sys
sys.argv[1:] = ["--help"]
try:
    runpy.run_module("precompute", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code
"""


def python(*given):
    """Run Python from the root as a person would, without the settings of the tests."""
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    return subprocess.run(
        [sys.executable, *given], cwd=ROOT, env=environment, text=True, check=True,
        capture_output=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("code", ["import attribution.errors", "import precompute", HELP])
def test_what_needs_no_torch_imports_none(code):
    done = python("-c", f"{code}\nimport sys\nprint([m for m in {HEAVY} if m in sys.modules])")
    assert done.stdout.splitlines()[-1] == "[]"
    assert not done.stderr


def test_a_cache_is_opened_without_diffusers():
    opening = "from attribution.cache.store import open_cache\nopen_cache('assets/cache', {}).rows"
    unused = ("diffusers", "transformers", "accelerate", "gradio")
    done = python("-c", f"{opening}\nimport sys\nprint([m for m in {unused} if m in sys.modules])")
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_public_name_is_there_and_no_other():
    assert sorted(attribution.PLACES) == sorted(attribution.__all__)
    assert all(getattr(attribution, name).__name__ == name for name in attribution.__all__)
    assert set(attribution.__all__) <= set(dir(attribution))
    with pytest.raises(AttributeError, match="'attribution' has no attribute 'pickle'"):
        _ = attribution.pickle


@pytest.mark.slow
def test_a_step_says_what_it_found_and_nothing_else(small_model, small_collection, tmp_path):
    done = python(
        "-m", "precompute", "gradients", "--dry_run", "--timesteps", "2", "--proj_dim", "8",
        "--pretrained_model_name_or_path", str(small_model),
        "--train_data_dir", str(small_collection), "--output_dir", str(tmp_path / "cache"),
    )  # fmt: skip
    paper, made = done.stdout.splitlines()
    assert paper.startswith("on paper: ")
    assert made.startswith("30 of 30 images to make")
    said = done.stderr.replace("\r", "\n").split("\n")
    assert not [
        line for line in said if not line.startswith(("no picture in ", "checking: ")) and line
    ]


def test_other_warnings_about_imports_are_heard(caplog):
    logger = logging.getLogger(IMPORTS)
    with caplog.at_level(logging.WARNING, IMPORTS):
        logger.propagate = True
        logger.parent.parent.propagate = True  # transformers keeps its own off the root's handlers
        logger.warning("`CLIPImageProcessor` requires torchvision (not installed); falling back")
        logger.warning("flash attention is broken")
    assert caplog.messages == ["flash attention is broken"]

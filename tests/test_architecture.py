"""Imports point one way, and nothing is unpickled."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def sources(folder):
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


def test_the_library_knows_neither_the_page_nor_the_command_line():
    for path in sources("attribution"):
        assert not {"gradio", "precompute", "app", "matplotlib"} & set(imports(path)), path


def test_the_command_line_does_not_know_the_page():
    for path in sources("precompute"):
        assert not {"gradio", "app"} & set(imports(path)), path


def test_the_page_takes_no_gradient():
    assert not {"torch", "precompute"} & set(imports(ROOT / "app.py"))


def test_nothing_is_unpickled():
    for path in [*sources("attribution"), *sources("precompute"), ROOT / "app.py"]:
        text = path.read_text()
        assert "torch.load" not in text, path
        assert "pickle" not in set(imports(path)), path


def test_only_the_room_of_models_knows_what_a_model_is_made_of():
    parts = r"pipeline\.|alphas_cumprod|attn2|sample_size|encoder_hidden_states|DDPMScheduler"
    one_tensor = r"conditions(\(.*\))?(\[0\]|\.(expand|repeat_interleave|split|shape|dim)\b)"
    rooms = [*sources("attribution"), *sources("precompute")]
    own = ("attribution/models/", "precompute/shipped/", "precompute/evaluate/truth/")
    for path in rooms:
        place = path.relative_to(ROOT).as_posix()
        if not place.startswith(own):
            told = re.search(f"{parts}|{one_tensor}", path.read_text())
            assert not told, f"{place}: {told[0]}"

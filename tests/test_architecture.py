"""Imports point one way, and nothing is unpickled."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


ROOMS = ("pictures", "models", "gradients", "cache", "answer")  # in the order in which data flows
STEPS = ("gradients", "weights", "calibrate", "likeness", "examples", "index", "verify")


def modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports(path):
    return (name.split(".")[0] for name in modules(path))


def sources(folder):
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


def test_the_library_does_not_know_the_command_line():
    for path in sources("attribution"):
        assert not {"precompute", "app", "matplotlib"} & set(imports(path)), path


def test_the_page_alone_knows_gradio_and_nothing_knows_the_page():
    page = ROOT / "attribution/page"
    for path in sources("attribution"):
        if not path.is_relative_to(page):
            assert "gradio" not in set(imports(path)), path
            assert not [name for name in modules(path) if name.startswith("attribution.page")], path


def test_rooms_know_none_that_data_reaches_later():
    for place, room in enumerate(ROOMS):
        later = tuple(
            f"attribution.{name}" for name in (*ROOMS[place + 1 :], "attributor", "looks")
        )
        for path in sources(f"attribution/{room}"):
            assert not [name for name in modules(path) if name.startswith(later)], path


def test_no_measurement_is_made_of_another_steps_command():
    steps = {f"precompute.{name}" for name in (*STEPS, "__main__", "evaluate.truth.retrain")}
    for path in sources("precompute/evaluate"):
        assert not steps & set(modules(path)), path


def test_the_command_line_does_not_know_the_page():
    for path in sources("precompute"):
        assert not {"gradio", "app"} & set(imports(path)), path
        assert not [name for name in modules(path) if name.startswith("attribution.page")], path


def test_no_panel_takes_a_gradient_and_no_panel_knows_gradios_private_parts():
    panels = sources("attribution/page/panels")
    for path in [*panels, ROOT / "attribution/page/endpoints.py", ROOT / "app.py"]:
        assert "torch" not in set(imports(path)), path
    for path in sources("attribution/page"):
        text = path.read_text()
        private = re.search(r"(demo|event|gr)\._|gradio\.(context|utils|routes|queueing)", text)
        assert not private or path.name == "guards.py", path


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

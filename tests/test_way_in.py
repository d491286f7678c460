"""docs/your-model.md, followed to the letter: every command runs, and the page is served.

The same commands draw fewer pictures here, unless FULL is set: `FULL=1 pytest tests/test_way_in.py` takes twenty minutes.
"""

import os

import pytest
from conftest import served
from gradio_client import Client
from test_your_model import commands, followed
from worlds import WORLDS

from attribution.page.hall import load
from attribution.page.settings import Settings

pytestmark = pytest.mark.slow

FULL = bool(os.environ.get("FULL"))
FEWER = "" if FULL else " --queries 16 --unrelated 40 --draws 40 --lists 20 --known 8"
STEPS = (
    {}
    if FULL
    else {"weights": " --queries 16", "calibrate": " --unrelated 40 --draws 40 --lists 20"}
)


@pytest.mark.parametrize("name", WORLDS)
def test_the_way_in_is_followed_literally(name, tmp_path, monkeypatch, served_folder):
    model, images = WORLDS[name](tmp_path)
    dry, quick, whole, page = commands("The way in")
    whole += FEWER
    given = [
        followed(each, model, images, tmp_path / "cache") for each in (dry, quick, whole, page)
    ]
    assert [bool(each) for each in given] == [False, False, False, True]
    for variable, value in given[-1].items():
        monkeypatch.setenv(variable, value)
    with served(load(Settings.from_environment())) as address:
        answer = Client(f"http://{address}", verbose=False).predict(api_name="/rank")
    assert len(answer["sources"]) == 12
    assert answer["model"]["name"] == "model"


def test_the_single_steps_are_followed_literally(tmp_path):
    model, images = WORLDS["concepts"](tmp_path)
    for each in commands("Step by step"):
        followed(each + STEPS.get(each.split()[3], ""), model, images, tmp_path / "cache")
    assert load(Settings(cache=(str(tmp_path / "cache"),))).desk.examples

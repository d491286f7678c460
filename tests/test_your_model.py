"""The way in, as docs/your-model.md tells it, on three worlds: every command runs, and the page offers what there is."""

import json
import re
import shlex
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import served
from gradio_client import Client, handle_file
from playwright.sync_api import expect, sync_playwright
from test_adapters import train_lora
from worlds import ANIMALS, COUNT, MEDIA, WORLDS

from attribution.cache.origin import FILE, Origin, read_origin, write_origin
from attribution.errors import InputError
from attribution.page.hall import load
from attribution.page.settings import Settings
from precompute.__main__ import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/your-model.md").read_text()
PATIENCE = 30_000  # milliseconds


def commands(heading):
    """Give the commands under a heading of the document."""
    part = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ")[0]
    return re.findall(r"^    (\S.*)$", part, re.MULTILINE)


def followed(command, model, images, cache):
    """Follow one command literally, in this process; of `make app`, give the environment that it is given."""
    names = {"MODEL": str(model), "IMAGES": str(images), "CACHE": str(cache)}
    words = [re.sub(r"\b(MODEL|IMAGES|CACHE)$|\bCACHE(?=/)", lambda m: names[m[0]], word) if "=" not in word else word for word in shlex.split(command)]  # fmt: skip
    if words[:3] == ["python", "-m", "precompute"]:
        assert main(words[3:]) == 0, command
        return {}
    *variables, make, target = words
    assert (make, target) == ("make", "app")
    assert "$(BIN)/python app.py" in (ROOT / "Makefile").read_text()
    return {name: names[value] for name, value in (each.split("=") for each in variables)}


@pytest.fixture(scope="module", params=WORLDS)
def world(request, tmp_path_factory):
    """A world that went the quick way in: ten seconds of drawings and gradients, once for all that is asked of it."""
    root = tmp_path_factory.mktemp(request.param)
    model, images = WORLDS[request.param](root)
    quick = next(each for each in commands("The way in") if each.endswith("--quick"))
    followed(quick, model, images, root / "cache")
    return request.param, root


@contextmanager
def page_of(root, monkeypatch=None, **more):
    """Serve a world's page as its owner does: the cache alone is named."""
    hall = load(Settings(cache=(str(root / "cache"),), **more))
    with served(hall) as address:
        yield hall, f"http://{address}"


@pytest.fixture(scope="module")
def shown(world, served_folder):
    """A world's page, in a browser."""
    name, root = world
    path = shutil.which("chromium")
    assert path, "there is no chromium; install it (apt-get install chromium)"
    with page_of(root) as (hall, url), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        page.goto(url)
        page.locator("#ranked .card").first.wait_for()
        yield name, hall, page, url
        assert page.problems == []
        browser.close()


def test_the_page_asks_what_the_collection_names(shown):
    name, _, page, _ = shown
    radios = page.locator("#question input").all()
    asked = {"concepts": ["Whole", "Medium", "Animal", "Mix…"], "captions": ["Whole", "Mix…"]}.get(
        name, []
    )
    assert [page.locator("#question label").nth(n).inner_text() for n in range(len(radios))] == asked  # fmt: skip
    if name == "concepts":
        page.get_by_role("radio", name="Animal").check()
        expect(page.locator("#ranked .scale")).to_contain_text("animal")
        page.get_by_role("radio", name="Mix…").check()
        expect(page.locator("#sliders input[type=range]")).to_have_count(3)
        page.get_by_label("range slider for Medium").fill("1")
        expect(page.locator("#ranked .scale")).to_contain_text("medium and animal")
    assert "subject" not in page.locator("body").inner_text().lower()


def test_nothing_is_offered_that_there_is_not(shown):
    name, _, page, _ = shown
    tabs = page.get_by_role("tab")
    there = [tab.inner_text() for tab in tabs.all() if tab.is_visible()]
    assert ("Artists" in there) == (name == "captions")
    assert ("What if" in there) == (name != "wordless")
    assert page.locator("#words button").count() == (5 if name == "concepts" else 0)
    first = {"captions": "#artists p", "concepts": "#more button:has-text('without these')"}
    expect(page.locator(first.get(name, "#more button:has-text('Prepare')")).first).to_be_visible()
    page.get_by_role("tab", name="Collection", exact=True).click()
    assert bool(page.get_by_label("Artist", exact=True).count()) == (name == "captions")
    assert bool(page.get_by_label("Medium", exact=True).count()) == (name == "concepts")
    assert page.locator("#found .card").count() == min(COUNT, 24)
    assert "unknown" not in page.locator("#found").inner_text()
    page.get_by_role("tab", name="Trace", exact=True).click()


def test_the_page_says_which_model_answers(shown):
    name, _, page, _ = shown
    family = {"concepts": "StableDiffusionPipeline", "captions": "StableDiffusionXLPipeline"}
    said = page.locator("#verdict")
    expect(said).to_contain_text(f"“model” ({family.get(name, 'DDPMPipeline')}")
    expect(said).to_contain_text("d-trak")
    if name == "wordless":
        expect(said).to_contain_text("reads no words")
        expect(said).to_contain_text("This model drew this picture.")


def test_a_picture_is_made_and_looked_at(shown):
    name, _, page, _ = shown
    wordless = name == "wordless"
    if name == "concepts":
        page.get_by_label("Describe a picture").fill("")
        for value in ("ink", "bird"):
            page.locator(f"#words [data-word={value}]").click()
            expect(page.get_by_label("Describe a picture")).to_have_value(re.compile(value))
        expect(page.get_by_label("Describe a picture")).to_have_value("a red bird in black ink")
    elif not wordless:
        page.get_by_label("Describe a picture").fill("a dog on the grass")
    else:
        assert page.get_by_label("Describe a picture").count() == 0
    page.get_by_label("Seed").first.fill("11")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#asked figcaption")).to_contain_text("seed 11")
    page.locator("#ranked .card button.look").first.click()
    expect(page.locator("#drawer .where img")).to_be_visible()
    page.locator("#drawer summary").click()
    expect(page.locator("#drawer .depth")).to_be_visible()
    page.keyboard.press("Escape")
    page.wait_for_url("**seed=11*")
    again = page.context.browser.new_page()
    again.goto(page.url)
    expect(again.locator("#asked figcaption")).to_contain_text("seed 11")
    again.close()


def test_programs_name_the_collections_questions(world, served_folder):
    name, root = world
    with page_of(root) as (hall, url):
        client = Client(url, verbose=False)
        told = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
        asked = [each["parameter_name"] for each in told["/rank"]["parameters"]][:-3]
        concepts = ["medium", "animal"] if name == "concepts" else []
        assert asked == ["general", *concepts]
        prompt = "" if name == "wordless" else "a cat in oil paint"
        _, answer = client.predict(prompt, 3, api_name="/generate")
        assert answer["model"]["family"] == type(hall.desk.attributor.model.pipeline).__name__
        assert answer["model"]["adapter"] is None
        assert set(answer["phrases"]) == {"general", *concepts}
        if concepts:
            other = client.predict(general=0, animal=1, api_name="/rank")
            assert other["mix"] == {"animal": 1.0}
        found = hall.desk.collection
        traced = client.predict(handle_file(found.folder / found.files[4]), "", api_name="/trace")
        assert {source["row"] for source in traced["sources"]} <= set(range(COUNT))


def test_the_same_command_makes_what_is_missing_and_nothing_else(world, capsys):
    _, root = world
    cache, args = root / "cache", (root / "model", root / "images", root / "cache")
    quick = next(each for each in commands("The way in") if each.endswith("--quick"))
    before = {p.name: p.stat().st_mtime_ns for p in cache.rglob("*") if p.is_file()}
    (cache / "rows-latents.safetensors").unlink()
    capsys.readouterr()
    followed(quick, *args)
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if "(kept)" in line] == [
        "weights", "calibrate", "examples",
    ]  # fmt: skip
    assert "ATTRIBUTION_CACHE=" in out
    after = {p.name: p.stat().st_mtime_ns for p in cache.rglob("*") if p.is_file()}
    assert {n for n in after if after[n] != before.get(n)} <= {"rows-latents.safetensors", "rows-thumbnails.safetensors", "settings.json", "writing.lock"}  # fmt: skip


@pytest.mark.slow
def test_new_concepts_ask_for_new_weights_and_the_page_starts_meanwhile(tmp_path, capsys):
    model, images = WORLDS["concepts"](tmp_path)
    text = (images / "concepts.json").read_text()
    (images / "concepts.json").unlink()
    quick = next(each for each in commands("The way in") if each.endswith("--quick"))
    followed(quick, model, images, tmp_path / "cache")
    assert "no concepts: only whole pictures" in capsys.readouterr().out
    (images / "concepts.json").write_text(text)
    followed(quick, model, images, tmp_path / "cache")
    out = capsys.readouterr().out
    assert "general, medium, animal" in out
    assert "(kept)" not in out.split("likeness")[0]
    hall = load(Settings(cache=(str(tmp_path / "cache"),)))
    assert hall.desk.choices.questions == ("general", "medium", "animal")
    assert hall.desk.choices.words == {"medium": MEDIA, "animal": ANIMALS}
    assert len(hall.desk.examples) == 4


def test_examples_of_another_model_do_not_stop_the_start(world):
    _, root = world
    hall = load(Settings(cache=(str(root / "cache"),), examples="assets/examples"))
    assert hall.desk.examples == ()
    elsewhere = load(Settings(cache=(str(root / "cache"),)))
    assert len(elsewhere.desk.examples) == 4


def test_a_cache_knows_where_its_model_is_and_says_when_it_moved(tmp_path):
    model, images = WORLDS["wordless"](tmp_path)
    cache = tmp_path / "cache"
    cache.mkdir()
    write_origin(cache, Origin(str(model), "owner/pictures@main"))
    assert "model" in json.loads((cache / FILE).read_text())["model"]
    told = read_origin(cache)
    assert (told.model, told.collection) == (str(model), "owner/pictures@main")
    moved = tmp_path / "moved"
    model.rename(moved)
    with pytest.raises(InputError, match="ATTRIBUTION_MODEL where it is now"):
        load(Settings(cache=(str(cache),)))
    (cache / FILE).write_text('{"model": 3, "adapters": [], "collection": "x"}')
    with pytest.raises(InputError, match="made_from.json is damaged"):
        read_origin(cache)
    assert read_origin("owner/cache") is None
    write_origin(cache, Origin(f"{moved}+owner/lora+{tmp_path / 'own.safetensors'}", str(images)))
    told = read_origin(cache)
    assert told.model == f"{moved}+owner/lora+{tmp_path / 'own.safetensors'}"
    assert told.collection == str(images)


@pytest.mark.parametrize("missing", ["pretrained_model_name_or_path", "train_data_dir", "output_dir"])  # fmt: skip
def test_what_is_meant_must_be_said(missing, capsys):
    given = {n: "somewhere" for n in ("pretrained_model_name_or_path", "train_data_dir", "output_dir") if n != missing}  # fmt: skip
    assert main(["all", *(word for n, v in given.items() for word in (f"--{n}", v))]) == 2
    assert f"--{missing}" in capsys.readouterr().err


def test_what_it_is_said_to_say_it_says():
    table = PAGE.split("**When it says no**", 1)[1].split("\n## ")[0]
    rows = [row.split(" | ")[0] for row in table.splitlines() if row.startswith("| `")]
    assert len(rows) >= 8
    files = [*(ROOT / "attribution").rglob("*.py"), *(ROOT / "precompute").rglob("*.py")]
    source = "\n".join(path.read_text() for path in files)
    for said in re.findall(r"`([^`]*)`", "\n".join(rows)):
        for piece in said.replace("Pipeline", "").split("..."):
            assert piece.strip() in source, piece


@pytest.mark.slow
def test_a_model_with_an_adapter_is_served_by_its_cache_alone(tmp_path):
    model, images = WORLDS["concepts"](tmp_path)
    lora = train_lora(model, tmp_path / "lora", 1)
    quick = next(each for each in commands("The way in") if each.endswith("--quick"))
    followed(f"{quick} --adapter {lora}", model, images, tmp_path / "cache")
    desk = load(Settings(cache=(str(tmp_path / "cache"),))).desk
    assert (desk.choices.model["name"], desk.choices.model["adapter"]) == ("model", "lora")
    assert "with lora" in desk.views.verdict(desk.first())

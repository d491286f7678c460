"""Settings come from the environment, and a wrong one is refused in a sentence that names it."""

import pytest

from attribution.errors import InputError
from attribution.models import diffusion
from attribution.page.hall import load
from attribution.page.inputs import MAX_PROMPT
from attribution.page.settings import Settings, variable


def test_nothing_set_gives_the_shipped_page():
    expected = {name: field.default for name, field in Settings.model_fields.items()}
    assert vars(Settings.from_environment()) == expected
    assert MAX_PROMPT <= diffusion.MAX_PROMPT


def test_every_setting_is_read_as_what_it_is(monkeypatch):
    environment = {
        "ATTRIBUTION_MODEL": "ann/model@v2",
        "ATTRIBUTION_CACHE": "one, ann/two",
        "ATTRIBUTION_COLLECTION": " pictures ",
        "ATTRIBUTION_OPT_OUT": "requests.json",
        "ATTRIBUTION_SEARCH": "index",
        "ATTRIBUTION_EXAMPLES": "answers",
        "ATTRIBUTION_DEVICE": "cuda:1",
        "ATTRIBUTION_MAX_PROMPT": "200",
        "ATTRIBUTION_MAX_UPLOAD_MB": "5",
        "ATTRIBUTION_QUEUE_SIZE": "7",
        "ATTRIBUTION_TIME_LIMIT": "30",
        "ATTRIBUTION_LANGUAGE": "de",
        "ATTRIBUTION_MCP": "True",
        "ATTRIBUTION_FOLLOW_LINKS": "1",
        "ATTRIBUTION_ABOUT": "A model of cats",
        "ATTRIBUTION_KEY": "keys",
        "ATTRIBUTION_CONTACT": "ann@example.org",
    }
    assert set(environment) == {variable(name) for name in Settings.model_fields}
    expected = (
        "ann/model@v2",
        ("one", "ann/two"),
        "pictures",
        "requests.json",
        "index",
        "answers",
        "keys",
        "ann@example.org",
        "A model of cats",
        "cuda:1",
    )
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tuple(vars(Settings.from_environment()).values()) == (
        *expected,
        200,
        5,
        7,
        30,
        "de",
        True,
        True,
    )


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("MODEL", "", "is empty; give a folder"), ("EXAMPLES", "", "is empty; give a folder$"), ("CACHE", "one,,two", "give folders"),
        ("CACHE", "", "give folders"), ("DEVICE", "toaster", "is 'toaster'; give cpu"),
        ("DEVICE", "", "is empty"), ("DEVICE", "cuda:", "give cpu"), ("DEVICE", "cpu\ncuda", "give"),
        ("MAX_PROMPT", "0", "is '0'; give a whole number from 1 to 1000"), ("MAX_PROMPT", "many", "is 'many'"),
        ("MAX_PROMPT", "1001", "from 1 to 1000"), ("MAX_UPLOAD_MB", "-1", "from 1 to 1000"),
        ("QUEUE_SIZE", "1e3", "is '1e3'"), ("TIME_LIMIT", "9" * 5000, "is '9{40}'; give"),
        ("TIME_LIMIT", "٣", "from 1 to 86400"), ("LANGUAGE", "fr", "is 'fr'; give en or de"), ("MCP", "perhaps", "is 'perhaps'; give 1 or 0"),
        ("MODLE", "assets/model", "there is no setting"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_sentence_that_names_it(monkeypatch, name, value, advice):
    monkeypatch.setenv(f"ATTRIBUTION_{name}", value)
    with pytest.raises(InputError, match=f"ATTRIBUTION_{name}") as caught:
        Settings.from_environment()
    caught.match(advice)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["asets/examples", "examples"])
def test_a_folder_of_examples_that_is_not_there_is_refused_before_anything_is_loaded(name):
    with pytest.raises(
        InputError, match=f"no folder {name}, which ATTRIBUTION_EXAMPLES names; check"
    ):
        load(Settings(cache=("nowhere",), examples=name))


@pytest.mark.parametrize("other", ["assets/cache", "./assets/cache"])
def test_two_caches_of_one_method_are_refused_by_their_names(other):
    told = f"the caches assets/cache and {other} are both of d-trak; name one cache of each method"
    with pytest.raises(InputError, match=told):
        load(Settings(cache=("assets/cache", other)))

"""Settings come from the environment, and a wrong one is refused in a sentence that names it."""

import pytest

from attribution.errors import InputError
from attribution.page.settings import Settings, variable


def test_nothing_set_gives_the_shipped_page():
    assert Settings.from_environment({"PATH": "/bin"}) == Settings()


def test_every_setting_is_read_as_what_it_is():
    environment = {
        "ATTRIBUTION_MODEL": "ann/model@v2",
        "ATTRIBUTION_CACHE": "one, ann/two",
        "ATTRIBUTION_COLLECTION": " pictures ",
        "ATTRIBUTION_OPT_OUT": "requests.json",
        "ATTRIBUTION_EXAMPLES": "answers",
        "ATTRIBUTION_DEVICE": "cuda:1",
        "ATTRIBUTION_MAX_PROMPT": "200",
        "ATTRIBUTION_MAX_UPLOAD_MB": "5",
        "ATTRIBUTION_QUEUE_SIZE": "7",
        "ATTRIBUTION_TIME_LIMIT": "30",
        "ATTRIBUTION_MCP": "True",
    }
    assert set(environment) == {variable(name) for name in vars(Settings())}
    expected = Settings(
        "ann/model@v2", ("one", "ann/two"), "pictures", "requests.json", "answers", "cuda:1",
        200, 5, 7, 30, True,
    )  # fmt: skip
    assert Settings.from_environment(environment) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODEL", ""), ("CACHE", "one,,two"), ("CACHE", ""), ("DEVICE", "toaster"), ("DEVICE", ""),
        ("MAX_PROMPT", "0"), ("MAX_PROMPT", "many"), ("MAX_PROMPT", "1001"), ("MAX_UPLOAD_MB", "-1"),
        ("QUEUE_SIZE", "1e3"), ("TIME_LIMIT", "9" * 5000), ("TIME_LIMIT", "٣"),
        ("MCP", "perhaps"), ("MODLE", "assets/model"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_sentence_that_names_it(name, value):
    with pytest.raises(InputError, match=f"ATTRIBUTION_{name}") as caught:
        Settings.from_environment({f"ATTRIBUTION_{name}": value})
    assert "\n" not in str(caught.value)

"""What the documents say is so: tables, links, the tree and the example."""

import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from benchmarks import tables
from precompute.evaluate.config import MEASUREMENTS
from precompute.tables import TABLES

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("docs/*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
BRANCH = re.compile(r"^    ( *)(\S+) {2,}\S", re.MULTILINE)


def tree():
    """Give the paths that the README's tree names."""
    block = README.read_text().split("## The tree", 1)[1].split("\n## ", 1)[0]
    above, found = {}, []
    for indent, name in BRANCH.findall(block):
        depth = len(indent) // 2
        above[depth] = Path(*([above[depth - 1]] if depth else []), name)
        found.append(above[depth])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_committed_results(page):
    text = page.read_text()
    assert tables.filled(text) == text, "run python benchmarks/tables.py"


def test_every_table_is_shown_once_and_none_has_an_empty_column():
    text = "\n".join(page.read_text() for page in PAGES)
    assert sorted(found[2] for found in tables.MARKED.finditer(text)) == sorted(tables.SHOWN)
    for found in tables.MARKED.finditer(text):
        for table in re.findall(r"(?:^\|.*\n)+", found[0], re.MULTILINE):
            head, _, *lines = [line.strip("| \n").split(" | ") for line in table.splitlines()]
            assert lines, found[2]
            for place, name in enumerate(head):
                assert any(line[place].strip() for line in lines if place < len(line)), name


def test_every_measurement_has_a_table():
    assert sorted(TABLES) == sorted(MEASUREMENTS)


def test_tables_need_no_torch():
    asked = "import sys, benchmarks.tables; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], cwd=ROOT, check=False).returncode == 0


def test_the_readme_is_short():
    assert len(README.read_bytes()) <= 8_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_tree_names_what_there_is_and_every_room():
    named = tree()
    assert len(named) > 10
    for path in named:
        assert (ROOT / path).exists(), path
    for room in ("attribution", "precompute"):
        for package in (ROOT / room).rglob("__init__.py"):
            assert package.parent.relative_to(ROOT) in named, package


def test_every_page_of_docs_is_linked_from_the_readme():
    linked = set(LINK.findall(README.read_text()))
    assert {f"docs/{page.name}" for page in ROOT.glob("docs/*.md")} <= linked


@pytest.mark.slow
def test_the_readmes_example_prints_what_it_says(monkeypatch):
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[1]
    said = re.findall(r"# (?!or )(.*)", code)
    monkeypatch.chdir(ROOT)
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue().splitlines() == said

"""Write a demo that needs no server: plain files that any web page or static Space can serve, and an iframe can hold.

In: a model, its collection, its cache and its examples. Out: `index.html` and a folder `demo` beside it, with which a
browser alone ranks the training images of every example for any mix of questions. Make it again whenever somebody asks
to be left out: it is a copy, and knows of no later request. It draws nothing.
"""

import json
import os
import shutil
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from tqdm import tqdm

from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.files import write_whole
from attribution.looks.examples import Example, load_examples, varied
from precompute.site.maps import maps_of
from precompute.site.numbers import MOST_ROWS, numbers_of, share_draws
from precompute.site.pictures import write_picture
from precompute.site.told import EVIDENCE, questions_of, told_of
from precompute.site.words import read_words

FOLDER, PAGE, TOLD = "demo", "index.html", "demo.json"
SCRIPTS = ("page.css", "page.js", "numbers.js", "data.js", "state.js", "views.js", "closer.js", "heat.js", "dom.js")  # fmt: skip
MARK = '<meta name="generator" content="python -m precompute demo">'


@dataclass(frozen=True)
class DemoConfig:
    """What is shown, and where it is written."""

    output_dir: str = field(default="", metadata={"help": "a folder for the site"})
    pretrained_model_name_or_path: str = "assets/model"
    train_data_dir: str = "assets/collection"
    cache_dir: str = "assets/cache"
    examples_dir: str = "assets/examples"
    examples: int = field(default=0, metadata={"help": "how many of them; 0: all"})
    thumbnail: int = field(default=160, metadata={"help": "pixels of a picture's longest side"})
    megabytes: float = field(default=15.0, metadata={"help": "that the site may have"})
    about: str = field(default="", metadata={"help": "a sentence on model and pictures"})
    words: str = field(default="", metadata={"help": "the page's texts in another language (JSON)"})
    opt_out: str = field(default="", metadata={"help": "who is not to be shown, else opt_out.json of the collection"})  # fmt: skip
    maps: bool = field(default=False, metadata={"help": "also where the evidence lies: a gradient for each example"})  # fmt: skip
    device: str = "cpu"
    follow_links: bool = False  # to pictures outside the collection's folder

    def __post_init__(self) -> None:
        if not self.output_dir:
            raise InputError("say with --output_dir where the site is to be written")
        if self.examples < 0 or self.megabytes <= 0 or not 16 <= self.thumbnail <= 1024:
            raise InputError(
                "examples must be at least 0, megabytes above 0, and thumbnail from 16 to 1024"
            )


def run(config: DemoConfig) -> None:
    """Open the attributor and its examples, and write the site."""
    site = Path(config.output_dir)
    refuse_strangers(site)
    attributor = Attributor.from_pretrained(
        config.pretrained_model_name_or_path, config.cache_dir, config.train_data_dir, config.device,
        config.opt_out or None, config.follow_links,
    )  # fmt: skip
    examples = load_examples(config.examples_dir, attributor)
    chosen = varied(examples, config.examples or len(examples))
    write_site(attributor, [examples[number] for number in chosen], config)


def refuse_strangers(site: Path) -> None:
    """Refuse a folder that holds what would be replaced and is none of ours."""
    page, folder = site / PAGE, site / FOLDER
    ours = page.is_file() and not page.is_symlink() and MARK in page.read_text(errors="replace")
    if os.path.lexists(page) and not ours:
        raise InputError(f"{page} is another page; give a folder without one")
    if os.path.lexists(folder) and (folder.is_symlink() or not (folder / TOLD).is_file()):
        raise InputError(f"{folder} holds something else; give another folder")


def write_site(attributor: Attributor, examples: list[Example], config: DemoConfig) -> None:
    """Write all files beside, and put them in place when they are whole and small enough."""
    site = Path(config.output_dir)
    if not examples:
        raise InputError(
            f"{config.examples_dir} has no examples; run python -m precompute examples"
        )
    if len(attributor.collection) > MOST_ROWS:
        raise InputError(
            f"a page without a server can rank at most {MOST_ROWS:,} training pictures, and there are "
            f"{len(attributor.collection):,}; serve app.py instead"
        )
    words = read_words(config.words)
    site.mkdir(parents=True, exist_ok=True)
    part = site / f"{FOLDER}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    write_data(part, attributor, examples, config, words)
    for name in SCRIPTS:
        shutil.copyfile(str(files("precompute.site") / "page" / name), part / name)
    page = rendered(attributor, words, about_of(config, words), len(examples))
    size = sum(p.stat().st_size for p in part.rglob("*") if p.is_file()) + len(page.encode())
    if size > config.megabytes * 1e6:
        shutil.rmtree(part)
        raise InputError(
            f"the site would have {size / 1e6:.1f} MB, and --megabytes allows {config.megabytes:g}; show fewer "
            f"--examples (now {len(examples)}), or a smaller --thumbnail (now {config.thumbnail})"
        )
    shutil.rmtree(site / FOLDER, ignore_errors=True)
    part.rename(site / FOLDER)
    write_whole(site / PAGE, page)
    print(f"{len(examples)} pictures and {len(attributor.collection)} training pictures in {site}, {size / 1e6:.1f} MB; "
          f"look at it: python -m http.server -d {site}")  # fmt: skip


def write_data(
    part: Path, attributor: Attributor, examples: list[Example], config: DemoConfig, words: dict
) -> None:
    """Write pictures, numbers and what is told of them."""
    questions, numbers, maps = questions_of(attributor, examples), [], []
    for name in ("examples", "pictures"):
        (part / name).mkdir()
    for number, example in enumerate(tqdm(examples, "examples", delay=2, leave=False)):
        found = numbers_of(attributor, example, questions)
        (part / f"examples/{number}.bin").write_bytes(found.data)
        write_picture(part / f"examples/{number}.webp", example.image, config.thumbnail)
        numbers.append(found)
        if config.maps:
            maps.append(maps_of(attributor, example))
            (part / f"examples/{number}.maps.bin").write_bytes(maps[-1].data)
    for row in tqdm(attributor.visible.rows(), "pictures", delay=2, leave=False):
        write_picture(
            part / f"pictures/{row}.webp", attributor.visible.image(row), config.thumbnail
        )
    (part / "draws.bin").write_bytes(share_draws(len(attributor.collection)))
    told = told_of(attributor, examples, numbers, maps, words)
    (part / TOLD).write_text(json.dumps(told, ensure_ascii=False, separators=(",", ":")))


def about_of(config: DemoConfig, words: dict[str, str]) -> str:
    """Say what model and pictures are; of the shipped ones it is known."""
    shipped = DemoConfig.__dataclass_fields__["train_data_dir"].default
    known = os.path.realpath(config.train_data_dir) == os.path.realpath(shipped)
    return config.about or (words["about_shipped"] if known else "")


def rendered(attributor: Attributor, words: dict[str, str], about: str, examples: int) -> str:
    """Fill the page with its texts, which are escaped."""
    pages = Environment(
        loader=PackageLoader("precompute.site", "page"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    hidden, known = attributor.visible.withheld(), len(attributor.visible)
    counts = {"withheld": f"{hidden:,}", "known": f"{known:,}"}
    said = {
        "all_examples": words["all_examples"].format(count=examples),
        "levels": words["levels"].format(**{how: round(1 / p) for how, p in EVIDENCE.items()}),
        "withheld": hidden and words["limit_withheld"].format(**counts),
    }
    return pages.get_template("page.html").render(w=words, about=about, mark=MARK, **said)

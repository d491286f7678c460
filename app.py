"""The page, and the entry point of the Hugging Face Space: a picture in, ranked training images out.

In: an `Attributor`. Out: `gr.Blocks`. It holds layout and handlers only and knows no method.
"""

import html
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
from PIL import Image

from attribution.attribution import Attribution, Source
from attribution.attributor import Attributor
from attribution.collection import CONCEPTS, Collection, open_image
from attribution.concepts import full_prompt, named_in
from attribution.errors import InputError
from attribution.questions import GENERAL
from attribution.regions import Regions, blend

ANY = "(any)"
COUNT = 12  # training images shown
SEED = 7
LAST_SEED = 9_999_999  # those above belong to fitting and measuring (precompute/queries.py)
HOUR = 3600  # seconds that a visitor's answer, and the files made for it, are kept
LONGEST_SIDE = 1024  # pixels of an upload that are shown
QUESTIONS = {"Whole picture": GENERAL} | {concept.capitalize(): concept for concept in CONCEPTS}
SMALLEST = 0.01  # share of an artist that is shown
LEVEL = 0.01  # the share of unrelated pictures for which evidence may be claimed
COLUMNS = ("rank", "score", "artist", *CONCEPTS, "caption", "license")
PROGRESS = gr.Progress()  # gradio tells the calls apart

TITLE = "Where does this picture come from?"
SENTENCE = "Make or upload a picture, and see which training pictures, and whose, it leans on."
WAIT = "Drawing a picture and tracing it takes a few seconds."
SCALE = (
    "**Score**: how many standard deviations a training picture stands above the average training "
    "picture. 0 is average. Scores are not shares and do not add up to anything."
)
SHARES = (
    "How the scores divide that lie more than two standard deviations of this mix above its average. "
    "The interval says how much hangs on single training pictures. It is not what is owed to anybody."
)
WHERE = "Where in the picture the evidence for this training picture lies, lighter is more"
LIMITS = """
- A score says how alike two pictures are *to the model*: how far learning from the one and learning
  from the other would change the model in the same direction.
- It does not say who the author is, that anything was copied, or what share is owed to whom.
- Some training picture always comes first, even where none matters: read first whether any stands out.
- Only a picture that this model made can be traced meaningfully. For any other upload the list says
  what the model would connect with it, not where it comes from.
- What a prompt leaves out (subject, style or background) is guessed from the picture, and a guess can
  be wrong.
- Subject, style and background follow their words: asked about “a fish”, the list shows fish, whatever
  is in the picture. The words that were used stand above the list.
- The same picture and the same words always get the same answer.
"""
CSS = """
.gradio-container {max-width: 1180px !important; margin: 0 auto !important}
.picture :is(button, .image-frame, img) {
  width: 100%; height: auto; max-height: 460px; object-fit: contain}
.stays {position: sticky; top: 12px; align-self: start}
.gallery .grid-wrap {max-height: none; overflow: visible; padding: 0}
.gallery .grid-container {grid-template-columns: repeat(auto-fill, minmax(118px, 1fr));
  grid-auto-rows: auto; align-items: start; gap: 12px; padding: 0}
.gallery .thumbnail-item {display: block; aspect-ratio: auto; height: auto; text-align: left}
.gallery .thumbnail-item img {width: 100%; aspect-ratio: 1}
.gallery .caption-label {position: static; max-width: none; white-space: pre-line; border: none;
  background: none; opacity: 1 !important; padding: 6px 8px 8px; line-height: 1.4; font-size: var(--text-sm)}
.gallery .selected:not(:hover, :focus-visible) {
  border-color: var(--border-color-primary) !important; box-shadow: none !important}
.sliders .head {flex-wrap: nowrap}
.sliders input[type=number] {width: 3.2em; min-width: 0}
#status {min-height: 56px}
#results {scroll-margin-top: 80px}
#status:has(.progress-text, .progress-level) .prose {visibility: hidden}
.sources {overflow-x: auto; contain: inline-size}
.sources :is(table, thead, tbody, tr) {border: none}
.sources table {width: 100%; border-collapse: collapse; font-size: var(--text-sm)}
.sources :is(th, td) {border: none; border-bottom: 1px solid var(--border-color-primary);
  padding: 5px 12px 5px 0; text-align: left; vertical-align: top}
#table table {min-width: 720px}
@media (max-width: 640px) {#facts {min-width: 100% !important}}
"""
SCROLL = (
    "() => document.getElementById('{}').scrollIntoView({{behavior: 'smooth', block: 'nearest'}})"
)


@dataclass(frozen=True)
class Session:
    """One visitor's answer, kept so that another question needs no gradients."""

    image: Image.Image
    answer: Attribution
    method: str
    shown: tuple[Source, ...] = ()  # in the order of the gallery
    mix: dict[str, float] = field(default_factory=dict)
    regions: list[Regions] = field(default_factory=list)  # made when a training image is looked at


@contextmanager
def plainly() -> Iterator[None]:
    """Show a mistake in the input as one sentence."""
    try:
        yield
    except InputError as error:
        sentence = html.escape(f"{str(error)[:1].upper()}{str(error)[1:]}.")
        raise gr.Error(sentence, print_exception=False) from error


def read_upload(upload: dict[str, Any] | None) -> Image.Image:
    """Decode an upload, small enough to show; one that cannot be decoded is deleted."""
    if not upload or not upload.get("path"):
        raise InputError("choose a picture first")
    path = Path(upload["path"])
    try:
        image = open_image(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError("the upload is no longer here; choose the picture again") from error
    except InputError:
        path.unlink()
        raise
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return image


def refuse_addresses(component: gr.Image) -> None:
    """Keep callers from making this machine fetch what they name by URL."""
    move = component.async_move_resource_to_block_cache

    async def checked(source: str | Path | None) -> str | None:
        if str(source).startswith(("http:", "https:")):
            raise gr.Error("Upload the picture itself, not its address.", print_exception=False)
        return await move(source)

    component.async_move_resource_to_block_cache = checked


def mixed(*amounts: float) -> dict[str, float]:
    """Name the sliders' amounts, which come in the order of QUESTIONS."""
    named = zip(QUESTIONS.values(), amounts, strict=True)
    mix = {name: float(amount) for name, amount in named if amount}
    if not mix:
        raise InputError("move at least one slider above zero")
    return mix


def table(rows: list[tuple], head: tuple[str, ...] = ()) -> str:
    """Write an HTML table that a screen reader can walk; each row's first cell is its title.

    The text is escaped here, not in an `html_template`: gradio runs a template's values as JavaScript.
    """
    titles = "".join(f"<th scope='col'>{html.escape(title)}</th>" for title in head)
    body = ""
    for row in rows:
        first, *rest = (html.escape(str(cell)) for cell in row)
        cells = "".join(f"<td>{cell}</td>" for cell in rest)
        body += f"<tr><th scope='row'>{first}</th>{cells}</tr>"
    top = f"<thead><tr>{titles}</tr></thead>" if head else ""
    return f"<table>{top}<tbody>{body}</tbody></table>"


def verdict(answer: Attribution) -> str:
    """Say in words whether any training image stands out, and how sure that is."""
    if not answer.p_values:
        return ""
    names = {name: question.lower() for question, name in QUESTIONS.items()}
    fits = "the words help the model with this picture"
    odds = ", ".join(f"{names[c]} {p:.1%}" for c, p in answer.p_values.items() if c in names)
    out = [names[c] for c in names if c in answer.p_values and answer.stands_out(LEVEL, c)]
    if GENERAL not in answer.p_values or not answer.stands_out(LEVEL):
        said = f"**No training image stands out**: {fits} no more than with unrelated ones, so the list is no evidence."
    else:
        said = f"**There is evidence** for: {', '.join(out)}; {fits} more than with unrelated ones."
    return f"{said} So well explained by chance (or by wrong words): {odds}.\n\n"


def examples(collection: Collection, count: int = 6) -> list[dict[str, str]]:
    """Choose held-out combinations that share no value with each other."""
    chosen: list[dict[str, str]] = []
    for combination in collection.held_out:
        if len(chosen) < count and not any(combination.items() & c.items() for c in chosen):
            chosen.append(combination)
    return chosen


def sampled(collection: Collection, count: int = 8) -> list[tuple[str, str]]:
    """Choose pictures from all over the collection, with their artist and style."""
    pictures = []
    for i in range(count):
        row = int(len(collection) * (0.618 * i % 1))  # steps of the golden section spread evenly
        whose = "\n".join(collection.labels[row].get(key, "") for key in ("artist", "style"))
        pictures.append((str((collection.folder / collection.files[row]).resolve()), whose))
    return pictures


@dataclass(frozen=True)
class Handlers:
    """What happens when somebody presses, moves or chooses something."""

    attributor: Attributor
    others: tuple[Attributor, ...] = ()  # by other methods, of the same model and collection

    @property
    def by_method(self) -> dict[str, Attributor]:
        """Name the attributors by their methods."""
        return {each.method: each for each in (self.attributor, *self.others)}

    def picked(self, values: tuple[str, ...], prompt: str | None = None) -> dict[str, str]:
        """Give the phrases of values of CONCEPTS; with a prompt, of those alone that it holds."""
        known = self.attributor.collection.concepts
        found = {c: known.get(c, {}).get(v) for c, v in zip(CONCEPTS, values, strict=True)}
        return {c: p for c, p in found.items() if p and (prompt is None or p in prompt)}

    def build(self, *values: str) -> str:
        """Write a prompt such as "a woodcut of a cat by the sea"."""
        return full_prompt(self.picked(values))

    def example(self, index: int) -> tuple[str, ...]:
        """Fill in a held-out combination."""
        values = [examples(self.attributor.collection)[index][c] for c in CONCEPTS]
        return self.build(*values), *values

    @plainly()
    def accept(self, upload: dict[str, Any]) -> Image.Image:
        """Swap an upload for a copy without metadata as soon as it arrives."""
        image = read_upload(upload)
        Path(upload["path"]).unlink(missing_ok=True)
        return image

    @plainly()
    def generate(
        self, prompt: str, seed: float = SEED, general: float = 1, subject: float = 0,
        style: float = 0, background: float = 0, pick_subject: str = ANY, pick_style: str = ANY,
        pick_background: str = ANY, method: str = "", progress: gr.Progress = PROGRESS,
    ) -> tuple:  # fmt: skip
        """Draw a picture from a prompt and a seed, and rank the training images for it."""
        mix, prompt = mixed(general, subject, style, background), (prompt or "").strip()
        if not prompt:
            raise InputError("describe a picture first, or pick a subject, style or background")
        progress(0, desc="Drawing")
        image = self.attributor.model.generate(
            [prompt], [int(seed or 0)], on_step=lambda *done: progress(done, desc="Drawing")
        )[0]
        picked = self.picked((pick_subject, pick_style, pick_background), prompt)
        return self.attribute(image, prompt, picked, mix, method, progress)

    @plainly()
    def trace(
        self, upload: dict[str, Any], prompt: str = "", general: float = 1, subject: float = 0,
        style: float = 0, background: float = 0, method: str = "",
        progress: gr.Progress = PROGRESS,
    ) -> tuple:  # fmt: skip
        """Rank the training images for an upload, then delete it."""
        mix, image = mixed(general, subject, style, background), read_upload(upload)
        results = self.attribute(image, (prompt or "").strip(), {}, mix, method, progress)
        Path(upload["path"]).unlink(missing_ok=True)
        return results

    def attribute(
        self, image: Image.Image, prompt: str, picked: dict[str, str], mix: dict[str, float],
        method: str, progress: gr.Progress,
    ) -> tuple:  # fmt: skip
        """Attribute one picture and say under which words each concept was traced."""
        progress(None, desc="Comparing with every training picture")
        attributor = self.by_method.get(method or self.attributor.method)
        if attributor is None:
            raise InputError(f"there is no method {method}; known: {', '.join(self.by_method)}")
        answer = attributor.attribute(image, prompt, concepts=picked)
        known = named_in(prompt, self.attributor.collection.concepts) | picked
        words = {c: f"{c} “{p}”" for c, p in answer.phrases.items() if c != GENERAL}
        traced = "; ".join(words[c] for c in words if c in known)
        guessed = "; ".join(words[c] for c in words if c not in known)
        note = f"Traced as: {traced}. " * bool(traced)
        note += f"Guessed from the picture: {guessed}." * bool(guessed)
        session, *ranked = self.rank(Session(image, answer, attributor.method), mix)
        return session, image, *ranked, f"{verdict(answer)}{html.escape(note)}"

    @plainly()
    def rerank(
        self, session: Session | None, general: float = 1, subject: float = 0, style: float = 0,
        background: float = 0,
    ) -> tuple:  # fmt: skip
        """Rank the training images for another mix of questions, from the scores at hand."""
        return self.rank(session, mixed(general, subject, style, background))

    @plainly()
    def ask(self, session: Session | None, question: str) -> tuple:
        """Set the sliders to one question alone."""
        amounts = [float(name == QUESTIONS[question]) for name in QUESTIONS.values()]
        return *amounts, *self.rank(session, mixed(*amounts))

    def rank(self, session: Session | None, mix: dict[str, float]) -> tuple:
        """Give the session, and its sources as data, as pictures and as a table."""
        if session is None:
            raise InputError("make or upload a picture first")
        rows, pictures = [], []
        shown = session.answer.rank(COUNT, **mix)
        for source in shown:
            row = {"rank": source.rank, "score": round(source.score, 2)}
            row |= {"caption": source.caption, "file": source.file} | source.labels
            whose = ", ".join(filter(None, [row.get("artist"), row.get("style")]))
            words = f"{source.rank} · score {source.score:.2f}\n{whose}\n{source.caption}"
            rows.append(row)
            pictures.append((str(source.path.resolve()), words))
        cells = [tuple(row.get(column, "") for column in COLUMNS) for row in rows]
        return (
            replace(session, shown=tuple(shown), mix=mix), rows, pictures, table(cells, COLUMNS),
            self.artists(session.answer, mix),
        )  # fmt: skip

    def artists(self, answer: Attribution, mix: dict[str, float]) -> str:
        """Write each artist's share as a table; nothing where the collection names none."""
        if not any("artist" in labels for labels in self.attributor.collection.labels):
            return ""
        rows = [
            (s.artist, f"{s.share:.0%}", f"{s.low:.0%} to {s.high:.0%}")
            for s in answer.artists(**mix)
            if s.share >= SMALLEST
        ]
        return table(rows, ("artist", "share of what stands out", "95 % interval"))

    @plainly()
    def detail(self, session: Session | None, event: gr.SelectData) -> tuple:
        """Show one training image beside the picture, with all that is known of it."""
        if session is None:
            raise InputError("make or upload a picture first")
        source, scores = session.shown[event.index], session.answer.scores
        facts = {"caption": source.caption} | source.labels | {"file": source.file}
        for question, name in QUESTIONS.items():
            if name in scores:
                facts[f"score, {question.lower()}"] = f"{scores[name][source.index]:.2f}"
        path = str(source.path.resolve())
        shown = gr.Column(visible=True), session.image, path, None, table(list(facts.items()))
        return source.index, *shown

    @plainly()
    def where(self, session: Session | None, looked_at: int | None) -> Image.Image | dict:
        """Draw where in the picture the evidence for the training image that is looked at lies."""
        if session is None or looked_at is None:
            return gr.skip()
        if not session.regions:
            attributor = self.by_method[session.method]
            session.regions.append(attributor.regions(session.image, session.answer))
        return blend(session.image, session.regions[0].map(looked_at, **session.mix))


STILL = {"interactive": False, "buttons": [], "format": "png", "type": "filepath"}
STILL |= {"elem_classes": "picture", "min_width": 150}
GRID = {"interactive": False, "allow_preview": False, "buttons": [], "height": "auto"}
GRID |= {"elem_classes": "gallery", "container": False, "show_label": False}


def lay_out_inputs(do: Handlers) -> SimpleNamespace:
    """Lay out what a visitor gives: a prompt, or a picture."""
    collection = do.attributor.collection
    prompts = [[do.build(*(chosen[c] for c in CONCEPTS))] for chosen in examples(collection)]
    with gr.Tab("Make a picture"):
        with gr.Row():
            picks = [
                gr.Dropdown(
                    [ANY, *collection.concepts.get(c, {})], label=c.capitalize(), min_width=140
                )
                for c in CONCEPTS
            ]
        with gr.Row(equal_height=True):
            hint = prompts[0][0] if prompts else None
            prompt = gr.Textbox(label="Describe it", placeholder=hint, scale=5)
            limits = {"precision": 0, "minimum": 0, "maximum": LAST_SEED}
            seed = gr.Number(SEED, label="Seed", min_width=90, **limits)
            make = gr.Button("Generate", variant="primary", min_width=120)
        title = "Or try a combination that the model was never shown"
        sample = gr.Dataset(
            label=title, components=[gr.Textbox(visible=False)], samples=prompts, type="index"
        )
    with gr.Tab("Upload a picture"), gr.Row():
        kinds = {"sources": ["upload", "clipboard"], "format": "png"}
        kinds |= {"label": "JPEG, PNG or WebP", "alt_text": "The upload"}
        upload = gr.Image(buttons=[], height=240, **kinds)
        refuse_addresses(upload)
        with gr.Column():
            said = gr.Textbox("", label="Its prompt, if you know it")
            follow = gr.Button("Trace", variant="primary")
    method = gr.Dropdown(
        list(do.by_method), value=do.attributor.method, label="Method", visible=bool(do.others)
    )
    return SimpleNamespace(**locals())


def lay_out_results() -> SimpleNamespace:
    """Lay out what a visitor gets, hidden until there is something."""
    with gr.Column(visible=False, elem_id="results") as results:
        with gr.Row():
            with gr.Column(scale=1, min_width=240, elem_classes="stays"):
                picture = gr.Image(label="The picture", alt_text="The traced picture", **STILL)
            with gr.Column(scale=3, min_width=300):
                question = gr.Radio(list(QUESTIONS), value="Whole picture", label="Compare by")
                with gr.Row(elem_classes="sliders"):
                    sliders = [
                        gr.Slider(
                            0, 1, float(c == GENERAL), step=0.05, label=q, min_width=130, buttons=[]
                        )
                        for q, c in QUESTIONS.items()
                    ]
                gr.Markdown(SCALE)
                gallery = gr.Gallery(label="Pictures", elem_id="ranked", **GRID)
        with gr.Column(visible=False, elem_id="detail") as detail, gr.Row():
            asked = gr.Image(label="The picture", alt_text="The traced picture", **STILL)
            where = gr.Image(label="Where it shows", alt_text=WHERE, elem_id="where", **STILL)
            found = gr.Image(label="Training picture", alt_text="The training picture", **STILL)
            facts = gr.HTML(elem_id="facts", elem_classes="sources", min_width=280)
        with gr.Accordion("By artist", open=False):
            gr.Markdown(SHARES)
            artists = gr.HTML(label="Artists", elem_id="artists", elem_classes="sources")
        with gr.Accordion("The same as a table", open=False):
            rows = gr.HTML(label="Table", elem_id="table", elem_classes="sources")
    sources = gr.JSON(visible=False, label="Sources")  # for callers of the API
    return SimpleNamespace(**locals())


def connect(do: Handlers, given: SimpleNamespace, shown: SimpleNamespace, *rest: gr.Blocks) -> None:
    """Say which handler answers which event, and which of them programs may call by name."""
    status, welcome, session = rest
    heavy = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress_on": status}
    light = {"concurrency_id": "rank", "concurrency_limit": 4, "show_progress": "hidden"}
    private = {"api_visibility": "private", "show_progress": "hidden"}
    raw = {"preprocess": False}  # else gradio opens an upload before the handler can refuse it
    sliders = shown.sliders
    ranked = [session, shown.sources, shown.gallery, shown.rows, shown.artists]
    answer = [session, shown.picture, *ranked[1:], status]

    for pick in given.picks:
        pick.input(do.build, given.picks, given.prompt, **private)
    asking = {"fn": do.generate, "inputs": [given.prompt, given.seed, *sliders, *given.picks]}
    asking["inputs"].append(given.method)
    asking |= {"outputs": answer, **heavy}
    made = gr.on([given.make.click, given.prompt.submit], api_name="generate", **asking)
    filled = given.sample.click(do.example, given.sample, [given.prompt, *given.picks], **private)
    tried = filled.success(api_visibility="private", **asking)

    arrived = given.upload.upload(do.accept, given.upload, given.upload, **raw, **private)
    arrived.failure(lambda: None, None, given.upload, **private)
    asking = {"fn": do.trace, "inputs": [given.upload, given.said, *sliders, given.method]}
    asking |= {"outputs": answer}
    followed = given.follow.click(api_name="trace", **asking, **raw, **heavy)
    followed.success(lambda copy: copy, shown.picture, given.upload, **private)

    looked_at = gr.State()  # the training image that is looked at, a row of the collection
    views = [shown.results, welcome, shown.detail, looked_at]
    for event in (made, tried, followed):
        show = [*(gr.Column(visible=visible) for visible in (True, False, False)), None]
        event.success(lambda show=show: show, None, views, **private).success(
            None, js=SCROLL.format("results")
        )

    moved = [slider.input for slider in sliders]
    asking = {"fn": do.rerank, "inputs": [session, *sliders], "outputs": ranked, **light}
    moving = gr.on(moved, api_name="rerank", trigger_mode="always_last", **asking)
    gr.on(moved, None, None, shown.question, js="() => null")
    asking = {"fn": do.ask, "inputs": [session, shown.question], "outputs": [*sliders, *ranked]}
    asked = shown.question.input(api_visibility="private", **asking, **light)
    asking = [looked_at, shown.detail, shown.asked, shown.found, shown.where, shown.facts]
    seen = shown.gallery.select(do.detail, session, asking, **private)
    seen.success(None, js=SCROLL.format("detail"))
    mapping = {"show_progress_on": shown.where, "api_visibility": "private"}
    for event in (seen, moving, asked):
        event.success(do.where, [session, looked_at], shown.where, **heavy | mapping)


def create_demo(attributor: Attributor, others: tuple[Attributor, ...] = ()) -> gr.Blocks:
    """Lay out the page for one attributor, and others by other methods, and connect it."""
    collection, do = attributor.collection, Handlers(attributor, others)
    artists = len({labels.get("artist") for labels in collection.labels})
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, HOUR)) as demo:
        session = gr.State(time_to_live=HOUR)
        gr.Markdown(f"# {TITLE}\n{SENTENCE}")
        given = lay_out_inputs(do)
        status = gr.Markdown(WAIT, label="Traced as", elem_id="status")
        with gr.Column() as welcome:
            gr.Markdown(
                f"The model learned from {len(collection):,} pictures by {artists} artists:"
            )
            gr.Gallery(sampled(collection), **GRID)
        shown = lay_out_results()
        with gr.Accordion("What this can and cannot tell you", open=False):
            gr.Markdown(LIMITS)
        connect(do, given, shown, status, welcome, session)
    return demo


def serve(
    attributor: Attributor, host: str, port: int, block: bool = True,
    others: tuple[Attributor, ...] = (),
) -> gr.Blocks:  # fmt: skip
    """Serve the page; of this machine's files only the folders of the collection's images are open."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}  # none to download
    demo = create_demo(attributor, others).queue(max_size=20)
    shown = (attributor.collection.folder / file for file in attributor.collection.files)
    folders = sorted({str(path.resolve().parent) for path in shown})
    demo.launch(
        server_name=host, server_port=port, prevent_thread_lock=not block, css=CSS,
        theme=gr.themes.Base(primary_hue="blue", neutral_hue="slate", **fonts),
        allowed_paths=folders,
        max_file_size="20mb", state_session_capacity=1000, show_error=False, run_history=False,
        enable_monitoring=False, footer_links=[], ssr_mode=False, mcp_server=False, share=False,
    )  # fmt: skip
    return demo


def load() -> list[Attributor]:
    """Load what the environment names, or the shipped default; ATTRIBUTION_CACHE may name several, with commas."""
    read = os.environ.get
    first, *rest = read("ATTRIBUTION_CACHE", "assets/cache").split(",")
    attributor = Attributor.from_pretrained(
        read("ATTRIBUTION_MODEL", "assets/model"),
        first,
        read("ATTRIBUTION_COLLECTION", "assets/collection"),
    )
    return [attributor, *(attributor.with_cache(folder) for folder in rest)]


def main() -> int:
    """Serve the page until stopped; 2 is the exit code of a mistake in the input."""
    read = os.environ.get
    anywhere = "0.0.0.0"  # noqa: S104, a Space is reached from outside its container
    host = read("GRADIO_SERVER_NAME") or (anywhere if "SPACE_ID" in os.environ else "127.0.0.1")
    port = read("GRADIO_SERVER_PORT") or "7860"
    try:
        if not port.isdecimal():
            raise InputError(f"GRADIO_SERVER_PORT is {port!r}; give the number of a port")
        attributor, *others = load()
        serve(attributor, host, int(port), others=tuple(others))
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

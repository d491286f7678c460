// Put it together: read, keep what is looked at, and draw it anew whenever a visitor changes something.

import { Closer } from "./closer.js";
import { readDemo } from "./data.js";
import { $, el, Speaker } from "./dom.js";
import { mixed, ordered, shared } from "./numbers.js";
import { address, amountsOf, MIX, parsed } from "./state.js";
import * as views from "./views.js";

const FIRST = 4, MORE = 12, EXAMPLES = 12;

class Page {
  constructor(demo) {
    this.demo = demo;
    this.speaker = new Speaker(demo);
    this.closer = new Closer(demo, this.speaker);
    this.state = parsed(location.hash, demo);
    this.shown = FIRST;
    this.examples = EXAMPLES;
    this.controls();
    addEventListener("hashchange", () => this.follow());
    $("skip").addEventListener("click", (event) => { event.preventDefault(); $("cards").focus(); }); // its own address is kept
    $("more").addEventListener("click", () => this.showMore());
    $("all-examples").addEventListener("click", () => { this.examples = Infinity; this.drawExamples(); });
    $("previous-example").addEventListener("click", () => this.turn(-1));
    $("next-example").addEventListener("click", () => this.turn(1));
    this.drawExamples();
  }

  // The controls, one for each question that any example was asked.
  controls() {
    const { demo, speaker } = this, names = demo.questions;
    const choice = (name, text) => el("label", {}, el("input", { type: "radio", name: "ask", value: name, onchange: () => this.ask(name) }), el("span", {}, text));
    $("questions").append(...names.map((name) => choice(name, speaker.question(name))), choice(MIX, demo.words.mix));
    $("question").hidden = names.length < 2;
    $("sliders").append(...names.map((name) => el("label", {}, el("span", {}, speaker.question(name)),
      el("input", { type: "range", min: 0, max: 1, step: 0.05, "data-question": name, oninput: () => this.slide() }), el("output", {}))));
    $("artist-row").hidden = $("shares").hidden = !demo.owned;
    $("artist").append(...demo.artists.map((name) => el("option", { value: name }, name)));
    $("artist").addEventListener("change", () => this.choose($("artist").value));
  }

  ask(name) {
    this.state.ask = name;
    if (name !== MIX) this.state.amounts = { [name]: 1 };
    this.changed();
  }

  slide() {
    const sliders = [...$("sliders").querySelectorAll("input")].filter((slider) => !slider.disabled);
    this.state.amounts = Object.fromEntries(sliders.map((slider) => [slider.dataset.question, Number(slider.value)]));
    this.changed();
  }

  choose(artist) {
    this.state.artist = artist;
    this.shown = FIRST;
    this.changed();
  }

  turn(step) {
    const count = this.demo.examples.length;
    location.hash = address({ ...this.state, example: (this.state.example + step + count) % count });
  }

  changed() {
    history.replaceState(null, "", address(this.state));
    this.draw();
  }

  // An address: of another example, or from elsewhere.
  async follow() {
    const before = this.state.example;
    this.state = parsed(location.hash, this.demo);
    this.shown = FIRST;
    await this.open();
    if (before !== this.state.example && !$("asked").contains(document.activeElement)) {
      $("asked").scrollIntoView({ block: "start" });
      $("asked-title").focus({ preventScroll: true });
    }
  }

  async open() {
    const wanted = this.state.example;
    const numbers = await this.demo.numbers(wanted).catch(() => null);
    if (wanted !== this.state.example) return; // a newer choice
    $("lost").hidden = numbers !== null;
    if (numbers === null) {
      this.state.example = this.number ?? wanted;
      return;
    }
    this.numbers = numbers;
    this.number = wanted; // what is seen: the one before, as long as a newer one is read
    $("picture").replaceChildren(...views.asked(this.demo, wanted, this.speaker));
    $("null").replaceChildren(...views.nullPlot(this.demo, wanted, this.speaker));
    this.draw();
  }

  rank(amounts) {
    const { demo, state } = this, scores = mixed(this.numbers.scores, amounts), all = ordered(scores);
    const seen = all.filter((row) => !demo.hidden(row));
    const who = state.artist ? demo.artists.indexOf(state.artist) : -1;
    const rows = who < 0 ? seen : seen.filter((row) => demo.owners[row] === who);
    return { scores, all, rows, place: seen.indexOf(rows[0]) + 1, best: Math.max(scores[all[0]], 1e-9) };
  }

  draw() {
    const { demo, state, speaker } = this, amounts = amountsOf(state);
    if (this.number !== this.state.example) return; // still reading: it is drawn when it is there
    this.drawControls();
    const empty = Object.keys(amounts).length === 0;
    $("empty").hidden = !empty;
    if (empty) return;
    this.amounts = amounts;
    this.ranked = this.rank(amounts);
    this.drawVerdict();
    this.drawCards();
    this.drawShares();
    this.drawLeaning();
    this.announce();
  }

  drawControls() {
    const { demo, state, speaker } = this, phrases = demo.examples[this.number].phrases;
    for (const radio of $("questions").querySelectorAll("input")) {
      radio.checked = radio.value === state.ask;
      radio.disabled = radio.value !== MIX && !(radio.value in phrases);
    }
    $("sliders").hidden = state.ask !== MIX;
    for (const slider of $("sliders").querySelectorAll("input")) {
      slider.value = state.amounts[slider.dataset.question] ?? 0;
      slider.disabled = !(slider.dataset.question in phrases);
      slider.nextElementSibling.textContent = speaker.fixed(Number(slider.value), 2);
    }
    $("artist").value = state.artist;
  }

  drawVerdict() {
    const { demo, ranked, speaker } = this, best = ranked.scores[ranked.rows[0]];
    const found = views.verdict(demo, this.number, this.amounts, this.state.artist, best, speaker);
    $("evidence").className = `evidence ${found.how}`;
    $("strength").textContent = speaker.say(found.how);
    $("sure").hidden = !found.finds;
    for (const name of ["said", "chance", "finds"]) $(`verdict-${name}`).textContent = found[name];
  }

  drawCards() {
    const { demo, ranked, speaker } = this, { say } = speaker, questions = speaker.questions(this.amounts);
    const told = { questions, place: ranked.place, known: demo.known };
    const hidden = [...ranked.all.slice(0, MORE)].filter((row) => demo.hidden(row)).length;
    $("said").textContent = !ranked.rows.length ? say("none_shown") : say(this.state.artist ? "first_of" : "first", told)
      + (hidden ? ` ${say("withheld", { count: hidden, first: MORE })}` : "");
    const count = Math.min(this.shown, ranked.rows.length);
    $("cards").replaceChildren(...Array.from({ length: count }, (_, place) => views.card(demo, ranked, place, speaker, (at) => this.look(at))));
    $("more").hidden = count >= ranked.rows.length;
  }

  showMore() {
    const before = this.shown;
    this.shown = before < MORE ? MORE : before + MORE;
    this.drawCards();
    $("cards").children[before]?.querySelector("button").focus();
  }

  drawShares() {
    const { demo } = this;
    if (!demo.owned || !demo.draws || !this.ranked) return;
    const found = shared(this.ranked.scores, demo.owners, demo.names.length, demo.level, demo.resamples, demo.draws);
    const held = $("share-list").contains(document.activeElement) ? this.state.artist : null;
    $("share-list").replaceChildren(...views.shares(demo, found, this.state.artist, this.speaker, (name) => this.choose(name)));
    if (held !== null) ($("share-list").querySelector("[aria-pressed=true]") ?? $("share-list").querySelector("button"))?.focus();
  }

  drawLeaning() {
    const { demo, state, speaker } = this, { say } = speaker;
    $("leaning").hidden = !state.artist;
    if (!state.artist) return;
    const found = views.leaning(demo, state.artist, this.amounts), told = { artist: state.artist, questions: speaker.questions(this.amounts), count: demo.examples.length };
    $("leaning-title").textContent = say("leaning", told);
    $("leaning-said").textContent = say(found.length === 0 ? "leaning_none" : Object.keys(this.amounts).length > 1 ? "leaning_mean_mix" : "leaning_mean", told);
    $("leaning-list").replaceChildren(...found.map((each) => this.link(each.number, say("share", { share: speaker.fixed(100 * each.share, 0) }))));
  }

  drawExamples() {
    const { examples } = this.demo;
    $("example-list").replaceChildren(...examples.slice(0, this.examples).map((_, number) => this.link(number)));
    $("all-examples").hidden = this.examples >= examples.length;
  }

  // A link to an example, which keeps the question and the artist.
  link(number, note) {
    const item = views.drawn(this.demo, number, `#example=${number}`, note);
    item.firstChild.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      location.hash = address({ ...this.state, example: number });
    });
    return item;
  }

  announce() {
    const { demo, ranked, speaker } = this, row = ranked.rows[0];
    const text = row === undefined ? speaker.say("none_shown") : speaker.say("announced", {
      count: ranked.rows.length, questions: speaker.questions(this.amounts), caption: demo.caption(row), artist: demo.artist(row) });
    clearTimeout(this.announcing); // once, when a slider rests
    this.announcing = setTimeout(() => { $("announced").textContent = text; }, 400);
  }

  look(place) {
    const seen = { ranked: this.ranked, numbers: this.numbers, number: this.number, amounts: this.amounts };
    this.closer.open(seen, place, (last) => {
      if (last >= this.shown) { this.shown = last + 1; this.drawCards(); }
      $("cards").children[last]?.querySelector("button").focus();
    });
  }
}

const page = new Page(await readDemo());
await page.open();
document.documentElement.dataset.ready = ""; // else the page says after a while what may be wrong
await page.demo.readDraws();
page.drawShares();
document.documentElement.dataset.whole = "";
window.demo = page; // for tests, and for the curious

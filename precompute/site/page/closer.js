// A closer look: a drawer with both pictures, what is known of the training picture, its scores, and which layers spoke.

import { $, bar, el, picture } from "./dom.js";
import { mixedMap, paint } from "./heat.js";
import { mixedParts } from "./numbers.js";

export class Closer {
  constructor(demo, speaker) {
    this.demo = demo;
    this.speaker = speaker;
    this.dialog = $("closer");
    $("close").addEventListener("click", () => this.dialog.close());
    $("before").addEventListener("click", () => this.go(-1));
    $("after").addEventListener("click", () => this.go(1));
    this.dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.go(-1);
      if (event.key === "ArrowRight") this.go(1);
    });
    this.dialog.addEventListener("click", (event) => { if (event.target === this.dialog) this.dialog.close(); });
  }

  // Open at a place of a ranking; `closed(place)` is told where the visitor was last.
  open(seen, place, closed) {
    this.seen = seen;
    this.place = place;
    this.dialog.addEventListener("close", () => closed(this.place), { once: true });
    this.fill();
    this.dialog.showModal();
  }

  go(step) {
    const place = this.place + step;
    if (place < 0 || place >= this.seen.ranked.rows.length) return;
    this.place = place;
    this.fill();
  }

  fill() {
    const { demo, speaker: { say } } = this, { ranked, number } = this.seen, row = ranked.rows[this.place];
    const last = this.place === ranked.rows.length - 1;
    $("closer-title").textContent = say("closer", { rank: this.place + 1, count: ranked.rows.length });
    for (const [id, off] of [["before", this.place === 0], ["after", last]]) $(id).setAttribute("aria-disabled", String(off));
    $("closer-body").replaceChildren(
      el("div", { class: "pair" },
        el("figure", {}, picture(demo.drawn(number), demo.examples[number].prompt, 256), el("figcaption", {}, el("b", {}, say("the_models")), ` ${demo.examples[number].prompt}`)),
        el("figure", {}, picture(demo.picture(row), demo.caption(row), 256), el("figcaption", {}, el("b", {}, say("the_training")), ` ${demo.caption(row)}`))),
      el("h3", {}, say("facts")), this.facts(row), el("h3", {}, say("scores")), this.scores(row),
      el("h3", {}, say("layers")), ...this.layers(row));
    this.where(number, row);
    this.dialog.scrollTop = 0;
  }

  // Add a map of the evidence beside the pictures, if one is kept and the visitor is still there when it is read.
  async where(number, row) {
    const { demo, seen, speaker: { say } } = this, maps = await demo.maps(number, row).catch(() => undefined);
    const map = maps && mixedMap(maps, seen.amounts, demo.whole);
    const pair = $("closer-body").querySelector(".pair"), drawn = pair.querySelector("img");
    if (!map || seen !== this.seen || row !== seen.ranked.rows[this.place]) return;
    const canvas = el("canvas", { role: "img", "aria-label": say("where") });
    await drawn.decode();
    paint(canvas, drawn, map, demo.maps_told[number].grid);
    if (pair.isConnected) pair.after(el("h3", {}, say("where")), el("div", { class: "where" }, canvas, el("p", { class: "quiet" }, say("where_mean"))));
  }

  facts(row) {
    const { demo, speaker: { say } } = this, lines = [[say("caption"), demo.caption(row)], ...demo.labels(row)];
    if (demo.likeness) lines.push([say("alike"), say("alike_place", { place: this.seen.numbers.likeness[row], known: demo.known })]);
    return el("table", { class: "facts" }, el("tbody", {}, ...lines.map(([name, text]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, text)))));
  }

  scores(row) {
    const { numbers, ranked, amounts } = this.seen, { speaker } = this;
    const lines = Object.entries(numbers.scores).map(([name, scores]) => [speaker.question(name), scores[row]]);
    if (Object.keys(amounts).length > 1) lines.push([speaker.say("this_mix"), ranked.scores[row]]);
    const most = Math.max(ranked.best, ...lines.map(([, score]) => Math.abs(score)));
    return el("table", { class: "facts bars-in" }, el("tbody", {}, ...lines.map(([name, score]) => el("tr", {},
      el("th", { scope: "row" }, name), el("td", {}, bar(Math.abs(score) / most, score < 0), ` ${speaker.fixed(score, 2)}`)))));
  }

  layers(row) {
    const { demo, speaker } = this, { say } = speaker, parts = this.seen.numbers.parts(row);
    if (!parts) return [el("p", { class: "quiet" }, say("layers_unknown"))];
    const found = mixedParts(parts, this.seen.amounts), most = Math.max(...found.flat().map(Math.abs), 1e-9);
    const noise = found.map((_, range) => say(range === 0 ? "little_noise" : range === found.length - 1 ? "much_noise" : "more_noise"));
    return [
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": say("layers") }, el("table", { class: "facts bars-in" },
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, say("layer")), ...noise.map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, ...demo.blocks.map((block, b) => el("tr", {}, el("th", { scope: "row" }, block),
          ...found.map((range) => el("td", {}, bar(Math.abs(range[b]) / most, range[b] < 0), ` ${speaker.fixed(range[b], 2)}`))))))),
      el("p", { class: "quiet" }, say("layers_mean")),
    ];
  }
}

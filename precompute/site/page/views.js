// What is seen beside the controls: the picture and its verdict, cards, shares, examples.

import { bar, el, picture } from "./dom.js";

const LARGE = 4; // cards of the first sight
const SHOWN = 0.01; // the smallest share that gets a bar

// As `attribution/answer/verdict.py` names it: without words a model knows few even of its own pictures.
export function strength(p, worded, demo) {
  if (p === null || (p > demo.evidence.some && !worded)) return "unknown_evidence";
  if (p <= demo.evidence.strong) return "strong";
  return p <= demo.evidence.some ? "some" : "weak";
}

// The largest p-value of what is mixed: all of it must stand out.
export function chanceOf(values, amounts) {
  const found = Object.keys(amounts).map((name) => values[name]);
  return found.length === 0 || found.includes(undefined) ? null : Math.max(...found);
}

// Of the words' and the list's p-values the less, doubled where there are both.
function either(words, list) {
  const found = [words, list].filter((p) => p !== null);
  return found.length === 0 ? null : Math.min(1, found.length * Math.min(...found));
}

export function asked(demo, number, speaker) {
  const example = demo.examples[number];
  return [
    picture(demo.drawn(number), `${speaker.say("the_models")}: ${example.prompt}`, 256),
    el("figcaption", {}, el("q", {}, example.prompt), " ", el("span", { class: "quiet" }, speaker.say("seed", { seed: String(example.seed) })),
      example.held_out && el("span", { class: "quiet block" }, speaker.say("held_out"))),
  ];
}

// The verdict in words: {how, said, chance, finds}; `artist` is whose pictures alone are shown, `best` the first one's score.
export function verdict(demo, number, amounts, artist, best, speaker) {
  const { say } = speaker, example = demo.examples[number];
  const p = chanceOf(example.p_values, amounts), byList = chanceOf(example.list_p_values, amounts);
  const judged = strength(either(p, byList), Boolean(example.phrases[demo.whole]), demo), none = artist && best <= demo.level;
  const how = none && judged !== "unknown_evidence" ? "weak" : judged;
  const names = Object.keys(amounts), whole = names.length === 1 && names[0] === demo.whole;
  const pushed = artist ? say("pushed_by", { artist }) : whole ? say("pushed") : say("pushed_for", { questions: speaker.questions(amounts) });
  const words = (whole ? [example.prompt] : names.map((name) => example.phrases[name])).join(", ");
  return {
    how,
    said: `${say("drew")} ${none ? say("none_pushed_by", { artist }) : how === "weak" ? say("no_evidence") : pushed}`,
    chance: [
      p === null ? "" : say("chance", { count: Math.round(1 / p) }), byList === null ? "" : say("chance_list", { count: Math.round(1 / byList) }),
    ].filter(Boolean).join(" ") || say("chance_unknown"),
    finds: p === null ? "" : say(p > demo.evidence.some ? "finds_weak" : "finds", { words }),
  };
}

// Unrelated pictures' evidence as a histogram, and where this picture's lies.
export function nullPlot(demo, number, speaker) {
  const example = demo.examples[number], value = example.evidence[demo.whole], all = [...demo.null, value], bins = 40;
  if (value === undefined) return [];
  const low = Math.min(...all), width = (Math.max(...all) - low || 1) / bins;
  const counts = new Array(bins).fill(0);
  for (const each of demo.null) counts[Math.min(Math.floor((each - low) / width), bins - 1)] += 1;
  const most = Math.max(...counts);
  const shape = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, each] of Object.entries(attributes)) element.setAttribute(name, each);
    return element;
  };
  const label = speaker.say("null_label", { count: demo.null.length, below: demo.null.filter((each) => each < value).length });
  const plot = shape("svg", { viewBox: `0 0 ${bins} 20`, preserveAspectRatio: "none", class: "null", role: "img", "aria-label": label });
  counts.forEach((count, bin) => {
    const height = 18 * Math.sqrt(count / most);
    if (count) plot.append(shape("rect", { x: bin, y: 20 - height, width: 0.9, height }));
  });
  const here = Math.min((value - low) / width, bins - 0.2);
  plot.append(shape("line", { x1: here, x2: here, y1: 0, y2: 20 }));
  return [plot, el("p", { class: "quiet legend" }, el("span", { class: "key others" }), speaker.say("null_others", { count: demo.null.length }),
    el("span", { class: "key here" }), speaker.say("null_here"))];
}

export function card(demo, ranked, place, speaker, look) {
  const row = ranked.rows[place], score = ranked.scores[row];
  const said = { rank: place + 1, caption: demo.caption(row), artist: demo.artist(row), score: speaker.fixed(score, 1) };
  return el("li", { class: place < LARGE ? "card large" : "card" },
    el("button", { type: "button", class: "look", "data-row": row, "aria-label": speaker.say("card", said), onclick: () => look(place) },
      picture(demo.picture(row), demo.caption(row), 160, place >= LARGE),
      el("span", { class: "who" }, el("b", {}, String(place + 1)), demo.owned ? ` ${demo.artist(row)}` : ` ${demo.caption(row)}`),
      el("span", { class: "score" }, bar(score / ranked.best), speaker.fixed(score, 1))));
}

export function shares(demo, found, artist, speaker, choose) {
  const shown = found.filter((each) => each.share >= SHOWN);
  if (!shown.length) return [el("p", {}, speaker.say("nothing_stands_out"))];
  const percent = (value) => speaker.fixed(100 * value, 0);
  return [el("ul", { class: "bars" }, ...shown.map((each) => {
    const name = demo.names[each.owner], track = bar(each.share), line = el("span", { class: "whisker" });
    line.style.insetInlineStart = `${100 * each.low}%`;
    line.style.inlineSize = `${100 * (each.high - each.low)}%`;
    track.append(line);
    const who = each.owner < demo.artists.length
      ? el("button", { type: "button", "aria-pressed": String(name === artist), onclick: () => choose(name === artist ? "" : name) }, name)
      : el("span", {}, name);
    return el("li", {}, who, track, el("span", { class: "figure" }, speaker.say("share", { share: percent(each.share) }), " ",
      el("span", { class: "quiet" }, speaker.say("interval", { low: percent(each.low), high: percent(each.high) }))));
  }))];
}

// Examples by an artist's share in a mix's questions, each question's own share weighed as it is in the mix.
export function leaning(demo, artist, amounts, count = 6) {
  const who = demo.artists.indexOf(artist), total = Object.values(amounts).reduce((a, b) => a + b, 0);
  return demo.examples
    .map((example, number) => ({
      number,
      share: Object.entries(amounts).reduce((sum, [name, amount]) => sum + (amount / total) * (example.shares[name]?.[who] ?? 0), 0),
    }))
    .filter((each) => each.share > 0)
    .sort((a, b) => b.share - a.share)
    .slice(0, count);
}

export function drawn(demo, number, href, note) {
  const { prompt } = demo.examples[number];
  return el("li", {}, el("a", { href, "data-example": number }, picture(demo.drawn(number), "", 96, true), el("span", { class: "caption" }, prompt), note && el("b", {}, note)));
}

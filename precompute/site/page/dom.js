// Make elements out of text, never out of HTML: captions and names were written by strangers.

export const $ = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== false));
  return element;
}

// A bar from 0 to 1; its length is set as a property, since no style is allowed in HTML here.
export function bar(part, minus = false) {
  const fill = el("span", { class: minus ? "fill minus" : "fill" });
  fill.style.inlineSize = `${100 * Math.min(Math.max(part, 0), 1)}%`;
  return el("span", { class: "track", "aria-hidden": "true" }, fill);
}

export function picture(src, alt, side, lazy = false) {
  return el("img", { src, alt, width: side, height: side, loading: lazy && "lazy", decoding: "async" });
}

// The page's texts, filled in: say("seed", {seed: 3}).
export class Speaker {
  constructor(demo) {
    this.words = demo.words;
    this.numbers = new Intl.NumberFormat(demo.words.lang);
    this.demo = demo;
  }

  say = (name, values = {}) => this.words[name].replace(/\{(\w+)\}/g, (_, key) =>
    typeof values[key] === "number" ? this.numbers.format(values[key]) : String(values[key]));

  fixed = (value, digits) => value.toLocaleString(this.words.lang, { minimumFractionDigits: digits, maximumFractionDigits: digits });

  question = (name) => (name === this.demo.whole ? this.words.general : name);

  // Several questions in a sentence.
  questions = (amounts) => Object.keys(amounts).map((name) => (name === this.demo.whole ? this.words.general_said : name)).join(this.words.and);
}

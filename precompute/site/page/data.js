import { decodeMaps } from "./heat.js";

// Read what precompute/site wrote: demo.json once, and an example's numbers when it is first looked at.

const HERE = new URL(".", import.meta.url);
const VERSION = 1; // of what is read; that of precompute/site/told.py

// A kept copy is used only if the server has the same: numbers of another build would be wrong without a word.
async function fetched(name) {
  const reply = await fetch(new URL(name, HERE), { cache: "no-cache" });
  if (!reply.ok) throw new Error(`${name}: ${reply.status}`);
  return reply;
}

export async function readDemo() {
  const told = await fetched("demo.json").then((reply) => reply.json());
  if (told.version !== VERSION) throw new Error(`demo.json is of version ${told.version}, not ${VERSION}`);
  return new Demo(told);
}

export class Demo {
  constructor(told) {
    const { maps, ...others } = told;
    Object.assign(this, others);
    this.maps_told = maps; // of examples, where there are any
    this.mapped = new Map();
    this.draws = undefined; // behind the intervals of shares; read after the first answer is shown
    this.read = new Map(); // number of an example -> a promise of its numbers
    const artist = this.columns.artist;
    this.owned = artist !== undefined;
    // Owners of rows, as the server counts them: artists, then those unknown, then all that is withheld.
    this.names = [...this.artists, this.words.unknown_artist, this.withheld_name];
    const place = artist ? artist.values.map((name) => this.artists.indexOf(name)) : [];
    this.owners = Int32Array.from({ length: this.known }, (_, row) => {
      if (this.hidden(row)) return this.artists.length + 1;
      return artist && artist.rows[row] >= 0 ? place[artist.rows[row]] : this.artists.length;
    });
  }

  hidden(row) { return this.captions.rows[row] < 0; }
  caption(row) { return this.captions.values[this.captions.rows[row]]; }
  artist(row) { return this.names[this.owners[row]]; }
  picture(row) { return new URL(`pictures/${row}.webp?${this.build}`, HERE).href; }
  drawn(number) { return new URL(`examples/${number}.webp?${this.build}`, HERE).href; }

  // All that the collection says of a row: [[column, text]].
  labels(row) {
    return Object.entries(this.columns).filter(([, c]) => c.rows[row] >= 0).map(([name, c]) => [name, c.values[c.rows[row]]]);
  }

  async readDraws() {
    this.draws = new Uint8Array(await fetched("draws.bin").then((reply) => reply.arrayBuffer()));
  }

  numbers(number) {
    if (!this.read.has(number)) {
      const reading = fetched(`examples/${number}.bin`).then((reply) => reply.arrayBuffer()).then((data) => this.decode(number, data));
      reading.catch(() => this.read.delete(number)); // so that it can be tried again
      this.read.set(number, reading);
    }
    return this.read.get(number);
  }

  // Give a row's maps of evidence: a promise of question -> map, or of undefined where none is kept.
  async maps(number, row) {
    const about = this.maps_told[number];
    if (!about) return undefined;
    if (!this.mapped.has(number)) {
      const reading = fetched(`examples/${number}.maps.bin`).then((reply) => reply.arrayBuffer()).then((data) => decodeMaps(data, about));
      reading.catch(() => this.mapped.delete(number));
      this.mapped.set(number, reading);
    }
    return (await this.mapped.get(number)).get(row);
  }

  // Give {scores: question -> Float64Array, likeness: row -> place, parts: row -> question -> [range][block]}.
  decode(number, data) {
    const example = this.examples[number], view = new DataView(data), questions = this.questions;
    const scores = {}, kept = new Map();
    const each = this.ranges * this.blocks.length, wanted = this.known * (4 * questions.length + 2) + example.kept * (2 + questions.length * each);
    if (data.byteLength !== wanted) throw new Error(`examples/${number}.bin has ${data.byteLength} bytes, not ${wanted}`);
    let at = 0;
    for (const name of questions) {
      const values = new Float64Array(this.known);
      for (let row = 0; row < this.known; row++, at += 4) values[row] = view.getFloat32(at, true);
      if (name in example.phrases) scores[name] = values;
    }
    const likeness = new Uint16Array(this.known);
    for (let row = 0; row < this.known; row++, at += 2) likeness[row] = view.getUint16(at, true);
    for (let place = 0; place < example.kept; place++, at += 2) kept.set(view.getUint16(at, true), place);
    const codes = new Int8Array(data, at);
    const parts = (row) => kept.has(row) && Object.fromEntries(questions.map((name, q) => {
      const first = (kept.get(row) * questions.length + q) * each;
      return [name, Array.from({ length: this.ranges }, (_, range) => Array.from({ length: this.blocks.length }, (_, block) =>
        codes[first + range * this.blocks.length + block] * example.steps[name]))];
    }));
    return { scores, likeness, parts };
  }
}

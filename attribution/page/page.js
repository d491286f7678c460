// What runs in the browser: which button sends which event, how many questions are open, pictures that are dropped or
// pasted, the drawer of a closer look, the page's link, what is read out, and Gradio's own words. `texts` come from server.py.
const text = (said, values = {}) => (window.texts?.[said] ?? said).replace(/\{(\w+)\}/g, (_, name) => values[name]);
window.page = {
  opening: false, // whether a training image of the collection was asked for: its heading gets the focus
  turn: 0, // of the newest question, or of taking one back
  asked: 0, // the newest question's number
  pending: 0, overtaken: 0, // questions that are not answered yet, and how many of them nobody waits for
  open: {}, // what is unfolded or ticked of an answer, by name
  returning: false, // to an address that the browser knows

  listen(element, trigger, watch, kinds) {
    element.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button || button.disabled) return;
      const data = button.dataset;
      if ("row" in data) {
        page.opening = Boolean(element.closest("#found"));
        if (page.opening) trigger("look", { row: Number(data.row) });
        else page.drawer.open(button, trigger);
      } else if ("step" in data) page.drawer.card(Number(data.step))?.click();
      else if ("close" in data) page.drawer.dialog.close();
      else if ("artist" in data) trigger("artist", { artist: data.artist });
      else if ("page" in data) trigger("turn", { page: Number(data.page) });
      else if ("example" in data) trigger("example", { example: Number(data.example) });
      else if ("drawn" in data) trigger("drawn", { drawn: Number(data.drawn) });
      else if ("word" in data) trigger("word", { concept: data.concept, word: data.word });
      else if ("untick" in data) trigger("tick", { row: Number(data.untick), on: false });
      else if ("clear" in data) trigger("clear", {});
      else if ("choose" in data) document.querySelector(`#${data.choose || "upload"} input[type=file]`)?.click();
    });
    element.addEventListener("change", (event) => {
      const box = event.target;
      if ("tick" in box.dataset) trigger("tick", { row: Number(box.dataset.tick), on: box.checked });
      if ("keep" in box.dataset) page.open[box.dataset.keep] = box.checked;
    });
    element.addEventListener("toggle", (event) => { if (event.target.dataset.keep) page.open[event.target.dataset.keep] = event.target.open; }, true);
    if (element.closest("#drawers")) page.drawer.listen();
    if (element.closest("#asked")) page.back = () => { page.returning = true; trigger("back", { query: location.search }); };
    watch("value", () => page.changed(element));
    page.changed(element); // what was hidden until now is made only when it is shown
  },

  changed(element) {
    if (page.pending && element.closest("#asked")) document.documentElement.classList.add("seen");
    page.link(element);
    page.focus(element);
    page.keep(element);
    if (element.closest("#closer, #heat")) page.drawer.fill();
    page.say(element.querySelector("[data-said]")?.dataset.said);
    for (const box of element.querySelectorAll("[data-tick]")) box.checked = box.defaultChecked; // gradio patches what differs, and ticks would stay in their places
    for (const radio of document.querySelectorAll("#question input")) radio.name = "question"; // gradio's are strangers to each other
    for (const toolbar of element.querySelectorAll("[role=toolbar]")) page.rove(toolbar);
    for (const tabs of document.querySelectorAll("[role=tablist]")) {
      page.rove(tabs);
      tabs.onclick = () => setTimeout(() => page.rove(tabs));
    }
  },

  // What was unfolded or ticked stays so.
  keep(element) {
    for (const each of element.querySelectorAll("[data-keep]")) each[each.tagName === "DETAILS" ? "open" : "checked"] = page.open[each.dataset.keep] ?? false;
  },

  // The drawer of a closer look: what the server found lies in #closer and #heat, which nobody sees, and is shown from there.
  drawer: {
    row: null, // of the training image that is looked at
    asked: null, // the row that the server was asked for, while it is
    list: "", // that its card is of: what is named, or what looks alike
    get dialog() { return document.getElementById("drawer"); },

    listen() {
      const dialog = this.dialog;
      dialog.addEventListener("close", () => this.leave());
      dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
      dialog.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (!step || event.target.closest(".scroll")) return;
        event.preventDefault();
        this.card(step)?.click();
      });
    },

    // The card that is looked at, or one some places on.
    card(step = 0) {
      const cards = [...document.querySelectorAll(`#ranked ${this.list} button[data-row]`)];
      const place = cards.findIndex((card) => Number(card.dataset.row) === this.row);
      return place < 0 ? undefined : cards[place + step];
    },

    open(card, trigger) {
      this.list = card.closest(".small") ? ".cards.small" : ".cards:not(.small)";
      this.row = Number(card.dataset.row);
      const cards = [...document.querySelectorAll(`#ranked ${this.list} button[data-row]`)], dialog = this.dialog;
      const told = dialog.querySelector(".place");
      told.textContent = told.dataset.words.replace("{place}", cards.indexOf(card) + 1).replace("{count}", cards.length);
      for (const button of dialog.querySelectorAll("[data-step]")) button.setAttribute("aria-disabled", String(!this.card(Number(button.dataset.step))));
      this.fill();
      dialog.scrollTop = 0;
      if (!dialog.open) dialog.showModal();
      this.ask = () => { this.asked = this.row; trigger("look", { row: this.row }); };
      if (this.asked === null) this.ask();
    },

    // The server is asked for one at a time, and then for the one that is wanted by then: gradio forgets which that is.
    answered() {
      const late = this.asked !== this.row;
      this.asked = null;
      if (late && this.dialog.open) this.ask();
    },

    fill() {
      const [found, heat] = ["closer", "heat"].map((id) => document.querySelector(`#${id} [data-row="${this.row}"]`)?.cloneNode(true));
      const dialog = this.dialog, focused = dialog.querySelector(".body").contains(document.activeElement);
      if (dialog.open && !document.querySelector("#closer [data-row]")) return dialog.close(); // its picture is gone
      dialog.querySelector(".waiting").hidden = Boolean(found);
      dialog.querySelector(".body").replaceChildren(...(found ? [found] : []));
      if (found && heat) found.querySelector(".where").replaceChildren(heat);
      page.keep(dialog);
      if (focused) dialog.querySelector("h2").focus();
    },

    nowhere() { this.dialog.querySelector(".where")?.replaceChildren(); },

    // The focus returns to the card that was looked at last.
    leave() {
      const card = this.card(), folded = card?.closest("details");
      if (folded) folded.open = true;
      card?.focus();
    },
  },

  // One stop of the tab key for many buttons; arrow keys move among them.
  rove(toolbar) {
    const buttons = [...toolbar.querySelectorAll("button")];
    const first = Math.max(0, buttons.findIndex((button) => button.ariaSelected === "true"));
    buttons.forEach((button, place) => { button.tabIndex = place === first ? 0 : -1; });
    toolbar.onkeydown = (event) => {
      const at = buttons.indexOf(document.activeElement), step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step || at < 0) return;
      event.preventDefault();
      buttons[at].tabIndex = -1;
      const next = buttons[(at + step + buttons.length) % buttons.length];
      next.tabIndex = 0;
      next.focus();
    };
  },

  // Questions: a newer one overtakes those that are open.
  begun(given) {
    page.overtaken = page.pending++;
    page.open = {};
    page.busy();
    page.asked = ++page.turn;
    return [...given.slice(0, -1), page.asked];
  },
  again(given) { return [...given.slice(0, -1), page.asked]; }, // which is refused where it was taken back meanwhile
  stopped(given) {
    page.overtaken = page.pending;
    page.busy();
    return [...given.slice(0, -1), ++page.turn];
  },
  ended() {
    page.pending = Math.max(0, page.pending - 1);
    page.overtaken = Math.max(0, page.overtaken - 1);
    page.busy();
    if (!page.pending) page.settled();
  },
  arrived() { setTimeout(() => page.pending || page.settled(), 1000); }, // an address that asks for nothing, or for what cannot be
  settled() { document.documentElement.classList.remove("arriving"); },
  busy() { document.documentElement.classList.toggle("drawing", page.pending > page.overtaken); },

  // Name the words that no caption holds; vocabulary.py says which of them count, concepts.py which scripts know no spaces.
  unspaced: /[\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u1780-\u17d3\u17dc-\u17dd\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\u{20000}-\u{3ffff}]/gu,
  unknown(prompt, known) {
    if (!known) return "";
    if (page.words?.said !== known) page.words = Object.assign(new Set(known.split(" ")), { said: known });
    const typed = new Map((prompt.replace(page.unspaced, " ").match(/[\p{L}\p{N}]+/gu) ?? []).map((word) => [word.toLowerCase(), word]));
    const found = [...typed].filter(([word]) => [...word].length > 2 && !page.words.has(word)).map(([, word]) => word);
    const line = Object.assign(document.createElement("p"), { textContent: text("Not in its training: {words}", { words: found.join(", ") }) });
    line.setAttribute("role", "status");
    return found.length ? line.outerHTML : "";
  },

  // A picture that is dropped or pasted anywhere is one that was chosen.
  bring(files) {
    const sought = document.getElementById("seek")?.offsetParent; // the tab where somebody looks for their own work is open
    const input = document.querySelector(`#${sought ? "mine" : "upload"} input[type=file]`), picture = [...(files ?? [])].find((file) => file.type.startsWith("image/"));
    if (!input || !picture) return false;
    const carried = new DataTransfer();
    carried.items.add(picture);
    input.files = carried.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    return true;
  },

  link(element) {
    const link = element.querySelector("[data-link]")?.dataset.link;
    const embedded = document.querySelector("gradio-app[src]"); // the address is another page's
    if (link && !embedded && link !== location.search) {
      const [now, next] = [location.search, link].map((each) => new URLSearchParams(each));
      const same = ["prompt", "seed"].every((name) => now.get(name) === next.get(name));
      if (page.returning && now.get("prompt") && !same) return; // a late word of the answer that was left
      history[same || page.returning ? "replaceState" : "pushState"](null, "", link);
    }
    if (link) page.returning = false;
    for (const here of element.querySelectorAll("a[data-here]")) here.href = location.origin + location.pathname + here.getAttribute("href");
  },

  // Read a new verdict out; what stands there when the page opens is read with the page.
  say(text) {
    if (!text || text === page.last) return;
    let said = document.getElementById("said");
    if (!said) {
      said = Object.assign(document.createElement("div"), { id: "said", className: "hidden" });
      said.setAttribute("aria-live", "polite");
      document.querySelector(".gradio-container").append(said);
    }
    if (page.last) said.textContent = text;
    page.last = text;
  },

  // What a message of Gradio's holds, how it is headed, and what it says instead of what Gradio wrote.
  messages: [
    [(said) => /^Connection (to the server was lost|errored out)/.test(said), () => text("The connection is lost"), () => text("This page tries to find its server again.")],
    [(said) => /^File\(s\) exceed/.test(said), () => text("The picture is too large"), (said) => text("It has more than {most}; make it smaller.", { most: /of ([^:]+):/.exec(said)?.[1] })],
    [(said) => said.startsWith("Invalid file type"), () => text("This is no picture"), () => text("Choose a JPEG, PNG or WebP.")],
    [(said) => said.startsWith("This application is currently busy"), () => text("Too much at once"), () => text("Too many requests are waiting; try again when yours are answered.")],
    [(said) => said === text("This is a fault of the page, not yours; what went wrong is in its log. Try again."), () => text("A fault of this page")],
    [(said) => said === text("Stopped. Nothing was changed."), () => text("Stopped")],
    [() => true, () => text("That did not work")],
  ],

  // Gradio heads a message by its kind alone, so that every mistake is an "Error", and knows some words in English only.
  reword() {
    for (const toast of document.querySelectorAll("[data-testid=toast-body]")) {
      const heads = new Set();
      for (const said of toast.querySelectorAll("[data-testid=toast-text]")) {
        const told = said.dataset.told ?? said.textContent.trim(), [, head, instead] = page.messages.find(([holds]) => holds(told));
        said.dataset.told = told;
        heads.add(head());
        if (instead) page.reset(said, instead(told));
      }
      const title = toast.querySelector(".toast-title");
      if (title && heads.size) page.reset(title, heads.size === 1 ? [...heads][0] : text("That did not work"));
      toast.querySelector("[data-testid=toast-close]")?.setAttribute("aria-label", text("Close"));
    }
    document.querySelectorAll("[aria-label='More tabs']").forEach((more) => { if (text("More tabs") !== "More tabs") more.ariaLabel = text("More tabs"); });
    for (const input of document.querySelectorAll("#sliders input")) {
      const [, kind, name] = /^(number input|range slider) for (.*)$/.exec(input.ariaLabel) ?? [];
      const said = kind === "number input" ? text("number input for {name}", { name }) : text("range slider for {name}", { name });
      if (kind && input.ariaLabel !== said) input.ariaLabel = said;
    }
    for (const told of document.querySelectorAll(".progress-text, .progress-level-inner")) for (const node of told.childNodes) {
      if (node.nodeType !== Node.TEXT_NODE) continue;
      const [, place, count] = /^queue: (\d+)\/(\d+) \|$/.exec(node.data) ?? [];
      if (place) node.data = text("place {place} of {count} |", { place, count });
      else if (node.data === "processing |" && text(node.data) !== node.data) node.data = text("processing |");
      else if (node.data === "-" || node.data === "0.0%") node.data = ""; // a share of nothing
      else if (/^\d+\.\d%$/.test(node.data)) node.data = ` ${Math.round(parseFloat(node.data))} %`;
    }
  },

  // Change what an element says first, in the node that Gradio made: it may remove it.
  reset(element, said) {
    const node = document.createTreeWalker(element, NodeFilter.SHOW_TEXT).nextNode();
    if (node && node.data.trim() !== said) node.data = said;
  },

  focus(element) {
    if (!page.opening || !element.closest("#opened")) return;
    page.opening = false;
    setTimeout(() => {  // once it is no longer hidden
      const heading = element.querySelector("h2");
      heading?.focus({ preventScroll: true });
      heading?.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth", block: "start" });
    }, 100);
  },
};
// Whoever comes by a link sees its picture first, and none before it.
if (/[?&](prompt|seed)=/.test(location.search)) document.documentElement.classList.add("arriving");
new MutationObserver(() => page.reword()).observe(document, { childList: true, characterData: true, subtree: true });
addEventListener("popstate", () => page.back?.());
document.addEventListener("paste", (event) => { if (page.bring(event.clipboardData?.files)) event.preventDefault(); });
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  if (kind === "drop") page.bring(event.dataTransfer.files);
});

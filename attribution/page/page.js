// What runs in the browser: which button sends which event, the slider between two pictures, the page's link.
window.page = {
  moved: "", // the component that a press asked for: its heading gets the focus when it arrives

  listen(element, trigger, watch, kinds) {
    element.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button || button.disabled) return;
      const data = button.dataset;
      if ("row" in data) { page.moved = element.closest("#found") ? "opened" : "closer"; trigger("look", { row: Number(data.row) }); }
      else if ("artist" in data) trigger("artist", { artist: data.artist });
      else if ("page" in data) trigger("turn", { page: Number(data.page) });
      else if ("example" in data) trigger("example", { example: Number(data.example) });
      else if ("drawn" in data) trigger("drawn", { drawn: Number(data.drawn) });
    });
    element.addEventListener("change", (event) => {
      if ("tick" in event.target.dataset) trigger("tick", { row: Number(event.target.dataset.tick), on: event.target.checked });
    });
    element.addEventListener("input", (event) => {
      const compare = event.target.closest(".compare");
      if (compare) compare.style.setProperty("--cut", event.target.value + "%");
    });
    watch("value", () => { page.link(element); page.focus(element); });
    page.focus(element); // what was hidden until now is made only when it is shown
  },

  link(element) {
    const link = element.querySelector("[data-link]")?.dataset.link;
    const embedded = document.querySelector("gradio-app[src]"); // the address is another page's
    if (link && !embedded) history.replaceState(null, "", link);
    for (const here of element.querySelectorAll("a[data-here]")) here.href = location.origin + location.pathname + here.getAttribute("href");
  },

  focus(element) {
    const name = element.closest("#closer, #opened")?.id;
    if (!name || name !== page.moved) return;
    page.moved = "";
    setTimeout(() => {  // once it is no longer hidden
      const heading = element.querySelector("h2");
      heading?.focus({ preventScroll: true });
      heading?.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth", block: "start" });
    }, 100);
  },
};

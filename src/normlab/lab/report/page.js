"use strict";
// Draws every chart, and keeps the slider and the choices of all charts together.
(async () => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const shared = ["epoch", "site", "mode"];
  const views = {};
  const has = (view, name) => {
    try { view.signal(name); return true; } catch { return false; }
  };

  for (const [name, spec] of Object.entries(specs)) {
    const place = document.getElementById(`chart-${name}`);
    try {
      const drawn = await vegaEmbed(place, spec, {
        mode: "vega-lite",
        renderer: "canvas",
        bind: `#controls-${name}`,
        actions: name === "scores" ? false : { export: true, source: false, compiled: false, editor: false },
        downloadFileName: `normlab-${name}`,
      });
      views[name] = drawn.view;
    } catch (error) {
      place.textContent = `This chart could not be drawn: ${error.message}`;
      place.classList.add("problem");
      console.error(error);
    }
  }

  for (const signal of shared) {
    const together = Object.values(views).filter((view) => has(view, signal));
    for (const view of together) {
      view.addSignalListener(signal, (_, value) => {
        for (const other of together) {
          if (other !== view && other.signal(signal) !== value) other.signal(signal, value).runAsync();
        }
      });
    }
  }
  window.normlab = { views };
  document.documentElement.dataset.drawn = "yes";
})();

"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const places = Object.keys(figures).map((id) => document.getElementById(id));
  const config = {
    displaylogo: false,
    responsive: true,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg", filename: "come-lab" },
  };
  const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom"; // a finger scrolls the page
  const PAPER = 680; // pixels of a page of A4 between its margins

  // A browser that does not tell before it prints scales the drawing to the paper by this.
  const scalable = (place) => {
    const { width, height } = place._fullLayout;
    place.style.setProperty("--shape", `${width} / ${height}`);
    for (const drawing of place.querySelectorAll(".main-svg"))
      drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  };

  for (const place of places) {
    const { data, layout } = figures[place.id];
    Plotly.newPlot(place, data, { ...layout, dragmode }, config);
    place.on("plotly_afterplot", () => scalable(place));
    scalable(place);
  }
  addEventListener("beforeprint", () => {
    for (const place of places) Plotly.relayout(place, { width: PAPER }), scalable(place);
  });
  addEventListener("afterprint", () => {
    for (const place of places) Plotly.relayout(place, { width: null, autosize: true });
  });
  document.documentElement.dataset.drawn = places.length;
})();

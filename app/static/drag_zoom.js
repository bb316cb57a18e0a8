// A drag over the channels' map zooms it in the browser at once. Then the server bins anew what is in sight: it is told
// by way of a field that nobody sees. Streamlit itself tells of clicks on a chart or of drags over it, not of both.
{
  const map = ".st-key-channel-map .js-plotly-plot";
  const field = ".st-key-zoom-to input";
  const afterPlotly = 150; // milliseconds, after which it has drawn the zoomed map
  const write = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
  const range = (plot) => plot._fullLayout.xaxis.range.join(" ");
  let held, before;

  document.addEventListener(
    "mousedown",
    (event) => {
      held = event.target.closest?.(map);
      before = held && range(held);
    },
    true,
  );
  document.addEventListener(
    "mouseup",
    () => {
      const plot = held;
      held = undefined;
      if (!plot) return;
      setTimeout(() => {
        const input = document.querySelector(field);
        if (!input || !plot.isConnected || range(plot) === before) return;
        write.call(input, range(plot));
        input.dispatchEvent(new Event("input", { bubbles: true }));
        input.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
      }, afterPlotly);
    },
    true,
  );
  // A finger scrolls the page; its taps come as clicks.
  document.addEventListener("touchstart", (event) => event.target.closest?.(map) && event.stopPropagation(), true);
}

// A press on "Copy" beside a chart's title puts chart and title on the clipboard as one picture, as they look now; where
// the browser lets no page write there, the picture is downloaded.
document.addEventListener("click", async ({ target }) => {
  const button = target.closest?.(".come-copy");
  const plot = button?.closest("[data-testid=stVerticalBlock]")?.querySelector(".js-plotly-plot");
  if (!plot) return;
  const picture = draw(plot, button.parentElement.querySelector(".come-finding")?.innerText ?? "");
  try {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
    say(button, "Copied");
  } catch {
    const link = Object.assign(document.createElement("a"), { download: "come-lab.png" });
    link.href = URL.createObjectURL(await picture);
    link.click();
    say(button, "Saved");
  }

  function say(button, word) {
    const before = button.textContent;
    button.textContent = word;
    setTimeout(() => (button.textContent = before), 1500);
  }

  async function draw(plot, title) {
    const { width, height } = plot.getBoundingClientRect();
    const page = getComputedStyle(document.querySelector(".stApp"));
    const scale = 2, margin = 16, room = title ? 34 : 0;
    const canvas = Object.assign(document.createElement("canvas"), {
      width: scale * (width + 2 * margin), height: scale * (height + room + 2 * margin),
    });
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.fillStyle = page.backgroundColor;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    if (title) {
      pen.fillStyle = page.color;
      pen.font = `600 15px ${page.fontFamily}`;
      pen.fillText(title.replaceAll("\n", " "), margin, margin + 14, width);
    }
    const from = plot.getBoundingClientRect();
    for (const layer of plot.querySelectorAll(".main-svg, canvas")) {
      const at = layer.getBoundingClientRect();
      const image = layer.tagName === "CANVAS" ? layer : await loaded(layer);
      const [x, y] = [margin + at.x - from.x, margin + room + at.y - from.y];
      if (at.width && at.height) pen.drawImage(image, x, y, at.width, at.height);
    }
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  }

  async function loaded(layer) {
    const copy = layer.cloneNode(true);
    const texts = layer.querySelectorAll("text");
    copy.querySelectorAll("text").forEach((text, place) => {
      const seen = getComputedStyle(texts[place]); // what the page's own styles make of it
      Object.assign(text.style, { fill: seen.fill, fontFamily: seen.fontFamily, fontSize: seen.fontSize });
    });
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.querySelectorAll(".modebar-container, .hoverlayer").forEach((part) => part.remove());
    const image = new Image();
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
    await image.decode();
    return image;
  }
});

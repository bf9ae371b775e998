// Elements, and the few things that every page does with them.

/** An element: h("a.row", {href}, "text", child). Text is text, never markup. */
export function h(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name || "div");
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Text that is only written when it differs: most of what is drawn has not changed. */
export function put(element, text) {
  if (element.shown !== text) {
    element.shown = text;
    element.textContent = text;
  }
}

export function attr(element, name, value) {
  const key = `_${name}`;
  if (element[key] !== value) {
    element[key] = value;
    if (value === null) element.removeAttribute(name);
    else element.setAttribute(name, value);
  }
}

/** Sizes a canvas to its box, which is asked for unless it is known; its context, scaled to it. */
export function fit(canvas, box = null) {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  const wide = box ? box.width : canvas.clientWidth;
  const high = box ? box.height : canvas.clientHeight;
  const width = Math.round(wide * ratio);
  const height = Math.round(high * ratio);
  if (width && height && (canvas.width !== width || canvas.height !== height)) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width: wide, height: high, ratio };
}

/** Colours of the theme, read from the style sheet once and again when it changes. */
let colours = null;
export function palette() {
  if (!colours) {
    const style = getComputedStyle(document.documentElement);
    const names = ["bg", "panel", "line", "grid", "text", "muted", "buy", "sell", "accent", "warn", "bad", "good", "hatch", "poc", "area"];
    colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    colours.theme = document.documentElement.dataset.theme;
  }
  return colours;
}
export const forgetPalette = () => { colours = null; };

/** A pattern of diagonal lines: where there is no data. */
export function hatch(context, colour) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const c = tile.getContext("2d");
  c.strokeStyle = colour;
  c.lineWidth = 1.25;
  for (const at of [-8, 0, 8]) {
    c.beginPath();
    c.moveTo(at, 8);
    c.lineTo(at + 8, 0);
    c.stroke();
  }
  return context.createPattern(tile, "repeat");
}

/** A table behind a chart, filled while it is open. */
export function tableView(label, heads, rows) {
  const body = h("tbody");
  const details = h("details.astable", {}, h("summary", {}, `${label} as a table`),
    h("div.scroll", { tabindex: "0", role: "region", "aria-label": `${label} as a table` },
      h("table", {}, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), body)));
  details.update = () => {
    if (!details.open) return;
    body.replaceChildren(...rows().map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell)))));
  };
  details.addEventListener("toggle", details.update);
  return details;
}

export async function copy(text, button) {
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select and copy";
  }
  setTimeout(() => { button.textContent = said; }, 1500);
}

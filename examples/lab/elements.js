// Elements, lists and figures, for all parts of the page.
//
// Invariant: an element changes only if its text or its data has changed.

export const byId = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") created.className = value;
    else created.setAttribute(name, value);
  }
  created.append(...children);
  return created;
}

/** Changes a text only if it differs, so that the page does not flicker and a selection stays. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Replaces a list if its data has changed. */
export function setList(target, items, build, empty = "none") {
  const key = JSON.stringify([items, empty]);
  if (target.dataset.key === key) return;
  target.dataset.key = key;
  target.replaceChildren(...(items.length ? items.map(build) : [element("li", { class: "none" }, empty)]));
}

// ---- figures

export function bytes(count) {
  if (count < 10_000) return `${count} B`;
  if (count < 10_000_000) return `${(count / 1024).toFixed(0)} KiB`;
  return `${(count / 1048576).toFixed(0)} MiB`;
}

export function micros(time) {
  if (time < 1000) return `${time} µs`;
  if (time < 1_000_000) return `${(time / 1000).toFixed(1)} ms`;
  return `${(time / 1_000_000).toFixed(1)} s`;
}

export const seconds = (millis) => `${(Math.max(0, millis) / 1000).toFixed(1)} s`;
export const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

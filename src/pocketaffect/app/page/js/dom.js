// Elements and texts. Text is only ever set as text: what a catalogue says cannot become markup.

let texts = {};

export async function loadTexts() {
  texts = await (await fetch("/texts/en.json")).json();
}

/** The text under a dotted key, its {names} filled in. */
export function text(key, values = {}) {
  const found = key.split(".").reduce((part, name) => part?.[name], texts);
  if (typeof found !== "string") throw new Error(`no text ${key}`);
  return found.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

export const byId = (id) => document.getElementById(id);

/** An element with attributes (and properties, where a key starts with a dot) and children. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith(".")) made[key.slice(1)] = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** A signed number with two decimals, with a real minus. */
export const signed = (value) => (value < -0.005 ? "−" : "+") + Math.abs(value).toFixed(2);

export const wantsLessMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** A colour of app.css. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Gives a canvas the pixels that its place on the screen has, and answers its context in CSS pixels. */
export function fitCanvas(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  const [wide, high] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== wide) canvas.width = wide;
  if (canvas.height !== high) canvas.height = high;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

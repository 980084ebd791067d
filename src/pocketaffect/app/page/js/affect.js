// Shows affect: eight bars, a point in the valence-arousal plane with its trail, and a spoken line now and then.

import { byId, colour, element, fitCanvas, signed, text, wantsLessMotion } from "./dom.js";

const TRAIL_SECONDS = 4;
const SPOKEN_SECONDS = 5; // a screen reader that is told of every frame says nothing

/** The likeliest expression in words, or that the network is unsure: `facts.unsure_below` says from where on it is not. */
export function nameExpression({ probabilities }, facts) {
  const best = likeliest(probabilities);
  const expression = text(`expressions.${facts.labels[best]}`);
  return isSure(probabilities, facts) ? expression : text("affect.unsure", { expression: expression.toLowerCase() });
}

const likeliest = (probabilities) => probabilities.indexOf(Math.max(...probabilities));
const isSure = (probabilities, facts) => Math.max(...probabilities) >= (facts.unsure_below ?? 0);

export class AffectView {
  #facts;
  #bars = [];
  #trail = [];
  #spoken = -Infinity;

  constructor(facts) {
    this.#facts = facts;
    const list = byId("bars");
    list.replaceChildren();
    for (const label of facts.labels) {
      const fill = element("span", { class: "fill" });
      const number = element("span", { class: "number" }, "–");
      const row = element(
        "li",
        {},
        element("span", { class: "name" }, text(`expressions.${label}`)),
        element("span", { class: "track", "aria-hidden": "true" }, fill),
        number,
      );
      this.#bars.push({ fill, number, row });
      list.append(row);
    }
    this.#draw();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    new ResizeObserver(() => this.#draw()).observe(byId("plane"));
  }

  /** Shows an affect at `time` (seconds); without a trail where `steady`. */
  show(affect, time, steady = false) {
    const best = isSure(affect.probabilities, this.#facts) ? likeliest(affect.probabilities) : null;
    this.#bars.forEach(({ fill, number, row }, place) => {
      const share = affect.probabilities[place];
      fill.style.transform = `scaleX(${Math.min(1, Math.max(0, share))})`;
      number.textContent = `${Math.round(100 * share)} %`;
      row.classList.toggle("best", place === best);
    });
    const expression = nameExpression(affect, this.#facts);
    byId("verdict").textContent = expression;
    byId("verdict").classList.toggle("unsure", best === null);
    if (steady) this.#trail = [];
    this.#trail.push({ x: affect.valence, y: affect.arousal, time });
    this.#trail = this.#trail.filter((point) => time - point.time < TRAIL_SECONDS);
    this.#draw();
    const numbers = { valence: signed(affect.valence), arousal: signed(affect.arousal) };
    byId("plane-value").textContent = text("affect.value", numbers);
    if (time - this.#spoken > SPOKEN_SECONDS) {
      this.#spoken = time;
      const percent = Math.round(100 * Math.max(...affect.probabilities));
      byId("spoken").textContent = text("affect.summary", { expression, percent, ...numbers });
    }
  }

  /** Shows that there is no face. */
  clear() {
    this.#trail = [];
    for (const { fill, number, row } of this.#bars) {
      fill.style.transform = "scaleX(0)";
      number.textContent = "–";
      row.classList.remove("best");
    }
    byId("verdict").textContent = "";
    byId("plane-value").textContent = text("affect.none");
    this.#draw();
  }

  #draw() {
    const canvas = byId("plane");
    const { context, width, height } = fitCanvas(canvas);
    drawAxes(context, width, height);
    if (!this.#trail.length) return;
    const place = ({ x, y }) => [planeX(x, width), planeY(y, height)];
    const now = this.#trail.at(-1);
    if (!wantsLessMotion()) {
      context.strokeStyle = colour("mark");
      context.lineWidth = 2.5;
      context.lineCap = "round";
      for (let step = 1; step < this.#trail.length; step++) {
        context.globalAlpha = Math.max(0, 1 - (now.time - this.#trail[step].time) / TRAIL_SECONDS) * 0.7;
        context.beginPath();
        context.moveTo(...place(this.#trail[step - 1]));
        context.lineTo(...place(this.#trail[step]));
        context.stroke();
      }
      context.globalAlpha = 1;
    }
    drawPoint(context, ...place(now));
  }
}

const EDGE = 12;
export const planeX = (valence, width) => EDGE + ((clip(valence) + 1) / 2) * (width - 2 * EDGE);
export const planeY = (arousal, height) => EDGE + ((1 - clip(arousal)) / 2) * (height - 2 * EDGE);
export const fromPlaneX = (x, width) => clip((2 * (x - EDGE)) / (width - 2 * EDGE) - 1);
export const fromPlaneY = (y, height) => clip(1 - (2 * (y - EDGE)) / (height - 2 * EDGE));
const clip = (value) => Math.min(1, Math.max(-1, value));

/** The two axes, and a circle at a half and at one. */
export function drawAxes(context, width, height) {
  if (Math.min(width, height) <= 2 * EDGE) return; // on a hidden screen
  context.lineWidth = 1;
  context.strokeStyle = colour("line");
  const [x, y] = [planeX(0, width), planeY(0, height)];
  for (const radius of [0.5, 1]) {
    context.beginPath();
    context.ellipse(x, y, radius * (width / 2 - EDGE), radius * (height / 2 - EDGE), 0, 0, 2 * Math.PI);
    context.stroke();
  }
  context.strokeStyle = colour("soft");
  context.beginPath();
  context.moveTo(EDGE, y);
  context.lineTo(width - EDGE, y);
  context.moveTo(x, EDGE);
  context.lineTo(x, height - EDGE);
  context.stroke();
}

export function drawPoint(context, x, y) {
  context.beginPath();
  context.arc(x, y, 8, 0, 2 * Math.PI);
  context.fillStyle = colour("mark");
  context.fill();
  context.lineWidth = 2.5;
  context.strokeStyle = colour("paper");
  context.stroke();
}

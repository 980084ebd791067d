// Self-annotation of valence and arousal: a pad to point at, and two sliders that say the same to a keyboard.

import { drawAxes, drawPoint, fromPlaneX, fromPlaneY, planeX, planeY } from "./affect.js";
import { element, fitCanvas, signed, text } from "./dom.js";

const SLIDER_TEXTS = { valence: "study.valence", arousal: "study.arousal" };

export class Pad {
  #canvas = element("canvas");
  #sliders;
  #shown = element("p", { class: "value", "aria-hidden": "true" });
  #onchange;
  value = null; // { valence, arousal } once something was marked

  constructor(onchange) {
    this.#onchange = onchange;
    this.#sliders = {
      valence: this.#slider("valence"),
      arousal: this.#slider("arousal"),
    };
    const words = ["top", "bottom", "left", "right"];
    const names = ["excited", "calm", "unpleasant", "pleasant"];
    const pad = element(
      "div",
      { class: "pad", "aria-hidden": "true" }, // the sliders say the same
      this.#canvas,
      ...words.map((place, number) => element("span", { class: place }, text(`affect.${names[number]}`))),
    );
    this.element = element(
      "div",
      { class: "annotation" },
      pad,
      this.#shown,
      ...Object.entries(this.#sliders).map(([name, slider]) => element("label", { class: "slider" }, text(SLIDER_TEXTS[name]), slider)),
    );
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      this.#point(event);
    });
    pad.addEventListener("pointermove", (event) => {
      if (event.buttons) this.#point(event);
    });
    new ResizeObserver(() => this.#draw()).observe(this.#canvas);
  }

  #slider(name) {
    return element("input", {
      type: "range",
      min: -1,
      max: 1,
      step: 0.05,
      value: 0,
      name,
      oninput: ({ target }) => this.#set({ valence: 0, arousal: 0, ...this.value, [name]: Number(target.value) }),
    });
  }

  #point(event) {
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    this.#set({ valence: fromPlaneX(event.clientX - left, width), arousal: fromPlaneY(event.clientY - top, height) });
  }

  #set(value) {
    this.value = { valence: Math.round(value.valence * 100) / 100, arousal: Math.round(value.arousal * 100) / 100 };
    for (const [name, slider] of Object.entries(this.#sliders)) {
      slider.value = this.value[name];
      slider.setAttribute("aria-valuetext", signed(this.value[name]));
    }
    this.#shown.textContent = text("affect.value", { valence: signed(this.value.valence), arousal: signed(this.value.arousal) });
    this.#draw();
    this.#onchange();
  }

  #draw() {
    const { context, width, height } = fitCanvas(this.#canvas);
    drawAxes(context, width, height);
    if (this.value) drawPoint(context, planeX(this.value.valence, width), planeY(this.value.arousal, height));
  }
}

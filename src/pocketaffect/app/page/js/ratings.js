// A listener's stars: kept nowhere, in this browser, or in the server's store under a random number.

import { forgetListener, sendRating } from "./api.js";

const MOST = 200; // as many as the server takes along with a wish for songs

export class Ratings {
  #given = new Map(); // of this visit, to show them again

  get mode() {
    return localStorage.getItem("learn") ?? "device";
  }

  set mode(mode) {
    localStorage.setItem("learn", mode);
  }

  given(track) {
    return this.#given.get(track) ?? 0;
  }

  /** What goes along with a wish for songs. */
  wish() {
    if (this.mode === "device") return { ratings: this.#kept() };
    if (this.mode === "server" && localStorage.getItem("listener")) return { listener: localStorage.getItem("listener") };
    return {};
  }

  async keep(affect, track, stars) {
    this.#given.set(track, stars);
    if (this.mode === "server") await sendRating({ listener: this.#listener(), affect, track, stars });
    else if (this.mode === "device") {
      const others = this.#kept().filter((rating) => rating.track !== track);
      localStorage.setItem("ratings", JSON.stringify([...others, { affect, track, stars }].slice(-MOST)));
    }
  }

  /** Deletes them here and on the server. */
  async forget() {
    this.#given.clear();
    localStorage.removeItem("ratings");
    const listener = localStorage.getItem("listener");
    if (listener) await forgetListener(listener);
    localStorage.removeItem("listener");
  }

  #kept() {
    try {
      return JSON.parse(localStorage.getItem("ratings")) ?? [];
    } catch {
      return [];
    }
  }

  #listener() {
    if (!localStorage.getItem("listener")) {
      const bytes = crypto.getRandomValues(new Uint8Array(16));
      const name = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
      localStorage.setItem("listener", name);
    }
    return localStorage.getItem("listener");
  }
}

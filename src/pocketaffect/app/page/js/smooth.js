// Affect over time: single frames jitter, so what is shown follows them with a delay of TAU.

const TAU = 0.35; // seconds
const FORGET = 1.5; // seconds without a face, after which a new one starts afresh

export class Smoother {
  #state = null;
  #time = -Infinity;

  /** The smoothed affect after one more of them at `time` (seconds). */
  add(affect, time) {
    const gap = time - this.#time;
    this.#time = time;
    if (!this.#state || gap > FORGET) {
      this.#state = { ...affect, probabilities: [...affect.probabilities] };
      return this.#state;
    }
    const share = 1 - Math.exp(-gap / TAU);
    const mix = (old, now) => old + share * (now - old);
    this.#state = {
      probabilities: this.#state.probabilities.map((old, place) => mix(old, affect.probabilities[place])),
      valence: mix(this.#state.valence, affect.valence),
      arousal: mix(this.#state.arousal, affect.arousal),
    };
    return this.#state;
  }
}

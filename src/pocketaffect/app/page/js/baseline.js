// A listener's neutral face as the network reads it, kept as numbers in this browser alone: what others are compared with.

const KEY = "neutral-face";
const NEUTRAL = "neutral";
const LEAST = 2; // times as likely as anything else is "neutral" on the neutral face itself

export class Baseline {
  #model;
  #neutral;
  #kept;

  /** `facts` are those of /api/model: another network reads a face in another way, and needs its own. */
  constructor(facts) {
    this.#model = facts.digest;
    this.#neutral = facts.labels.indexOf(NEUTRAL);
    this.#kept = read(this.#model, facts.labels.length);
  }

  get taken() {
    return this.#kept !== null;
  }

  take({ probabilities, valence, arousal }) {
    this.#kept = { model: this.#model, probabilities: [...probabilities], valence, arousal };
    localStorage.setItem(KEY, JSON.stringify(this.#kept));
  }

  forget() {
    this.#kept = null;
    localStorage.removeItem(KEY);
  }

  /** The affect as it differs from the neutral face: what that looked like without being meant counts for less. */
  compare(affect) {
    if (!this.#kept) return affect;
    const { probabilities, valence, arousal } = this.#kept;
    const most = probabilities[this.#neutral] / LEAST;
    const weighed = affect.probabilities.map((value, place) =>
      place === this.#neutral || probabilities[place] <= most ? value : (value * most) / probabilities[place],
    );
    const sum = weighed.reduce((total, value) => total + value, 0);
    return {
      ...affect,
      probabilities: weighed.map((value) => value / sum),
      valence: clip(affect.valence - valence),
      arousal: clip(affect.arousal - arousal),
    };
  }
}

const clip = (value) => Math.min(1, Math.max(-1, value));

/** What was kept for this network; null where nothing was, or what lies there is none of it. */
function read(model, count) {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY));
    const numbers = [...kept.probabilities, kept.valence, kept.arousal];
    return kept.model === model && numbers.length === count + 2 && numbers.every(Number.isFinite) ? kept : null;
  } catch {
    return null;
  }
}

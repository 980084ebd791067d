// The page's side of worker.js: one picture at a time, answered by a promise.

export class Vision {
  #worker;
  #waiting = new Map();
  #next = 0;

  /** Loads both networks; resolves when they can be used. `facts` are those of /api/model. */
  static async open(facts) {
    const vision = new Vision();
    await vision.#start(facts);
    return vision;
  }

  /** Boxes, probabilities, valence and arousal of a picture (ImageBitmap), which is used up. */
  look(picture) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ kind: "look", id, picture }, [picture]);
    });
  }

  #start(facts) {
    this.#worker = new Worker("/js/worker.js", { type: "module" });
    return new Promise((resolve, reject) => {
      this.#worker.onerror = (event) => reject(new Error(event.message || "the worker did not start"));
      this.#worker.onmessage = ({ data }) => {
        if (data.kind === "ready") resolve();
        else if (data.id === undefined) reject(new Error(data.message));
        else this.#answer(data);
      };
      this.#worker.postMessage({ kind: "load", facts });
    });
  }

  #answer(data) {
    const { resolve, reject } = this.#waiting.get(data.id);
    this.#waiting.delete(data.id);
    if (data.kind === "result") resolve(data);
    else reject(new Error(data.message));
  }
}

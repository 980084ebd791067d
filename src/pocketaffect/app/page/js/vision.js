// The page's side of worker.js: pictures in, each answered by a promise. A worker that broke down is replaced at the next.

export class Vision {
  #facts;
  #opened = null; // a promise of the worker, once both networks can be used
  ready = false;
  #waiting = new Map();
  #next = 0;

  /** Begins to load both networks; `facts` are those of /api/model. */
  constructor(facts) {
    this.#facts = facts;
    this.open().catch(() => {}); // who looks at a picture is told, and tries again
  }

  /** Loads both networks, where they are not; resolves when they can be used. */
  open() {
    this.#opened ??= this.#start();
    return this.#opened;
  }

  /** Boxes, probabilities, valence and arousal of a picture (ImageBitmap), which is used up. */
  async look(picture) {
    const worker = await this.open();
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      worker.postMessage({ kind: "look", id, picture }, [picture]);
    });
  }

  #start() {
    const worker = new Worker("/js/worker.js", { type: "module" });
    return new Promise((resolve, reject) => {
      const fail = (message) => {
        worker.terminate();
        this.#opened = null;
        this.ready = false;
        const error = new Error(message);
        reject(error);
        for (const picture of this.#waiting.values()) picture.reject(error);
        this.#waiting.clear();
      };
      worker.onerror = (event) => fail(event.message || "the worker broke down");
      worker.onmessage = ({ data }) => {
        if (data.kind === "ready") {
          this.ready = true;
          resolve(worker);
        } else if (data.id === undefined) fail(data.message);
        else this.#answer(data);
      };
      worker.postMessage({ kind: "load", facts: this.#facts });
    });
  }

  #answer(data) {
    const { resolve, reject } = this.#waiting.get(data.id);
    this.#waiting.delete(data.id);
    if (data.kind === "result") resolve(data);
    else reject(new Error(data.message));
  }
}

// The camera: starting, stopping, and which help page a refusal calls for.

export class Camera {
  #stream = null;
  #starting = null;

  constructor(video) {
    this.video = video;
  }

  get running() {
    return this.#stream !== null;
  }

  /** Starts the front camera, once. Rejects with an error whose `help` is denied, missing, busy or insecure. */
  start() {
    this.#starting ??= this.#open().finally(() => (this.#starting = null)); // while the browser asks, people press again
    return this.#starting;
  }

  async #open() {
    if (this.running) return;
    if (!navigator.mediaDevices?.getUserMedia) throw withHelp("insecure");
    try {
      this.#stream = await ask().catch((error) => {
        if (error.name !== "AbortError") throw error;
        return ask(); // on a busy device the camera did not start in the browser's time: once more
      });
    } catch (error) {
      const help = { NotAllowedError: "denied", SecurityError: "denied", NotFoundError: "missing", OverconstrainedError: "missing" };
      throw withHelp(help[error.name] ?? "busy");
    }
    for (const track of this.#stream.getTracks()) track.addEventListener("ended", () => this.#lose(), { once: true });
    this.video.srcObject = this.#stream;
    this.play();
  }

  /** Plays on. A play that something else interrupts is none to tell of: who reads pictures calls this again. */
  play() {
    this.video.play().catch(() => {});
  }

  stop() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.video.srcObject = null;
  }

  /** The present frame, or null before the first. */
  async grab() {
    if (!this.running || this.video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return null;
    return createImageBitmap(this.video);
  }

  #lose() {
    this.stop();
    this.video.dispatchEvent(new Event("cameralost"));
  }
}

function ask() {
  const wanted = { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 } };
  return navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
}

function withHelp(help) {
  return Object.assign(new Error(`camera ${help}`), { help });
}

// The live screen: camera or photo in, boxes, affect and speed out. Others listen for what was read; the document hears
// each reading's numbers as an event, for the benchmark and the tests.

import { byId, text, wantsLessMotion } from "./dom.js";
import { AffectView } from "./affect.js";
import { Baseline } from "./baseline.js";
import { Camera } from "./camera.js";
import { Smoother } from "./smooth.js";
import { drawFaces, setStage, showPhoto } from "./stage.js";

const FACE_LOST = 0.6; // seconds: a detector blinks, and only so long without a face is worth a word
const DARK_FOR = 3; // seconds without any picture of the camera, likewise

export class Live extends EventTarget {
  #vision;
  #camera = new Camera(byId("video"));
  #view;
  #smoother = new Smoother();
  #paused = false;
  #looking = false;
  #turn = 0; // counts starts, stops and pauses: what was read of a picture from before one is not shown after it
  #seen = 0; // seconds, when there was a face
  #speed = new Speed();
  #latest = null; // the last single reading, for the study
  #baseline;
  #read = null; // what is shown, before it was compared with the neutral face

  constructor(vision, facts) {
    super();
    this.#vision = vision;
    this.#view = new AffectView(facts);
    this.#baseline = new Baseline(facts);
    byId("neutral-take").addEventListener("click", () => this.#takeNeutral());
    byId("neutral-forget").addEventListener("click", () => {
      this.#baseline.forget();
      this.#showNeutral("affect.neutral_forgotten");
    });
    this.#showNeutral();
    byId("start").disabled = byId("photo-input").disabled = false;
    byId("start").addEventListener("click", () => this.start());
    byId("pause").addEventListener("click", () => this.togglePause());
    byId("stop").addEventListener("click", () => this.stop());
    byId("photo-input").addEventListener("change", (event) => this.#readPhoto(event.target));
    byId("video").addEventListener("cameralost", () => this.#showStopped("live.lost"));
    this.#say("live.idle");
  }

  get running() {
    return this.#camera.running;
  }

  /** What the last picture showed: an affect, or null where it showed no face. */
  get latest() {
    return this.#latest;
  }

  /** Makes `latest` null until another picture was read; goes on with the camera. */
  readAnew() {
    this.#turn++;
    this.#latest = null;
    this.resume();
  }

  async start() {
    byId("help").hidden = true;
    try {
      await this.#camera.start();
    } catch (error) {
      byId("help-text").textContent = text(`help.${error.help ?? "busy"}`);
      byId("help").hidden = false;
      this.#say("live.idle");
      return;
    }
    setStage("camera");
    this.#smoother = new Smoother();
    this.#latest = null;
    this.#setPaused(false);
    this.#showButtons();
    this.#run();
  }

  stop() {
    this.#camera.stop();
    this.#showStopped("live.idle");
  }

  togglePause() {
    if (this.#paused) this.resume();
    else this.pause();
  }

  pause() {
    if (this.running && !this.#paused) this.#setPaused(true);
  }

  resume() {
    if (!this.running || !this.#paused) return;
    this.#setPaused(false);
    this.#run();
  }

  #setPaused(paused) {
    this.#turn++;
    this.#paused = paused;
    byId("pause").textContent = text(paused ? "live.resume" : "live.pause");
    if (paused) byId("video").pause();
    this.#say(paused ? "live.paused" : this.#vision.ready ? "live.reading" : "live.loading");
  }

  #showStopped(key, values) {
    this.#turn++;
    setStage("empty");
    this.#clear();
    byId("speed").textContent = "";
    this.#showButtons();
    this.#say(key, values);
  }

  #showButtons() {
    byId("start").hidden = this.running;
    byId("pause").hidden = byId("stop").hidden = !this.running;
    this.dispatchEvent(new Event("camera"));
  }

  /** One picture after the other, never two at a time; each is dropped when it was read. */
  async #run() {
    if (this.#looking) return; // a loop that waits for a frame outlives a short pause, and goes on
    this.#looking = true;
    await this.#lookOn();
  }

  async #lookOn() {
    let lit = now();
    this.#seen = lit;
    while (this.running && !this.#paused) {
      const video = byId("video");
      if (video.paused) this.#camera.play(); // a pause, or moving it to another screen, stopped it
      await nextFrame(video);
      const turn = this.#turn;
      const picture = await this.#camera.grab().catch(() => null);
      if (!picture || !this.running || this.#paused) {
        picture?.close();
        if (this.running && !this.#paused && now() - lit > DARK_FOR) this.#say("live.no_picture");
        continue;
      }
      try {
        const result = await this.#vision.look(picture);
        if (turn === this.#turn) this.#show(result);
      } catch (error) {
        this.#camera.stop();
        this.#showStopped("live.broken", { message: error.message });
      }
      lit = now();
    }
    this.#looking = false; // in one step with the last look at the conditions: a start in between would begin no loop
  }

  #show(result) {
    const seconds = now();
    drawFaces(result);
    if (result.faces.length) {
      this.#seen = seconds;
      this.#latest = result;
      this.#read = this.#smoother.add(result, seconds);
      const affect = this.#baseline.compare(this.#read);
      this.#view.show(affect, seconds);
      byId("neutral-take").disabled = false;
      if (result.faces.length > 1) this.#say("live.several", { count: result.faces.length });
      else this.#say("live.reading");
      this.dispatchEvent(new CustomEvent("affect", { detail: { affect, seconds } }));
    } else if (seconds - this.#seen > FACE_LOST) {
      this.#clear();
      this.#say("live.no_face");
    }
    this.#speed.add({ ...result.times, draw: 1000 * (now() - seconds) }, seconds);
    byId("speed").textContent = this.#speed.toText();
    this.#announce("frame", { ...result, times: this.#speed.last });
  }

  async #readPhoto(input) {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    this.#camera.stop();
    byId("help").hidden = true;
    this.#showStopped("live.idle");
    let picture;
    try {
      picture = await showPhoto(file);
    } catch {
      this.#say("live.unreadable_photo");
      return;
    }
    if (!this.#vision.ready) this.#say("live.loading");
    const turn = this.#turn;
    let result;
    try {
      result = await this.#vision.look(picture);
    } catch (error) {
      if (turn === this.#turn) this.#say("live.broken", { message: error.message });
      return;
    }
    if (turn !== this.#turn) return; // another photo, or the camera, came after it
    drawFaces(result);
    if (!result.faces.length) {
      this.#say("live.no_face_photo");
      return;
    }
    this.#latest = result;
    this.#read = result;
    byId("neutral-take").disabled = false;
    const seconds = now();
    const affect = this.#baseline.compare(result);
    this.#view.show(affect, seconds, true);
    const several = result.faces.length > 1;
    this.#say(several ? "live.several" : "live.photo_read", { count: result.faces.length });
    byId("speed").textContent = text("live.speed_photo", roundTimes(result.times));
    this.dispatchEvent(new CustomEvent("photo", { detail: { affect, seconds } }));
    this.#announce("frame", result);
  }

  #clear() {
    this.#view.clear();
    this.#latest = this.#read = null;
    byId("neutral-take").disabled = true;
  }

  #takeNeutral() {
    this.#baseline.take(this.#read);
    if (!this.running) this.#view.show(this.#baseline.compare(this.#read), now(), true);
    this.#showNeutral();
  }

  /** Says whether readings are compared with a neutral face. */
  #showNeutral(key = "affect.neutral_hint") {
    const { taken } = this.#baseline;
    byId("neutral-forget").hidden = !taken;
    byId("neutral-status").textContent = text(taken ? "affect.neutral_taken" : key);
  }

  #announce(kind, reading) {
    this.dispatchEvent(new Event(kind));
    document.dispatchEvent(new CustomEvent("reading", { detail: reading }));
  }

  /** Says a line, once: repeating it would make a screen reader repeat it too. */
  #say(key, values) {
    const line = text(key, values);
    const status = byId("status");
    if (status.textContent !== line) status.textContent = line;
  }
}

/** Pictures a second and milliseconds for each step, in the mean of the last two seconds. */
class Speed {
  #frames = [];
  last = {};

  add(times, seconds) {
    this.last = times;
    this.#frames.push({ times, seconds });
    this.#frames = this.#frames.filter((frame) => seconds - frame.seconds < 2);
  }

  toText() {
    const span = this.#frames.at(-1).seconds - this.#frames[0].seconds;
    const exact = span > 0 ? (this.#frames.length - 1) / span : 0;
    const rate = exact.toFixed(exact < 3 ? 1 : 0);
    const mean = (name) => {
      const found = this.#frames.map(({ times }) => times[name]).filter((value) => value !== undefined);
      return found.length ? found.reduce((sum, value) => sum + value, 0) / found.length : 0;
    };
    const names = ["detect", "crop", "infer", "draw"];
    return text("live.speed", { rate, ...roundTimes(Object.fromEntries(names.map((name) => [name, mean(name)]))) });
  }
}

const now = () => performance.now() / 1000;

const roundTimes = (times) =>
  Object.fromEntries(Object.entries(times).map(([name, value]) => [name, value.toFixed(1)]));

/** Resolves when the video has another frame; five times a second where less motion is wanted. */
function nextFrame(video) {
  return new Promise((resolve) => {
    if (wantsLessMotion()) setTimeout(resolve, 200);
    else if (!video.requestVideoFrameCallback) requestAnimationFrame(resolve);
    else {
      const late = setTimeout(resolve, 500); // a hidden tab gives no frames
      video.requestVideoFrameCallback(() => {
        clearTimeout(late);
        resolve();
      });
    }
  });
}

// The user study: consent, ten prompts (show a face, hear of songs, rate them, say how it felt), thanks; withdraw at any time.

import { affectNumbers, beginRun, readMusic, readRun, readStudy, saveRow, suggestSongs, withdrawRun } from "./api.js";
import { nameExpression } from "./affect.js";
import { byId, element, text } from "./dom.js";
import { drawPrompt } from "./drawing.js";
import { Pad } from "./pad.js";
import { ServiceChoice, songItems } from "./songlist.js";
import { starRating } from "./stars.js";

const TOKEN = "study-run";
const CAMERA_PLACE = "study-camera";

export class Study {
  #live;
  #model;
  #facts;
  #service;
  #recent = [];
  #shown = false;
  #begun = false; // whether the screen holds more than a failure

  constructor(live, model) {
    this.#live = live;
    this.#model = model;
    document.addEventListener("screen", ({ detail }) => this.#toggle(detail === "study"));
    byId("withdraw-no").addEventListener("click", () => byId("withdraw-dialog").close());
    byId("withdraw-yes").addEventListener("click", () => this.#withdraw());
    if (!byId("screen-study").hidden) this.#toggle(true);
  }

  get #token() {
    return sessionStorage.getItem(TOKEN);
  }

  async #toggle(shown) {
    if (shown === this.#shown) return;
    this.#shown = shown;
    if (!shown) {
      returnCamera();
      this.#live.resume();
    } else if (this.#begun) this.#borrowCamera(); // what was answered is still there
    else await this.#open();
  }

  /** The consent page, or where a run was left. */
  async #open() {
    try {
      this.#facts ??= await readStudy();
      this.#service ??= new ServiceChoice((await readMusic()).services);
      if (!this.#token) this.#showConsent();
      else await this.#goOn();
      this.#begun = true;
    } catch (error) {
      this.#fail(error);
    }
  }

  async #goOn() {
    const progress = await readRun(this.#token);
    if (progress.next === null) this.#showThanks(progress.expires);
    else this.#showPrompt(this.#facts.prompts[progress.next - 1]);
  }

  #fail(error) {
    if (error.status === 401) {
      sessionStorage.removeItem(TOKEN);
      this.#showConsent(text("study.lost"));
    } else {
      const again = button("study.retry", () => this.#open(), "primary");
      this.#replace(notice(text("study.unreachable", { message: error.message })), element("div", { class: "buttons" }, again));
    }
  }

  #showConsent(message = null) {
    const { statements } = this.#facts.consent;
    const { adult, ...paragraphs } = statements;
    const box = element("input", { type: "checkbox", id: "agree" });
    const problem = element("p", { class: "problem", role: "alert" });
    const begin = async () => {
      if (!box.checked) {
        problem.textContent = text("study.agree");
        box.focus();
        return;
      }
      try {
        const run = await beginRun(this.#facts.consent.version);
        sessionStorage.setItem(TOKEN, run.token);
        this.#showPrompt(this.#facts.prompts[0]);
      } catch (error) {
        problem.textContent = text("study.not_begun", { message: error.message });
      }
    };
    this.#replace(
      ...(message ? [notice(message)] : []),
      element(
        "div",
        { class: "card prose" },
        element("h2", {}, text("study.consent_title")),
        ...Object.values(paragraphs).map((paragraph) => element("p", {}, paragraph)),
        element("label", { class: "check" }, box, adult),
        problem,
        element("div", { class: "buttons" }, button("study.begin", begin, "primary")),
      ),
    );
  }

  /** First half of a prompt: what to show, and the camera. */
  #showPrompt(prompt) {
    const note = element("p", { class: "soft", role: "status" });
    const problem = element("p", { class: "problem", role: "alert" });
    const take = button("study.take", () => this.#take(prompt, note, problem), "primary");
    this.#replace(
      this.#head(prompt),
      element(
        "div",
        { class: "study-grid" },
        element(
          "div",
          { class: "card" },
          element("h2", { tabindex: "-1" }, `${text("study.step_show")}: ${prompt.title}`),
          drawPrompt(prompt.id, text("study.picture", { title: prompt.title.toLowerCase() })),
          element("p", { class: "hint" }, prompt.hint),
          element("div", { class: "buttons" }, take),
          note,
          problem,
        ),
        element("div", { id: CAMERA_PLACE }),
      ),
    );
    if (this.#shown) this.#borrowCamera();
    this.#live.readAnew(); // what the last prompt's face gave is not this one's
    const update = () => {
      take.setAttribute("aria-disabled", !this.#live.latest); // it keeps the keyboard's place while a face is lost
      if (this.#live.latest) note.textContent = "";
      else if (!this.#live.running) note.textContent = text("study.camera_needed");
    };
    update();
    for (const kind of ["frame", "photo", "camera"]) {
      const listen = () => (take.isConnected ? update() : this.#live.removeEventListener(kind, listen));
      this.#live.addEventListener(kind, listen);
    }
  }

  async #take(prompt, note, problem) {
    problem.textContent = "";
    if (!this.#live.latest) {
      note.textContent = text(this.#live.running ? "study.face_needed" : "study.camera_needed");
      return;
    }
    const affect = affectNumbers(this.#live.latest);
    this.#live.pause();
    try {
      const { songs } = await suggestSongs({ affect, recent: this.#recent });
      this.#recent = [...songs.map((song) => song.id), ...this.#recent].slice(0, 50);
      this.#showQuestions(prompt, affect, songs);
    } catch (error) {
      this.#live.resume();
      problem.textContent = text("songs.failed", { message: error.message });
    }
  }

  /** Second half: songs, stars, and how it felt. */
  #showQuestions(prompt, affect, songs) {
    const asked = prompt.number !== this.#facts.neutral_prompt;
    const answer = { rating: 0 };
    const problem = element("p", { class: "problem", role: "alert" });
    const stars = starRating(text("study.rating"), (count) => {
      answer.rating = count;
      problem.textContent = "";
    });
    stars.classList.add("large");
    const pad = asked ? new Pad(() => (problem.textContent = "")) : null;
    const save = button("study.save", () => this.#save(prompt, affect, answer, pad, problem), "primary");
    const reading = text("study.taken", { expression: nameExpression(affect, this.#model).toLowerCase() });
    this.#replace(
      this.#head(prompt),
      element(
        "div",
        { class: "study-grid" },
        element(
          "div",
          { class: "card" },
          element("h2", { tabindex: "-1" }, text("study.step_songs")),
          element("p", { class: "soft" }, reading),
          element("ol", { class: "songs narrow" }, ...songItems(songs, this.#service)),
          element("h3", {}, text("study.rating")),
          stars,
        ),
        element(
          "div",
          { class: "card" },
          element("h2", {}, text("study.step_annotate")),
          element("p", { class: "soft" }, text(asked ? "study.pad_hint" : "study.neutral_note")),
          ...(pad ? [pad.element] : []),
          problem,
          element("div", { class: "buttons" }, save, button("study.again", () => this.#showPrompt(prompt))),
        ),
      ),
    );
  }

  async #save(prompt, affect, answer, pad, problem) {
    if (!answer.rating) {
      problem.textContent = text("study.rating_required");
      return;
    }
    if (pad && !pad.value) {
      problem.textContent = text("study.pad_required");
      return;
    }
    const { valence, arousal } = pad?.value ?? { valence: 0, arousal: 0 };
    const row = { prompt: prompt.number, affect, rating: answer.rating, annotated_valence: valence, annotated_arousal: arousal };
    try {
      await saveRow(this.#token, row);
      await this.#goOn();
    } catch (error) {
      if (error.status === 401) this.#fail(error);
      else problem.textContent = text("study.failed", { message: error.message });
    }
  }

  #showThanks(expires) {
    const total = this.#facts.prompts.length;
    this.#replace(
      element(
        "div",
        { class: "card prose" },
        element("h2", { tabindex: "-1" }, text("study.done_title")),
        element("p", {}, text("study.done", { total, date: new Date(expires).toLocaleDateString(document.documentElement.lang) })),
        element("div", { class: "buttons" }, this.#withdrawButton()),
      ),
    );
  }

  async #withdraw() {
    byId("withdraw-dialog").close();
    try {
      const { deleted } = await withdrawRun(this.#token);
      sessionStorage.removeItem(TOKEN);
      this.#showConsent(text("study.withdrawn", { count: deleted }));
    } catch (error) {
      this.#fail(error);
    }
  }

  #head(prompt) {
    const total = this.#facts.prompts.length;
    const line = text("study.progress", { number: prompt.number, total });
    return element(
      "div",
      { class: "row study-head" },
      element("span", {}, line),
      element("progress", { max: total, value: prompt.number - 1, "aria-label": line }),
      this.#withdrawButton(),
    );
  }

  #withdrawButton() {
    return button("study.withdraw", () => byId("withdraw-dialog").showModal());
  }

  /** The one camera picture, while a prompt needs it here. */
  #borrowCamera() {
    byId(CAMERA_PLACE)?.append(byId("camera-card"));
  }

  /** Shows other content, and moves the keyboard's and the screen reader's place to its heading. */
  #replace(...content) {
    returnCamera();
    byId("study").replaceChildren(...content);
    if (this.#shown) byId("study").querySelector("h2[tabindex]")?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

/** The camera picture goes back to the live screen. */
function returnCamera() {
  document.querySelector(".live").prepend(byId("camera-card"));
}

const notice = (message) => element("p", { class: "notice", role: "alert" }, message);

/** A button that takes no second press while its first is worked on. */
function button(key, action, kind = null) {
  let busy = false;
  const onclick = async () => {
    if (busy) return;
    busy = true;
    try {
      await action();
    } finally {
      busy = false;
    }
  };
  return element("button", { type: "button", class: kind, onclick }, text(key));
}

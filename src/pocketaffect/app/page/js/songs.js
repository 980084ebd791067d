// Songs on the live screen: fetched on demand, and when affect has changed and stayed so for a while.

import { affectNumbers, readMusic, suggestSongs } from "./api.js";
import { nameExpression } from "./affect.js";
import { byId, element, signed, text } from "./dom.js";
import { Ratings } from "./ratings.js";
import { ServiceChoice, songItems } from "./songlist.js";
import { starRating } from "./stars.js";

const FIRST_AFTER = 1.5; // seconds of reading before the first songs
const STAYS_FOR = 4; // seconds that a change must last
const LEAST_GAP = 12; // seconds between fetches by itself
const CHANGE = 0.35; // distance in the valence-arousal plane
const SURE = 0.4; // probability from which another likeliest expression counts as a change
const REMEMBERED = 60; // songs that do not come again soon

export class Songs {
  #facts;
  #ratings = new Ratings();
  #service;
  #opening = null; // a promise of the services, while and once they are known
  #affect = null;
  #fetched = null; // affect and time of the last fetch
  #since = null; // when the present change began
  #recent = [];
  #songs = [];
  #busy = false;
  #foreign = false; // songs of a service, from whose stars nothing can be learned here

  constructor(live, facts) {
    this.#facts = facts;
    live.addEventListener("affect", ({ detail }) => {
      if (!byId("screen-live").hidden) this.#follow(detail);
    });
    live.addEventListener("photo", ({ detail }) => {
      if (byId("screen-live").hidden) return;
      this.#affect = detail.affect;
      this.#fetch(detail.seconds);
    });
    byId("refresh").addEventListener("click", () => this.refresh());
    this.#open().catch(() => {}); // told of when songs are wanted, and tried again
  }

  refresh() {
    if (this.#affect) this.#fetch(performance.now() / 1000);
  }

  #open() {
    this.#opening ??= this.#addOptions().catch((error) => {
      this.#opening = null;
      throw error;
    });
    return this.#opening;
  }

  async #addOptions() {
    const { services, tracks } = await readMusic();
    if (tracks === null) this.#useForeignSongs();
    this.#service = new ServiceChoice(services);
    const select = byId("service");
    for (const [key, name] of Object.entries(services)) {
      select.append(element("option", { value: key, selected: key === this.#service.key }, name));
    }
    select.addEventListener("change", () => {
      this.#service.choose(select.value);
      this.#render();
    });
    const learn = byId("learn");
    learn.value = this.#ratings.mode;
    learn.addEventListener("change", () => {
      this.#ratings.mode = learn.value;
      this.#render();
    });
    byId("forget").addEventListener("click", async () => {
      try {
        await this.#ratings.forget();
        this.#say("songs.forgotten");
      } catch (error) {
        this.#say("songs.failed", { message: error.message });
      }
    });
  }

  #useForeignSongs() {
    this.#foreign = true;
    for (const part of [byId("learn").closest("label"), byId("forget"), byId("learn-hint")]) part.hidden = true;
    byId("songs-adapted").textContent = text("songs.foreign");
  }

  #follow({ affect, seconds }) {
    this.#affect = affect;
    const changed = !this.#fetched || differ(affect, this.#fetched.affect);
    if (!changed) {
      this.#since = null;
      return;
    }
    this.#since ??= seconds;
    const lasted = seconds - this.#since >= (this.#fetched ? STAYS_FOR : FIRST_AFTER);
    const due = !this.#fetched || seconds - this.#fetched.seconds >= LEAST_GAP;
    if (lasted && due) this.#fetch(seconds);
  }

  async #fetch(seconds) {
    if (this.#busy) return;
    this.#busy = true;
    this.#since = null;
    const wanted = this.#affect;
    this.#fetched = { affect: { ...wanted, probabilities: [...wanted.probabilities] }, seconds };
    try {
      await this.#open();
      const wish = { affect: affectNumbers(wanted), recent: this.#recent, ...this.#ratings.wish() };
      const { songs } = await suggestSongs(wish);
      this.#songs = songs;
      this.#recent = [...songs.map((song) => song.id), ...this.#recent].slice(0, REMEMBERED);
      this.#say("songs.for", {
        expression: nameExpression(wanted, this.#facts).toLowerCase(),
        valence: signed(wanted.valence),
        arousal: signed(wanted.arousal),
      });
      if (!this.#foreign) byId("songs-adapted").textContent = songs.some((song) => song.adapted) ? text("songs.adapted") : "";
      this.#render();
    } catch (error) {
      this.#say("songs.failed", { message: error.message });
    }
    byId("refresh").disabled = false;
    this.#busy = false;
  }

  #render() {
    const { affect } = this.#fetched ?? {};
    const stars = (song) => {
      if (this.#ratings.mode === "off" || this.#foreign) return [];
      const keep = (count) => this.#keep(affect, song, count);
      return [starRating(text("songs.rate", { title: song.title }), keep, this.#ratings.given(song.id))];
    };
    byId("songs").replaceChildren(...songItems(this.#songs, this.#service, stars));
  }

  async #keep(affect, song, count) {
    try {
      await this.#ratings.keep(affectNumbers(affect), song.id, count);
      this.#say("songs.rated", { count });
    } catch (error) {
      this.#say("songs.failed", { message: error.message });
    }
  }

  #say(key, values) {
    byId("songs-for").textContent = text(key, values);
  }
}

function differ(one, other) {
  const distance = Math.hypot(one.valence - other.valence, one.arousal - other.arousal);
  const likeliest = ({ probabilities }) => probabilities.indexOf(Math.max(...probabilities));
  const best = likeliest(one);
  return distance > CHANGE || (best !== likeliest(other) && one.probabilities[best] > SURE);
}

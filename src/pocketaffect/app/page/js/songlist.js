// Five songs as list items, each with why it was chosen and a link to the listener's music service.

import { element, text } from "./dom.js";

/** List items of songs; `extra` gives each song further elements. */
export function songItems(songs, service, extra = () => []) {
  return songs.map((song) =>
    element(
      "li",
      {},
      element(
        "a",
        {
          class: "song",
          href: song.links[service.key],
          target: "_blank",
          rel: "noopener noreferrer",
          "aria-label": text("songs.open", { service: service.name, title: song.title, artist: song.artist }),
        },
        element("span", { class: "title" }, song.title),
        element("span", { class: "artist" }, song.year ? `${song.artist}, ${song.year}` : song.artist),
      ),
      element("span", { class: "reason", title: song.estimated ? text("songs.estimated") : null }, song.reason),
      ...extra(song),
    ),
  );
}

/** The services that songs link to, the chosen one first known from this browser's memory. */
export class ServiceChoice {
  constructor(services) {
    this.services = services;
    const kept = localStorage.getItem("service");
    this.key = kept in services ? kept : Object.keys(services)[0];
  }

  get name() {
    return this.services[this.key];
  }

  choose(key) {
    this.key = key;
    localStorage.setItem("service", key);
  }
}

// One to five stars: five radio buttons, so that keyboard and screen readers know them.

import { element, text } from "./dom.js";

let groups = 0;

/** A fieldset of stars; `onchange` gets the number. */
export function starRating(legend, onchange, chosen = 0) {
  const name = `stars-${groups++}`;
  const choices = [1, 2, 3, 4, 5].map((count) =>
    element(
      "label",
      { class: "star" },
      element("input", {
        type: "radio",
        name,
        value: count,
        checked: count === chosen,
        "aria-label": text("songs.star", { count }),
        onchange: () => onchange(count),
      }),
      element("span", { "aria-hidden": "true" }, "★"),
    ),
  );
  return element("fieldset", { class: "stars" }, element("legend", { class: "hidden-text" }, legend), ...choices);
}

// Starts the page: texts, facts, networks, screens.

import { byId, loadTexts, text } from "./dom.js";
import { readModel } from "./api.js";
import { Live } from "./live.js";
import { Songs } from "./songs.js";
import { Study } from "./study.js";
import { Vision } from "./vision.js";

const SCREENS = ["live", "study", "about"];

function showScreen() {
  const wanted = location.hash.slice(1);
  if (wanted === "main") return; // the skip link
  const screen = SCREENS.includes(wanted) ? wanted : "live";
  for (const name of SCREENS) {
    byId(`screen-${name}`).hidden = name !== screen;
    const link = document.querySelector(`[data-screen=${name}]`);
    if (name === screen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.dispatchEvent(new CustomEvent("screen", { detail: screen }));
}

function addKeys(live, songs) {
  document.addEventListener("keydown", (event) => {
    const busy = event.target.closest("button, input, select, textarea, a, summary, dialog, label");
    if (busy || event.ctrlKey || event.metaKey || event.altKey || byId("screen-live").hidden) return;
    if (event.key === " ") {
      event.preventDefault();
      live.togglePause();
    } else if (event.key.toLowerCase() === "r") songs.refresh();
  });
}

async function keepOffline() {
  if (!("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register("/sw.js");
  } catch {
    // A private window, or a certificate that the browser does not trust: the page works without it.
  }
}

async function openVision() {
  const facts = await readModel();
  return { facts, vision: new Vision(facts) };
}

async function start() {
  const opening = openVision();
  opening.catch(() => {}); // told of below, once there are texts
  await loadTexts();
  addEventListener("hashchange", showScreen);
  showScreen();
  let failure = "live.not_begun";
  try {
    const { facts, vision } = await opening;
    byId("drawn").hidden = facts.trained_on !== "drawings";
    const live = new Live(vision, facts);
    const songs = new Songs(live, facts);
    new Study(live, facts);
    addKeys(live, songs);
    failure = "live.failed";
    await vision.open();
    document.documentElement.dataset.ready = "";
  } catch (error) {
    byId("status").textContent = text(failure, { message: error.message });
  }
  await keepOffline();
}

start();

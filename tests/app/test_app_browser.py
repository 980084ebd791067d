"""The page in a real headless Chromium, whose camera plays drawn clips of a public-domain photograph."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from app_parts import make_twin, open_services, serving
from axe_playwright_python.sync_playwright import Axe
from browser_parts import READY, SCRIPT_ERRORS, TIMEOUT, browsing, open_page, portrait, write_clip
from PIL import Image
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright
from skimage import data

from pocketaffect.app.music.catalogue import Catalogue, Track
from pocketaffect.app.server.api import Services
from pocketaffect.data.faces.crop import FaceBox, crop_face
from pocketaffect.labels import EXPRESSIONS

pytestmark = pytest.mark.slow
expect.set_options(timeout=TIMEOUT)

HOSTILE = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, twin: bytes, runtime: Path) -> Iterator[tuple[str, Services]]:
    tracks = [
        Track(f"t{number}", HOSTILE, f"Artist {number}", ("jazz",), number / 12, 0.5, 1, 1990, estimated=True)
        for number in range(12)
    ]
    folder = tmp_path_factory.mktemp("stores")
    with open_services(folder, twin, Catalogue(tracks)) as services, serving(services, runtime) as address:
        yield address, services


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, playwright: Playwright) -> Iterator[Browser]:
    clip = write_clip(tmp_path_factory.mktemp("clip") / "face.y4m", [portrait(shift) for shift in range(-8, 9, 2)])
    with browsing(playwright, clip) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(app: tuple[str, Services], browser: Browser) -> Iterator[Page]:
    """The live screen, its networks loaded, for tests that need no page of their own."""
    opened = open_page(browser, app[0])
    yield opened
    opened.context.close()


@pytest.fixture(autouse=True)
def _no_script_errors() -> Iterator[None]:
    SCRIPT_ERRORS.clear()
    yield
    assert not SCRIPT_ERRORS


def upload(page: Page, picture: np.ndarray) -> dict[str, Any]:
    """Chooses a picture as a photo and waits for what the page read."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    page.evaluate("document.addEventListener('reading', ({ detail }) => (window.lastReading = detail), { once: true })")
    page.set_input_files("#photo-input", {"name": "photo.png", "mimeType": "image/png", "buffer": file.getvalue()})
    expect(page.locator("#status")).to_have_text("This is what your photo shows.")
    result: dict[str, Any] = page.evaluate("window.lastReading")
    return result


def test_the_camera_is_read_and_no_picture_leaves_the_page(app: tuple[str, Services], browser: Browser) -> None:
    address, _ = app
    context = browser.new_context()
    requests: list[tuple[str, str, str]] = []
    context.on("request", lambda each: requests.append((each.method, each.url, each.post_data or "")))
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    page.on("pageerror", lambda error: SCRIPT_ERRORS.append(str(error)))
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.goto(address)
    page.click("#start")
    expect(page.locator("#songs li")).to_have_count(5)
    expect(page.locator("#status")).to_have_text("Reading your face.")
    expect(page.locator("#speed")).to_contain_text("pictures a second")
    shares = [int(text.split()[0]) for text in page.locator("#bars .number").all_inner_texts()]
    assert 97 <= sum(shares) <= 103
    page.click("#pause")
    expect(page.locator("#status")).to_contain_text("Paused.")
    page.click("#pause")
    expect(page.locator("#status")).to_have_text("Reading your face.")
    page.click("#refresh")
    page.click("summary")
    check_accessibility(page)
    page.check("#songs li:first-child input[value='5']", force=True)
    page.click("text=Stop camera")
    assert page.evaluate("document.querySelector('video').srcObject === null")
    assert {url.split("/")[2] for _, url, _ in requests} == {address.split("/")[2]}
    assert not sockets
    sent = [(method, url, body) for method, url, body in requests if method != "GET"]
    assert sent
    assert all(method == "POST" and url == f"{address}/api/songs" for method, url, _ in sent)
    for _, _, body in sent:
        wish = json.loads(body)
        assert set(wish) <= {"affect", "recent", "ratings"}
        assert set(wish["affect"]) == {"probabilities", "valence", "arousal"}
        assert len(body) < 2000
    context.close()


def test_the_browser_reads_what_python_reads(app: tuple[str, Services], page: Page, twin: bytes) -> None:
    _, services = app
    session = onnxruntime.InferenceSession(twin)
    for picture in (portrait(), cv2.resize(portrait(20), (640, 480)), portrait()[:, ::-1].copy()):
        reading = upload(page, picture)
        face = reading["faces"][0]
        box = FaceBox(face["x"], face["y"], face["width"], face["height"])
        model = services.model
        crop = crop_face(picture, box, margin=model.metadata.crop_margin, size=model.metadata.input_size)
        feed = {"image": crop.transpose(2, 0, 1)[None].astype(np.float32)}
        probabilities, affect = session.run(["probabilities", "valence_arousal"], feed)
        np.testing.assert_allclose(reading["probabilities"], probabilities[0], atol=2e-3)
        expect(page.locator("#bars .best .name")).to_have_text(page.locator("#verdict").inner_text())
        np.testing.assert_allclose([reading["valence"], reading["arousal"]], affect[0], atol=2e-3)


def test_a_face_that_fills_its_picture_is_found_by_the_second_look(page: Page) -> None:
    tight = cv2.resize(np.ascontiguousarray(data.astronaut()[90:160, 195:258]), None, fx=4, fy=4)
    (face,) = upload(page, tight)["faces"]
    assert abs(face["x"] + face["width"] / 2 - 126) < 40
    assert abs(face["y"] + face["height"] / 2 - 140) < 60


def test_what_a_catalogue_says_is_shown_as_text(page: Page) -> None:
    upload(page, portrait())
    expect(page.locator("#songs .title")).to_have_text([HOSTILE] * 5)
    assert page.locator("#songs img").count() == 0
    assert page.title() == "pocketaffect"


def test_an_unsure_answer_is_called_so_and_a_neutral_face_is_compared_with_and_forgotten(
    browser: Browser, tmp_path: Path, runtime: Path, curated: Catalogue
) -> None:
    with (
        open_services(tmp_path, make_twin(unsure_below="0.9"), curated) as services,
        serving(services, runtime) as address,
    ):
        page = open_page(browser, address)
        sent: list[str] = []
        page.on("request", lambda each: sent.append(each.post_data or ""))
        before = upload(page, portrait())
        likeliest = page.evaluate("fetch('/texts/en.json').then((texts) => texts.json())")["expressions"][
            EXPRESSIONS[int(np.argmax(before["probabilities"]))]
        ]
        expect(page.locator("#verdict")).to_have_text(f"Unsure, perhaps {likeliest.lower()}")
        expect(page.locator("#songs-for")).to_contain_text("(unsure, perhaps")
        assert page.locator("#bars .best").count() == 0
        shown = page.locator("#plane-value").inner_text()
        page.click("#neutral-take")
        expect(page.locator("#plane-value")).to_have_text("Valence +0.00, arousal +0.00")
        expect(page.locator("#verdict")).to_have_text("Unsure, perhaps neutral")
        check_accessibility(page)
        page.reload()  # it is kept, and another face is another affect beside it
        page.wait_for_selector(READY, state="attached")
        expect(page.locator("#neutral-status")).to_contain_text("Compared with your neutral face")
        other = upload(page, portrait()[:, ::-1].copy())
        kept = json.loads(page.evaluate("localStorage.getItem('neutral-face')"))
        assert kept["probabilities"] == pytest.approx(before["probabilities"])
        difference = np.clip(other["valence"] - before["valence"], -1, 1)
        expect(page.locator("#plane-value")).to_contain_text(f"{abs(difference):.2f}, arousal")
        page.click("#neutral-forget")
        assert page.evaluate("localStorage.getItem('neutral-face')") is None
        expect(page.locator("#neutral-forget")).to_be_hidden()
        upload(page, portrait())
        expect(page.locator("#plane-value")).to_have_text(shown)
        assert not any("neutral-face" in body or services.model.digest in body for body in sent)
        page.context.close()


FOLLOWED = """async (labels) => {
  const { Songs } = await import("/js/songs.js");
  const fetched = [];
  let clock = 0;
  let answer = null;
  const send = window.fetch;
  window.fetch = (path, options) => {
    if (path === "/api/songs") fetched.push(clock);
    return (answer = send(path, options));
  };
  const live = new EventTarget();
  new Songs(live, { labels });
  const show = (happy) => {
    const probabilities = labels.map((_, place) => (place === happy ? 0.65 : 0.05));
    const affect = { probabilities, valence: happy ? 0.6 : -0.6, arousal: 0.1 };
    live.dispatchEvent(new CustomEvent("affect", { detail: { affect, seconds: clock } }));
  };
  for (; clock < 60; clock += 0.1) {
    await answer;
    await new Promise((resolve) => setTimeout(resolve));
    show(Number((clock > 20 && clock < 22) || clock > 30));
  }
  window.fetch = send;
  return fetched;
}"""
"""A minute of readings, ten a second: one face, another for two seconds, then another for good."""


def test_songs_come_anew_when_affect_has_changed_for_a_while(page: Page) -> None:
    first, second = page.evaluate(FOLLOWED, EXPRESSIONS)
    assert 1.4 < first < 10
    assert 33.9 < second < 36


UNREACHED = """async (labels) => {
  const { Songs } = await import("/js/songs.js");
  const send = window.fetch;
  const away = () => Promise.reject(new TypeError("no network"));
  window.fetch = (path, options) => (path === "/api/music" ? away() : send(path, options));
  const live = new EventTarget();
  new Songs(live, { labels });
  const shown = new Promise((resolve) => {
    const line = document.getElementById("songs-for");
    line.textContent = "";
    new MutationObserver(() => resolve(line.textContent)).observe(line, { childList: true });
  });
  const affect = { probabilities: labels.map(() => 0.125), valence: 0, arousal: 0 };
  live.dispatchEvent(new CustomEvent("photo", { detail: { affect, seconds: 0 } }));
  const said = await shown;
  window.fetch = send;
  document.getElementById("songs").replaceChildren();
  live.dispatchEvent(new CustomEvent("photo", { detail: { affect, seconds: 1 } }));
  return said;
}"""


def test_a_server_that_was_away_at_the_start_is_told_of_and_asked_again(page: Page) -> None:
    assert "the server does not answer" in page.evaluate(UNREACHED, EXPRESSIONS)
    expect(page.locator("#songs li")).to_have_count(5)


SLOW_CAMERA = """async () => {
  const { Camera } = await import("/js/camera.js");
  const ask = navigator.mediaDevices.getUserMedia;
  const asked = [];
  navigator.mediaDevices.getUserMedia = (wanted) => {
    asked.push(wanted);
    if (asked.length > 1) return ask.call(navigator.mediaDevices, wanted);
    return Promise.reject(new DOMException("Timeout starting video source", "AbortError"));
  };
  const camera = new Camera(document.createElement("video"));
  await camera.start();
  const { running } = camera;
  camera.stop();
  navigator.mediaDevices.getUserMedia = ask;
  return [running, asked.length];
}"""


def test_a_camera_that_did_not_start_in_time_is_asked_once_more(page: Page) -> None:
    assert page.evaluate(SLOW_CAMERA) == [True, 2]


def test_networks_that_broke_down_are_loaded_again(page: Page) -> None:
    worker = page.workers[0]
    with worker.expect_event("close"):  # after the call's own answer, which would be lost with the worker
        worker.evaluate("void setTimeout(() => self.postMessage({ kind: 'failure', message: 'out of memory' }))")
    assert upload(page, portrait())["faces"]


def test_a_study_is_done_by_keyboard_alone_and_withdrawn(app: tuple[str, Services], browser: Browser) -> None:
    address, services = app
    page = open_page(browser, f"{address}/#study")
    begun: list[str] = []
    page.on("request", lambda each: begun.append(each.url) if each.url.endswith("/study/runs") else None)
    page.focus("#agree")
    check_accessibility(page)
    page.keyboard.press("Space")
    press(page, "Begin")
    page.keyboard.press("Enter")  # an impatient second press begins no second run
    press(page, "Start camera")
    for number in range(1, 4):
        expect(page.locator(".study-head")).to_contain_text(f"Prompt {number} of 10")
        if number == 2:
            check_accessibility(page)
        press(page, "Take the picture")
        expect(page.locator(".stars.large")).to_be_visible()
        if number == 2:
            check_accessibility(page)
        press(page, "Save and go on")
        expect(page.locator(".problem")).to_have_text("Please choose 1 to 5 stars.")
        page.focus(".stars.large input >> nth=0")
        page.keyboard.press("Space")
        page.keyboard.press("ArrowRight")
        if number > 1:
            page.focus("input[name=valence]")
            page.keyboard.press("ArrowRight")
            page.focus("input[name=arousal]")
            page.keyboard.press("ArrowLeft")
        press(page, "Save and go on")
    expect(page.locator(".study-head")).to_contain_text("Prompt 4 of 10")
    rows = services.study.rows()
    assert [(values[1], *values[-3:]) for values in rows] == [(1, 2, 0, 0), (2, 2, 0.05, -0.05), (3, 2, 0.05, -0.05)]
    assert len(begun) == 1
    page.reload()  # the run goes on where it was
    expect(page.locator(".study-head")).to_contain_text("Prompt 4 of 10")
    press(page, "Withdraw")
    press(page, "Delete my rows")
    expect(page.locator("#study")).to_contain_text("3 rows were deleted")
    assert services.study.rows() == []
    page.context.close()


def check_accessibility(page: Page) -> None:
    """Holds what is shown to the rules of axe-core: WCAG 2.2 A and AA, and its best practices."""
    found = Axe().run(page).response["violations"]
    assert not found, [(each["id"], each["help"], [node["target"] for node in each["nodes"]]) for each in found]


def press(page: Page, name: str) -> None:
    button = page.locator(f"button:text-is('{name}')")
    expect(button).to_be_visible()  # one that is not yet shown takes no focus, and the key would go to another
    expect(button).to_be_enabled()
    button.focus()
    expect(button).to_be_focused()
    page.keyboard.press("Enter")


def test_faces_that_come_and_go_are_told_of(app: tuple[str, Services], playwright: Playwright, tmp_path: Path) -> None:
    empty = np.full((240, 320, 3), 120, np.uint8)
    with browsing(playwright, write_clip(tmp_path / "clip.y4m", [portrait(faces=2)] * 40 + [empty] * 40)) as browser:
        page = open_page(browser, app[0])
        page.click("#start")
        expect(page.locator("#status")).to_contain_text("2 faces: the largest is read")
        expect(page.locator("#status")).to_contain_text("No face found")
        expect(page.locator("#plane-value")).to_have_text("No face yet")


def test_a_camera_that_is_missing_or_denied_gets_help(
    app: tuple[str, Services], playwright: Playwright, tmp_path: Path
) -> None:
    with browsing(playwright, None) as browser:
        page = open_page(browser, app[0], ready=False)
        page.click("#start")
        expect(page.locator("#help")).to_contain_text("No camera was found")
    clip = write_clip(tmp_path / "face.y4m", [portrait()])
    with browsing(playwright, clip, allow=False) as browser:
        page = open_page(browser, app[0], ready=False)
        page.click("#start")
        expect(page.locator("#help")).to_contain_text("told not to let this page use the camera")


def test_the_page_opens_again_without_a_network(app: tuple[str, Services], browser: Browser) -> None:
    page = open_page(browser, app[0])
    page.evaluate("navigator.serviceWorker.ready.then(() => null)")
    installable = page.context.new_cdp_session(page).send("Page.getInstallabilityErrors")
    assert {each["errorId"] for each in installable["installabilityErrors"]} <= {"in-incognito"}
    page.context.set_offline(True)
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached")
    assert upload(page, portrait())["faces"]
    page.context.close()

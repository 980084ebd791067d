"""What holds the Swift of the kit to the Python here: songs.json, and golden.json with questions and their answers."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import numpy as np

from pocketaffect.app.affect import Affect
from pocketaffect.app.music.catalogue import GENRES, Catalogue
from pocketaffect.app.music.recommend import MAPPING, PRIOR_MEAN, Features, Recommender
from pocketaffect.data.faces.crop import FaceBox, crop_face, place_square
from pocketaffect.data.faces.images import RGB
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.predict.models import AffectModel
from pocketaffect.predict.tracks import FaceTracker, Smoother

DECIMALS: Final = 9
"""That floats are written with: more than the 1e-6 they are held to, less than two processors' exp() differ in."""

LEAST_NEUTRAL: Final = 2.0
"""`LEAST` of the page's baseline.js."""

_BOXES: Final = (
    *((FaceBox(30.25, 20.5, 40, 50.5), 0.15), (FaceBox(10.5, 10.5, 33, 9), 0.0), (FaceBox(10.5, 10.5, 32, 9), 0.0)),
    *((FaceBox(-12.5, -7.25, 30, 28), 0.15), (FaceBox(95, 70, 60, 44), 0.5), (FaceBox(1, 1, 0.5, 0.25), 0.15)),
    *((FaceBox(-40, 10, 20, 20), 0.1), (FaceBox(119.9, 89.9, 4, 4), 0.0), (FaceBox(2.5, 3.5, 1, 1), 1.0)),
)
_CROPS: Final = (  # leaves at the upper left; at the lower right, by a whole factor; is enlarged; is left in size
    *((FaceBox(-12.5, -7.25, 60, 50), 0.15, 28), (FaceBox(70, 50, 72, 64), 0.0, 24)),
    *((FaceBox(60, 70, 14, 15), 0.2, 32), (FaceBox(20, 30, 20, 20), 0.0, 20)),
)
_AFFECTS: Final = tuple(
    Affect(tuple(share / 100 for share in shares), valence, arousal)
    for shares, valence, arousal in (
        ((62, 8, 9, 5, 4, 3, 6, 3), -0.012, 0.003),
        ((3, 85, 1, 6, 2, 1, 1, 1), 0.778, 0.099),
        ((14, 2, 61, 3, 9, 4, 5, 2), -0.622, -0.239),
        ((5, 4, 6, 3, 11, 21, 46, 4), -0.447, 0.76),
        ((21, 13, 17, 12, 8, 9, 11, 9), -1.04, 1.02),
    )
)


def render_songs() -> str:
    """Writes the curated catalogue and the paper's mapping as JSON, a line for each song."""
    columns = ("id", "title", "artist", "year", "genres", "valence", "energy", "mode")
    songs = [{name: getattr(track, name) for name in columns} for track in Catalogue.load().tracks]
    lines = ",\n".join(json.dumps(song, ensure_ascii=False, separators=(",", ":")) for song in songs)
    head = json.dumps({"genres": GENRES, "mapping": MAPPING})
    return f'{head[:-1]}, "songs": [\n{lines}\n]}}\n'


def render_golden(model: AffectModel) -> str:
    """Writes the golden vectors as JSON: only what stands under "model" depends on the model."""
    golden = {
        "boxes": [_ask_square(box, margin) for box, margin in _BOXES],
        "crops": [_ask_crop(*each) for each in _CROPS],
        "turns": [_ask_turn(orientation) for orientation in range(1, 9)],
        "answers": [_ask_answer(affect, place) for place, affect in enumerate(_AFFECTS)],
        "neutral": [
            {"neutral": _flat(face), "affect": _flat(affect), "compared": _flat(compare_with_neutral(face, affect))}
            for face in _AFFECTS[::2]
            for affect in _AFFECTS
        ],
        "films": [_ask_film(time_constant) for time_constant in (0.0, 0.5)],
        "songs": _ask_songs(Catalogue.load()),
        "model": _ask_model(model),
    }
    return json.dumps(_rounded(golden), separators=(",", ":"), sort_keys=True) + "\n"


def draw_picture(width: int, height: int) -> RGB:
    """Draws the picture that every language draws by itself, uint8 [height, width, 3]."""
    y, x, channel = np.indices((height, width, 3))
    return np.asarray((3 * x + 5 * y + 60 * channel + x * y // 8) % 256, np.uint8)


def compare_with_neutral(neutral: Affect, affect: Affect) -> Affect:
    """Compares an affect with that of the neutral face, as the page's baseline.js."""
    most = neutral.probabilities[0] / LEAST_NEUTRAL
    pairs = zip(neutral.probabilities, affect.probabilities, strict=True)
    weighed = [
        now if place == 0 or before <= most else now * most / before for place, (before, now) in enumerate(pairs)
    ]
    shares = tuple(value / sum(weighed) for value in weighed)
    return Affect(shares, affect.valence - neutral.valence, affect.arousal - neutral.arousal)


def _ask_square(box: FaceBox, margin: float, width: int = 120, height: int = 90) -> dict[str, Any]:
    try:
        placed = place_square(width, height, box, None, margin=margin, align="none")
        square = [int(placed.x - placed.side / 2), int(placed.y - placed.side / 2), int(placed.side)]
    except ValueError:
        square = None
    # What Vision would say of the same box: shares of the sides, from the lower left.
    vision = [box.x / width, 1 - (box.y + box.height) / height, box.width / width, box.height / height]
    return {"box": _list(box), "vision": vision, "margin": margin, "image": [width, height], "square": square}


def _ask_crop(box: FaceBox, margin: float, size: int) -> dict[str, Any]:
    crop = crop_face(draw_picture(120, 90), box, margin=margin, size=size)
    return _ask_square(box, margin) | {"size": size, "pixels": base64.b64encode(crop.tobytes()).decode()}


def _ask_turn(orientation: int) -> dict[str, Any]:
    """Asks for the whole of a small picture that is stored in one of EXIF's ways: what Pillow makes of it."""
    from PIL import Image, ImageOps

    stored = Image.fromarray(draw_picture(7, 4))
    stored.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(stored))
    crop = crop_face(upright, FaceBox(0, 0, *upright.shape[1::-1]), margin=0, size=7)
    return {"orientation": orientation, "image": [7, 4], "pixels": base64.b64encode(crop.tobytes()).decode()}


def _ask_answer(affect: Affect, place: int) -> dict[str, Any]:
    """Gives a network's outputs in an order of their own, which its metadata name."""
    order = [*range(place, len(EXPRESSIONS)), *range(place)]
    labels = ",".join(EXPRESSIONS[index] for index in order)
    metadata = {"labels": labels, "valence_arousal_order": "arousal,valence", "unsure_below": "0.46"}
    return {
        "metadata": metadata | {"input_size": "48", "crop_margin": "0.15"},
        "probabilities": [affect.probabilities[index] for index in order],
        "valence_arousal": [affect.arousal, affect.valence],
        "affect": _flat(affect),
        "expression": EXPRESSIONS[affect.expression],
        "unsure": max(affect.probabilities) < float(metadata["unsure_below"]),
    }


def _ask_film(time_constant: float) -> dict[str, Any]:
    """Asks for tracks and smoothed affects: two faces cross, one blinks, and one comes back too late."""
    tracker, smoother, frames = FaceTracker(), Smoother(time_constant), []
    for number in range(12):
        seconds = number * 0.125 + (1.5 if number >= 9 else 0)
        boxes = [FaceBox(10 + 6 * number, 20, 40, 44), FaceBox(90 - 6 * number, 24 + number, 38, 40)]
        boxes = boxes[: 1 if number in (3, 4) else 2][:: -1 if number % 3 else 1]
        affects = [_flat(_AFFECTS[(number + place) % len(_AFFECTS)]) for place in range(len(boxes))]
        frame = {"seconds": seconds, "boxes": [*map(_list, boxes)], "affects": affects}
        tracks = frame["tracks"] = tracker.follow(boxes, seconds)
        seen = zip(tracks, affects, strict=True)
        frame["smoothed"] = [smoother.smooth(track, np.array(values), seconds).tolist() for track, values in seen]
        frames.append(frame)
    return {"time_constant": time_constant, "frames": frames}


def _ask_songs(catalogue: Catalogue) -> list[dict[str, Any]]:
    recommender, features, recent, asked = Recommender(catalogue), Features(catalogue.tracks), list[str](), []
    for affect in (*_AFFECTS, _AFFECTS[0]):
        songs = [song.id for song in recommender.recommend(affect, recent=recent, variety=0)]
        scores = features.weigh(affect, PRIOR_MEAN)
        known = [float(scores[catalogue.position(song) or 0]) for song in songs]
        asked.append({"affect": _flat(affect), "recent": recent, "songs": songs, "scores": known})
        recent = [*recent, *songs]
    return asked


def _ask_model(model: AffectModel) -> dict[str, Any]:
    """Gives the model's own answer to a picture; three decimals are the same on every processor, and enough."""
    answers = model.predict(draw_picture(model.size, model.size)[np.newaxis])
    affect = [*answers.probabilities[0].tolist(), *answers.valence_arousal[0].tolist()]
    facts = {"size": model.size, "margin": model.margin, "unsure_below": model.unsure_below}
    return facts | {"affect": [round(value, 3) for value in affect]}


def _list(box: FaceBox) -> list[float]:
    return [box.x, box.y, box.width, box.height]


def _flat(affect: Affect) -> list[float]:
    return [*affect.probabilities, affect.valence, affect.arousal]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
